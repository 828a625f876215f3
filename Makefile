# `make demo` and `make test` set up everything they need, in .venv.
#
#   make demo         train a translator plain and with R-Drop, compare, export
#   make test         lint and run every test against the built wheel, two at a
#                     time; WORKERS=4 for more, WORKERS=0 for one
#   make lint         ruff only
#   make docs-check   run the examples of README, docs and docstrings
#   make wheels       this package, Keras and what it needs beside JAX or PyTorch,
#                     for a machine without a package index, in dist/wheels
#
# BACKEND=jax or BACKEND=torch installs that Keras backend and uses it.
# EXTRAS=jax,torch installs both: their results are then compared with
# TensorFlow's, and PyTorch tests the authors' formula.
# PYTHON=... chooses the interpreter, 3.10 to 3.13.

BACKEND ?= $(or $(KERAS_BACKEND),tensorflow)
EXTRAS ?= $(filter-out tensorflow,$(BACKEND))
TESTS ?= tests
WORKERS ?= 2
SUPPORTED := import sys, venv, ensurepip; \
	sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 \
	python3.10; do $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; \
	done)

comma := ,
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready$(subst $(comma),-,$(addprefix -,$(EXTRAS)))
PIP := $(BIN)/python -m pip --disable-pip-version-check
export KERAS_BACKEND := $(BACKEND)
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Else the first of several processes takes all of a GPU's memory.
export TF_FORCE_GPU_ALLOW_GROWTH ?= true

.PHONY: demo test lint docs-check wheels install clean
.DEFAULT_GOAL := test

$(READY): setup.cfg constraints.txt
	@test -n "$(PYTHON)" || { echo "Expected Python 3.10 to 3.13 with venv" \
	"on the path. Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt setuptools wheel
	$(PIP) install -q -c constraints.txt --no-build-isolation \
	  ".[test$(addprefix $(comma),$(EXTRAS))]"
	@touch $@

# The wheel, not the source folder, is what tests import. A stale build/
# would put deleted modules into it.
install: $(READY)
	@rm -rf build/lib build/bdist.*
	@$(PIP) install -q --no-deps --no-build-isolation --force-reinstall .

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

test: lint install
	RDROP_KERAS_INSTALLED=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile \
	  --no-loadscope-reorder $(TESTS)

docs-check: install
	RDROP_KERAS_INSTALLED=1 $(BIN)/pytest tests/test_docs.py

demo: $(READY)
	$(BIN)/python -m reproduce compare translation --demo --epochs 25 \
	  --output runs/demo --overwrite

# Of the machine that they are for.
WHEELS_PYTHON ?= 3.12
WHEELS_PLATFORMS ?= manylinux_2_28_x86_64 manylinux2014_x86_64

wheels: $(READY)
	rm -rf dist/wheels build/lib build/bdist.*
	$(PIP) wheel -q --no-deps --no-build-isolation -w dist/wheels .
	$(PIP) download -q --no-deps --only-binary=:all: -c constraints.txt \
	  --python-version $(WHEELS_PYTHON) $(WHEELS_PLATFORMS:%=--platform %) \
	  -d dist/wheels keras optree namex h5py typing-extensions flatbuffers

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
