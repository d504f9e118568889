# What one does with onerack's source. Needs Python 3.11 or later with pip, and make; nothing else.
#
#   make demo    word count over your Python's standard library; kills a worker on the way
#   make test    the tests
#   make check   linter and types
#   make test-etcd   the tests beside etcdctl, etcd and its Python clients, where they are installed
#   make bench   the figures of the README, measured on this machine
#   make soak    long randomized runs with killed workers
#   make docs    writes docs/cli.md and the list of files in ARCHITECTURE.md anew, and checks every document
#
# The virtual environment is made anew only when pyproject.toml changes: the stamp files remember it.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo test test-etcd check bench soak docs clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.stamp-run
	@$(VENV)/bin/onerack demo

test: $(VENV)/.stamp-dev
	@$(RUN) -m pytest -n $(WORKERS) --durations=5

test-etcd: $(VENV)/.stamp-dev
	@$(RUN) -m pytest -m etcd -rs tests/kv/server

check: $(VENV)/.stamp-dev
	@$(RUN) -m ruff check src tests examples benchmarks
	@$(RUN) -m mypy

bench: $(VENV)/.stamp-bench
	@worst=0; for suite in mapreduce rpc raft; do $(RUN) -m benchmarks.$$suite || worst=$$?; done; exit $$worst

soak: $(VENV)/.stamp-dev
	@$(RUN) -m pytest -m soak --timeout 3600

docs: $(VENV)/.stamp-dev
	@$(RUN) -m onerack.cli.reference docs/cli.md
	@$(RUN) -m tests.file_list
	@$(RUN) -m pytest tests/test_docs.py tests/test_examples.py

clean:
	rm -rf $(VENV) build dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A Debian Python often has pip and no ensurepip (that is the package python3-venv), so the environment is made
# without pip and filled by the pip outside. A Python without pip (some builds from source) has ensurepip instead.
$(RUN):
	@test -n "$(PYTHON)" || { echo "make: no python3 found; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than Python 3.11; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@if $(PYTHON) -m pip --version >/dev/null 2>&1; \
	 then $(PYTHON) -m venv --without-pip $(VENV); \
	 else $(PYTHON) -m venv $(VENV); fi

# Twice quiet: pip says nothing but errors.
PIP = $(shell $(PYTHON) -m pip --version >/dev/null 2>&1 && echo '$(PYTHON) -m pip --python $(RUN)' || echo '$(RUN) -m pip')
INSTALL = $(PIP) --quiet --quiet --disable-pip-version-check install

$(VENV)/.stamp-run: pyproject.toml | $(RUN)
	@echo "installing onerack into $(VENV) ..."
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml | $(RUN)
	@echo "installing onerack and its tools into $(VENV) ..."
	@$(INSTALL) --editable '.[dev,fast]'
	@touch $@ $(VENV)/.stamp-run

$(VENV)/.stamp-bench: pyproject.toml | $(RUN)
	@echo "installing onerack and the engines it is measured against into $(VENV) ..."
	@$(INSTALL) --editable '.[dev,fast,bench]'
	@touch $@ $(VENV)/.stamp-dev $(VENV)/.stamp-run
