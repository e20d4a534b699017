#!/bin/sh
# Gates a folder of cases and gives those that pass, and no others, to a segmenter.
#
#   gate_folder.sh CASES PASSED QA [options of anomap gate]
#   nnUNetv2_predict -i PASSED -o SEGMENTED ...
#   for case in PASSED/*; do TotalSegmentator -i "$case" -o "SEGMENTED/$(basename "$case")"; done
#
# A case is a NIfTI file (nnU-Net: case_0000.nii.gz), a zip, or a folder of DICOM files. PASSED must be empty or missing: what
# lies there has passed now, not once. QA gets a folder of results for each case. ANOMAP names another command than anomap.
#
# Exit status: 0 every case was decided (see QA for review and reject), 1 one could not be, 2 wrong usage.
set -u

[ $# -ge 3 ] && [ -d "$1" ] || { echo "usage: gate_folder.sh CASES PASSED QA [options of anomap gate]" >&2; exit 2; }
cases=$1 passed=$2 qa=$3
shift 3
mkdir -p "$passed" "$qa" || exit 2
[ -z "$(ls -A "$passed")" ] || { echo "$passed is not empty" >&2; exit 2; }

# A copy has its name only when it is whole.
release() {
  cp -RL -- "$1" "$passed/.unfinished" && mv -- "$passed/.unfinished" "$passed/$(basename "$1")"
}

failed=0 count=0
for case in "$cases"/*; do
  [ -e "$case" ] || continue
  name=$(basename "$case")
  count=$((count + 1))
  ${ANOMAP:-anomap} gate "$case" --out "$qa/$name" "$@" >"$qa/$name.log" 2>&1
  status=$?
  case $status in
    0) release "$case" || { rm -rf "$passed/.unfinished"; status="not copied"; failed=1; } ;;
    10 | 20) ;;
    *) failed=1 ;;
  esac
  echo "$name: $status"
done
[ $count -gt 0 ] || { echo "$cases holds no cases" >&2; exit 2; }
exit $failed
