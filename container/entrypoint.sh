#!/bin/sh
# The words of the MAP container. Whatever does the work replaces this shell (exec), so that its exit status and the
# signals sent to the container are its own.
set -eu

EXPORT=/var/run/holoscan/export

usage() {
    cat <<'TEXT'
anomap as a MONAI Application Package. Research software: not a diagnosis, not lesion detection.

  (nothing)           analyse $HOLOSCAN_INPUT_PATH into $HOLOSCAN_OUTPUT_PATH
  -i IN -o OUT ...    the same with options; --help lists them
  show [app|pkg]      print the manifests
  extract             copy application, settings, models and documents to /var/run/holoscan/export, or to those of
                      its folders app, config, models and docs that are mounted
  env                 print the environment
  health              check the installation, or the running node whose settings $ANOMAP_SERVE_CONFIG names
  version, help
  analyze, doctor, info, models, serve, status        the commands of anomap

Exit status: 0 complete, 2 usage, 3 input unusable, 4 failed, 5 partly done, 124 time-out, 130 stopped.
TEXT
}

refuse() {
    printf '%s\n' "$1" >&2
    exit 2
}

show() {
    case "${1:-all}" in
        app) cat "$HOLOSCAN_APP_MANIFEST_PATH" ;;
        pkg) cat "$HOLOSCAN_PKG_MANIFEST_PATH" ;;
        all) cat "$HOLOSCAN_APP_MANIFEST_PATH" "$HOLOSCAN_PKG_MANIFEST_PATH" ;;
        *) refuse "E200 show knows app and pkg, got '$1'." ;;
    esac
}

copy() { # FOLDER SOURCE...
    folder=$EXPORT/$1
    shift
    mkdir -p "$folder"
    cp -R "$@" "$folder/"
}

extract() {
    [ -d "$EXPORT" ] || refuse "E200 nothing is mounted at $EXPORT. Mount a folder there, or on its folders."
    for part in app config models docs; do
        if [ -d "$EXPORT/$part" ]; then wanted="${wanted-} $part"; fi
    done
    for part in ${wanted-app config models docs}; do
        case $part in
            app) copy app "$HOLOSCAN_APPLICATION/." ;;
            config) copy config "$HOLOSCAN_APP_MANIFEST_PATH" "$HOLOSCAN_PKG_MANIFEST_PATH" "$HOLOSCAN_CONFIG_PATH" ;;
            models) copy models "$HOLOSCAN_MODEL_PATH/." ;;
            docs) copy docs "$HOLOSCAN_DOCS/." ;;
        esac
    done
}

health() {
    if [ -f "${ANOMAP_SERVE_CONFIG:-}" ]; then
        run anomap status "$ANOMAP_SERVE_CONFIG" --check
    fi
    run anomap doctor
}

run() { # PROGRAM ARGUMENT...
    # Libraries keep caches there; they would end with a traceback.
    [ -w /tmp ] || refuse "E202 /tmp can't be written. With a read-only root file system add --tmpfs /tmp."
    exec "$@"
}

case "${1:-}" in
    '' | -*) run python -m deploy_app "$@" ;;
    analyze | doctor | info | models | serve | status) run anomap "$@" ;;
    version) run anomap --version ;;
    show) shift; show "$@" ;;
    extract) extract ;;
    env) env | sort ;;
    health) health ;;
    help) usage ;;
    *) refuse "E200 unknown word '$1'. 'help' lists what there is." ;;
esac
