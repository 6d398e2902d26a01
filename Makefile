# Two commands do everything from a fresh clone: `make demo` and `make test`.
# PYTHON may name another interpreter (3.10 to 3.13), VENV another place for the environment.
PYTHON ?= python3
VENV ?= .venv
IMAGES ?=
INSTALLED = $(VENV)/.installed

.PHONY: demo test soak check format bench clean

demo: $(INSTALLED)  ## embed real pictures and show the result; IMAGES=FOLDER takes your own
	$(VENV)/bin/python demo.py $(if $(IMAGES),--images "$(IMAGES)")

test: $(INSTALLED)  ## run the tests
	$(VENV)/bin/python -m pytest

soak: $(INSTALLED)  ## the tests that take long: runs killed at every point
	$(VENV)/bin/python -m pytest -m soak

check: $(INSTALLED)  ## format, lint, types, links in the docs
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -q tests/test_docs.py

format: $(INSTALLED)  ## put the code into its format
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(INSTALLED)  ## the benchmarks behind the published figures (some minutes)
	$(VENV)/bin/python benchmarks/embed.py
	$(VENV)/bin/python benchmarks/nightly.py

clean:  ## remove what the targets above made, the environment included
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	touch $@
