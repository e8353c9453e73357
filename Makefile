# One machine with python3 (>= 3.11, with venv and pip) is all that is needed: `make demo`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.installed
UV_VERSION := 0.13.9

.DEFAULT_GOAL := help
.PHONY: help setup demo test long check lock clean

help:  ## Show these verbs
	@echo 'make VERB, where VERB is one of'
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-6s %s\n", $$1, $$2}' Makefile

setup: $(READY)  ## Install everything into .venv (the other verbs do it when it is needed)

demo: $(READY)  ## Watch jobs being placed in time and region (IMAGES=folder for your own pictures)
	@mkdir -p .carbon/prefect
	@PREFECT_HOME="$(CURDIR)/.carbon/prefect" $(RUN) -m flows.demo $(if $(IMAGES),--images "$(IMAGES)") $(ARGS)

test: $(READY)  ## Lint, types and the tests that can run on this machine (ARGS="-k name")
	@$(lint)
	@$(RUN) -m pytest -m 'not long' $(ARGS)

long: $(READY)  ## The tests that take minutes: thousands of examples, stages that move (half an hour)
	@$(RUN) -m pytest -m long $(ARGS)

check: $(READY)  ## Lint, types and the fast tests
	@$(lint)
	@$(RUN) -m pytest -m 'not server and not slow' $(ARGS)

lock: $(READY)  ## Write requirements.lock anew from pyproject.toml (ARGS=--upgrade for newer versions)
	@$(RUN) -m pip install --quiet uv==$(UV_VERSION)
	@$(RUN) scripts/lock.py $(ARGS)

clean:  ## Remove .venv, caches and what the demo kept
	rm -rf $(VENV) .carbon .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

define lint
$(RUN) -m ruff check . && $(RUN) -m ruff format --check . && $(RUN) -m mypy
endef

$(READY): requirements.lock pyproject.toml scripts/install.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Python 3.11 or newer is needed, and "$(PYTHON)" is not. Run e.g. make $(MAKECMDGOALS) PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo '"$(PYTHON)" has no venv module. On Debian or Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(PYTHON) scripts/install.py $(VENV)
	@touch $@
