# anomap as a MONAI Application Package (MAP): this file is the packager, see docs/adr/0009-own-dockerfile-is-the-map.md.
#
#   make image                            # or: docker build -t anomap .
#
# torch then comes with its CUDA libraries, gigabytes of them. A CPU image, which is much smaller:
#   docker build --build-arg TORCH=torch==2.13.0+cpu --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's index of CPU wheels> .
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG TORCH=torch==2.13.0
# pip reads these by itself. None of them reaches the image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# What changes rarely comes first, so that a change of the source rebuilds in seconds.
COPY constraints.txt ./
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install -c constraints.txt "${TORCH}"
COPY pyproject.toml ./
RUN python3 -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print("\n".join(p["dependencies"] + p["optional-dependencies"]["deploy"] + p["optional-dependencies"]["serve"]))' \
    > requirements.txt \
 && /opt/venv/bin/pip install -c constraints.txt -r requirements.txt \
 && python3 -m venv /opt/tools && /opt/tools/bin/pip install -c constraints.txt hatchling
# Holoscan's wheel makes its library links when Python starts for the first time, and only root may then write them.
RUN LD_LIBRARY_PATH=$(echo /opt/venv/lib/python3.*/site-packages/nvidia/cu13/lib) \
    /opt/venv/bin/python -c 'import holoscan.core'

COPY README.md LICENSE CHANGELOG.md ./
COPY docs docs
COPY models models
COPY anomap anomap
COPY deploy_app deploy_app
COPY slicer_extension/Anomap/AnomapLib slicer_extension/Anomap/AnomapLib
COPY container container
# The MAP specification wants application and models in places of its own: they move there, links take their place.
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation -w dist . \
 && /opt/venv/bin/pip install --no-deps --no-index dist/*.whl \
 && site=$(echo /opt/venv/lib/python3.*/site-packages) \
 && mkdir -p /opt/holoscan/app /opt/holoscan/docs /etc/holoscan /var/holoscan/input /var/holoscan/output /var/holoscan/logs \
 && mv "$site/anomap/models" /opt/holoscan/models && ln -s /opt/holoscan/models "$site/anomap/models" \
 && mv "$site/deploy_app" /opt/holoscan/app/deploy_app && ln -s /opt/holoscan/app/deploy_app "$site/deploy_app" \
 && cp container/entrypoint.sh /opt/holoscan/entrypoint.sh \
 && cp -R README.md LICENSE CHANGELOG.md docs/. /opt/holoscan/docs/ \
 && cp deploy_app/app.yaml /var/holoscan/app.yaml \
 && chmod 1777 /var/holoscan/output \
 && /opt/venv/bin/python -m deploy_app.manifest --out /etc/holoscan
# `docker build` can't take a label from a file. The build fails when the label would be wrong.
ARG VERSION=0.1.0
RUN test "$(/opt/venv/bin/anomap --version)" = "${VERSION}" \
 || { echo "VERSION is ${VERSION}, anomap is $(/opt/venv/bin/anomap --version)" >&2; exit 1; }

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="anomap" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="Finds what does not belong in a medical image, shows where, and says so in DICOM. Research use only."
COPY --from=build /opt/venv /opt/venv
COPY --from=build /etc/holoscan /etc/holoscan
COPY --from=build /opt/holoscan /opt/holoscan
COPY --from=build /var/holoscan /var/holoscan
# The same names and values stand in app.json; a test compares them.
ENV PATH=/opt/venv/bin:$PATH \
    HOLOSCAN_APPLICATION=/opt/holoscan/app \
    HOLOSCAN_INPUT_PATH=/var/holoscan/input \
    HOLOSCAN_OUTPUT_PATH=/var/holoscan/output \
    HOLOSCAN_WORKDIR=/var/holoscan \
    HOLOSCAN_MODEL_PATH=/opt/holoscan/models \
    HOLOSCAN_CONFIG_PATH=/var/holoscan/app.yaml \
    HOLOSCAN_APP_MANIFEST_PATH=/etc/holoscan/app.json \
    HOLOSCAN_PKG_MANIFEST_PATH=/etc/holoscan/pkg.json \
    HOLOSCAN_DOCS=/opt/holoscan/docs \
    HOLOSCAN_DOCS_PATH=/opt/holoscan/docs \
    HOLOSCAN_LOGS=/var/holoscan/logs \
    HOLOSCAN_LOGS_PATH=/var/holoscan/logs
# Any UID, no home, a root file system that can't be written: what libraries keep for themselves goes to /tmp.
# USER: Python asks for a name, and an arbitrary UID has none.
ENV HOME=/tmp USER=anomap \
    CUPY_CACHE_DIR=/tmp/.cupy MPLCONFIGDIR=/tmp/.matplotlib NUMBA_CACHE_DIR=/tmp/.numba XDG_CACHE_HOME=/tmp/.cache \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /var/holoscan
USER 65532:65532
HEALTHCHECK --interval=300s --timeout=60s --start-period=10s --retries=3 CMD ["/opt/holoscan/entrypoint.sh", "health"]
ENTRYPOINT ["/opt/holoscan/entrypoint.sh"]
