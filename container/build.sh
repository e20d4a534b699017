#!/bin/sh
# Build the MAP image with what is here: docker, podman or buildah ($ENGINE chooses).
#   container/build.sh IMAGE [OPTION OF THE BUILDER ...]
set -eu
cd "$(dirname "$0")/.."
image=$1
shift
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' anomap/__init__.py)

if [ -z "${ENGINE:-}" ]; then
    if docker info >/dev/null 2>&1; then # a docker client without its daemon builds nothing
        ENGINE=docker
    elif command -v podman >/dev/null; then
        ENGINE=podman
    elif command -v buildah >/dev/null; then
        ENGINE=buildah
    else
        echo "No docker daemon, no podman, no buildah: apt-get install buildah" >&2
        exit 2
    fi
fi

set -- --build-arg "VERSION=$version" -t "$image" "$@" .
case $ENGINE in
    docker) exec docker build "$@" ;;
    # HEALTHCHECK exists in docker's image format only.
    podman | buildah) exec "$ENGINE" build --format docker --layers "$@" ;;
    *) echo "ENGINE must be docker, podman or buildah, got '$ENGINE'" >&2; exit 2 ;;
esac
