# Two commands a newcomer needs: `make demo` and `make test`. Everything lives in .venv.
PYTHON ?= python3
VENV   := .venv
# The viewer pins an older slicer-core than the Slicer of today; the extension is tried against both.
SLICER := .venv-slicer
SLICER_CORE := 5.12.4.0
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
IMAGE  ?= anomap:latest
DISEASES := cardiomegaly chronic_other effusion mass_nodule opacity_other pneumonia pneumothorax
APT    := $(shell [ "$$(id -u)" = 0 ] || echo sudo) apt-get

.PHONY: help setup demo test test-fast test-gpu check tools clinic-test slicer-test slicer-core-test soak docs bench interactive faults quality bundle segmenter image image-test clean

help:           ## what there is
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  +##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

setup: $(VENV)/.core ## virtual environment with anomap and its pinned dependencies

$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e ".[torch]"
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) -e ".[torch,fast,deploy,serve,plots,nifti,viewer,curate,ray,dev]"
	touch $@

demo: $(VENV)/.core ## analyse a real CT image and a radiograph phantom with the embedded models
	$(BIN)/anomap demo demo_output --overwrite

tools:          ## the programs that the tests use: DICOM validators, Orthanc ... (Debian packages)
	@( for program in dciodvfy dsrdump Orthanc chromium curl jq systemd-analyze cmake; do command -v $$program || exit 1; done; \
	  ls /usr/lib/orthanc/libOrthancDicomWeb.so* /usr/lib/*/libEGL.so.1 /usr/lib/*/libOSMesa.so.8 \
	    /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ) >/dev/null 2>&1 || { $(APT) update -q && \
	  $(APT) install -y --no-install-recommends dicom3tools dcmtk orthanc orthanc-dicomweb chromium curl jq systemd \
	    cmake libegl1 libosmesa6 fonts-dejavu-core; }

check: $(VENV)/.dev ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/.dev tools check ## what CI runs, but for the container image
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(VENV)/.dev ## unit tests only, first failure stops
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -x -q --ignore tests/integration --ignore tests/deploy_app --ignore tests/clinic

clinic-test: $(VENV)/.dev tools ## the clinic node beside a real Orthanc
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/service tests/clinic

slicer-test: $(VENV)/.dev tools slicer-core-test ## the extension on two versions of Slicer's core, and the browser viewer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/volume tests/slicer_extension tests/viewer

slicer-core-test: $(SLICER)/.done tools ## the extension on the core of the Slicer of today alone; the rest is part of `make test`
	OMP_NUM_THREADS=1 $(SLICER)/bin/python -m pytest -n 2 --dist loadfile tests/slicer_extension

$(SLICER)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SLICER)
	grep -v "^slicer" constraints.txt > $(SLICER)/constraints.txt
	$(SLICER)/bin/pip install --quiet --disable-pip-version-check -c $(SLICER)/constraints.txt torch==2.13.0
	$(SLICER)/bin/pip install --quiet --disable-pip-version-check -c $(SLICER)/constraints.txt \
	  -e ".[torch,dev]" slicer-core==$(SLICER_CORE)
	touch $@

test-gpu: $(VENV)/.dev ## the tests that need CUDA
	$(BIN)/python -m pytest -m gpu

soak: $(VENV)/.dev ## 24 studies through the clinic node with kills at random; writes benchmarks/results/soak.json
	SOAK_STUDIES=24 SOAK_KILLS=18 SOAK_JSON=benchmarks/results/soak.json $(BIN)/python -m pytest -q tests/clinic/test_soak.py

image:          ## build the MAP container image with docker, podman or buildah (IMAGE=, ENGINE=, BUILD_OPTIONS=)
	ENGINE="$(ENGINE)" container/build.sh $(IMAGE) $(BUILD_OPTIONS)

image-test: $(VENV)/.dev tools ## build the image without a Docker daemon and run it in every way that is promised
	@missing=; for program in buildah podman crun debootstrap; do \
	  command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	  [ -z "$$missing" ] || { $(APT) update -q && $(APT) install -y --no-install-recommends $$missing; }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m image tests/image

docs: $(VENV)/.dev ## rewrite the generated pages under docs/
	UPDATE_DOCS=1 $(BIN)/python -m pytest -q -k generated_page

bench: $(VENV)/.dev ## seconds per stage; writes benchmarks/results/<device>.json
	$(BIN)/python -m benchmarks.speed

faults: $(VENV)/.dev tools ## bad input, hostile peers, crashes; writes benchmarks/results/faults.json
	OMP_NUM_THREADS=1 FAULTS_JSON=benchmarks/results/faults.json $(BIN)/python -m pytest -q -n 2 --dist loadfile tests/clinic

interactive: $(VENV)/.dev ## how long a viewer waits; writes benchmarks/results/interactive.json
	$(BIN)/python benchmarks/interactive.py

quality: $(VENV)/.dev ## evaluate the shipped models, tables into their cards (needs ../shared/data)
	$(BIN)/python benchmarks/quality.py --bundle models/cxr-64 --data ../shared/data/cxr --mean $(DISEASES)
	$(BIN)/python benchmarks/quality.py --bundle models/cxr-128 --data ../shared/data/cxr --mean $(DISEASES)
	$(BIN)/python benchmarks/quality.py --bundle models/ct-64 --data ../shared/data/ct

segmenter: $(VENV)/.dev ## train the segmenter of the gate's example (needs ../shared/data)
	OMP_NUM_THREADS=1 $(BIN)/python -m deploy_app.examples.gated_segmentation.train --data ../shared/data/cxr

clean:          ## remove what make made
	rm -rf $(VENV) $(SLICER) demo_output build dist
