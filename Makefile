# Two commands: `make story` walks the whole road; `make test` proves the house stands.
# Both make their own virtual environment first.
PYTHON ?= python3
VENV ?= .venv
# The CPU builds of torch. Where this page cannot be reached, pip takes what it finds elsewhere.
TORCH_WHEELS ?= https://download.pytorch.org/whl/cpu/torch/
TEXT ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.PHONY: story test check lint types contract slow clean help

help:            ## these lines
	@grep -E '^[a-z]+: .*##' Makefile | sed 's/:.*##/ -/'

story: $(INSTALLED)  ## from raw text to an assistant; TEXT=my.txt for your own
	$(BIN)/groundup story $(TEXT)

test: $(INSTALLED_DEV)  ## lint, types, import contract, tests: what CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

slow: $(INSTALLED_DEV)  ## the tests that take their time
	$(BIN)/pytest -m slow

clean:  ## remove the virtual environment
	rm -rf $(VENV)

# --no-deps: only torch itself is looked for on that page; the rest comes from the index.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --retries 0 --no-deps --find-links $(TORCH_WHEELS) -c constraints.txt torch
	touch $@

$(INSTALLED): $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(INSTALLED_DEV): $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@ $(INSTALLED)
