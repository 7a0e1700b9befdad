# Everything runs in .venv with the exact versions of constraints.txt. A second run skips the installation.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
WORKERS ?= auto

.PHONY: help demo demo-reset up test lint types imports unit wheel clean

help:
	@echo "make demo        the whole story on real data, in about two minutes"
	@echo "make up          the Dagster UI of the demo (Ctrl-C stops it)"
	@echo "make demo-reset  forget the demo's ledger and keys"
	@echo "make test        ruff, mypy, import-linter, pytest"
	@echo "make lint        ruff, mypy, import-linter"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 15))' || \
	  { echo "Python 3.10 to 3.14 is needed. Call for example: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) …"
	@$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt pip
	@$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt hatchling editables
	@$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(PY) -m examples.credit_default.demo

demo-reset:
	rm -rf .cognify .cognify.partial .cognify-demo-keys cognify.toml policy.yaml trust.txt

up: $(STAMP)
	@$(PY) -m examples.credit_default.up

test: lint unit

lint: $(STAMP) style types imports

.PHONY: style
style: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(STAMP)
	$(VENV)/bin/mypy --strict cognify_dagster/ledger cognify_dagster/evidence cognify_dagster/records cognify_dagster/workspace cognify_dagster/governance
	$(VENV)/bin/mypy cognify_dagster examples

imports: $(STAMP)
	$(VENV)/bin/lint-imports

unit: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadgroup

wheel: $(STAMP)
	$(PY) -m build --no-isolation --wheel

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
