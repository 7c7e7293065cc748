# Every target sets up .venv by itself; `make demo` and `make test` are all a newcomer needs.
# Another interpreter: `make test PYTHON=python3.12`. Other arguments: `make test ARGS="-k scan"`.
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# The first of these that is Python 3.11 or newer; 3.11 leads because constraints.txt was made with it.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test slow bounds triton lint format bench results-short results docs clean

demo: $(VENV)/.with-train
	$(BIN)/compressm demo $(ARGS)

test: $(VENV)/.with-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

slow: $(VENV)/.with-dev
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -m slow $(ARGS)

bounds: $(VENV)/.with-dev
	$(BIN)/python -m tests.lti.bounds --examples 100000 $(ARGS)

triton: $(VENV)/.with-dev $(VENV)/.with-triton
	$(BIN)/python -m pytest tests/compressm/ops/test_recurrence.py $(ARGS)

lint: $(VENV)/.with-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.with-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.with-dev
	for script in benchmarks/*.py; do $(BIN)/python "$$script" $(ARGS) || exit 1; done

# The commands that docs/results.md shows: the first block, or all of them.
SHOWN = awk '/^```/ { on = $$0 == "```sh"; n += on; next } on && n <= $(1)' docs/results.md

results-short: $(VENV)/.with-dev
	$(call SHOWN,1) | PATH="$(CURDIR)/$(BIN):$$PATH" sh -e

results: $(VENV)/.with-dev
	$(call SHOWN,1000) | PATH="$(CURDIR)/$(BIN):$$PATH" sh -e

docs: $(VENV)/.with-docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html $(ARGS)

clean:
	rm -rf $(VENV) docs/_build docs/api/generated

# One stamp per set of extras: installed again only when the two files that decide it change.
$(VENV)/.with-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[$*]'
	touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Found no Python 3.11 or newer: install one, or name it with make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
