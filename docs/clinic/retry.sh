#!/bin/sh
# Has Orthanc try again what it could not send to anomap. For Orthanc before 1.11.1, which has no heart beat: run it
# every few minutes by cron or a systemd timer. Needs curl and jq.
#
#   retry.sh http://localhost:8042 [PASSWORDS]      PASSWORDS: a netrc file, only if Orthanc asks for a login
set -eu
url=$1
passwords=${2:-/dev/null}
since=$(date -u -d '7 days ago' +%Y%m%dT%H%M%S)
ask() { curl --silent --show-error --fail --netrc-file "$passwords" "$@"; }
ask "$url/jobs?expand" | jq -r --arg since "$since" '.[] | select(.State == "Failure" and .Type == "DicomModalityStore"
  and .Content.RemoteAet == "ANOMAP" and .CreationTime > $since) | .ID' |
while read -r job; do
  ask --request POST --data '' --output /dev/null "$url/jobs/$job/resubmit"
  echo "sent again: job $job"
done
