# make demo   set everything up and denoise the bundled pair of half-maps on the CPU
# make test   set everything up and run the tests
# make check  lint and types
# make wheel  build the wheel, install it elsewhere and use it there
#
# PYTHON  the interpreter to start from          VENV   where the environment goes
# EXTRAS  what to install beside the tests       TORCH  e.g. torch==2.13.0, to test export too
# PYTEST_ARGUMENTS  such as -m "not slow and not hosts and not whole_run"

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= cpu
TORCH ?=
PYTEST_ARGUMENTS ?= -n auto --dist loadfile
BIN := $(VENV)/bin
# What was asked for is part of the marker's name, so that asking for more installs more.
WANTED := $(shell echo "$(EXTRAS) $(TORCH)" | cksum | cut -d' ' -f1)

.PHONY: demo test check wheel clean

demo: $(VENV)/demo-ready-$(WANTED)
	$(BIN)/blush-onnx denoise examples/half_maps/half_map_1.mrc.gz examples/half_maps/half_map_2.mrc.gz \
	    --mask examples/half_maps/mask.mrc.gz --out demo-output --overwrite

test: $(VENV)/test-ready-$(WANTED)
	$(BIN)/python -m pytest $(PYTEST_ARGUMENTS)

check: $(VENV)/check-ready
	$(BIN)/ruff check .
	$(BIN)/mypy

wheel: $(VENV)/check-ready
	bash .ci/check-wheel $(BIN)/python

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo-ready-$(WANTED): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS)]"
	touch $@

$(VENV)/test-ready-$(WANTED): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS),test]" $(TORCH)
	touch $@

$(VENV)/check-ready: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist demo-output .mypy_cache .pytest_cache .ruff_cache .hypothesis
