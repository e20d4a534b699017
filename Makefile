# Two commands a newcomer needs: `make demo` and `make test`. Everything lives in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
APT    := $(shell [ "$$(id -u)" = 0 ] || echo sudo) apt-get

.PHONY: help setup demo test test-fast test-gpu check tools docs bench faults quality bundle clean

help:           ## what there is
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  +##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

setup: $(VENV)/.core ## virtual environment with anomap and its pinned dependencies

$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) -e ".[deploy,serve,dev]"
	touch $@

demo: $(VENV)/.core ## analyse a real CT image and a radiograph phantom with the embedded models
	$(BIN)/anomap demo demo_output --overwrite

tools:          ## the DICOM validators that the tests use (Debian packages)
	@command -v dciodvfy >/dev/null && command -v dsrdump >/dev/null || \
	  { $(APT) update -q && $(APT) install -y --no-install-recommends dicom3tools dcmtk; }

check: $(VENV)/.dev ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/.dev tools check ## everything CI runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(VENV)/.dev ## unit tests only, first failure stops
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -x -q --ignore tests/integration --ignore tests/deploy_app --ignore tests/clinic

test-gpu: $(VENV)/.dev ## the tests that need CUDA
	$(BIN)/python -m pytest -m gpu

docs: $(VENV)/.dev ## rewrite the generated pages under docs/
	UPDATE_DOCS=1 $(BIN)/python -m pytest -q -k generated_page

bench: $(VENV)/.dev ## seconds per stage; writes benchmarks/results/<device>.json
	$(BIN)/python benchmarks/speed.py

faults: $(VENV)/.dev tools ## bad input, hostile peers, crashes; writes benchmarks/results/faults.json
	OMP_NUM_THREADS=1 FAULTS_JSON=benchmarks/results/faults.json $(BIN)/python -m pytest -q tests/clinic

quality: $(VENV)/.dev ## AUROC tables of the shipped models (needs ../shared/data)
	$(BIN)/python benchmarks/quality.py --bundle models/cxr-64 --data ../shared/data/cxr
	$(BIN)/python benchmarks/quality.py --bundle models/ct-64 --data ../shared/data/ct

clean:          ## remove what make made
	rm -rf $(VENV) demo_output build dist
