# Everything runs in .venv with the exact versions of constraints.txt. The demo installs what it needs, the tests the rest; a
# second run skips the installation.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
DEMO   := $(VENV)/.installed-demo
DEV    := $(VENV)/.installed
# torch, transformers, MLflow and others have an environment of their own, so that the core is tested without them.
VENV_A   := .venv-adapters
ADAPTERS := $(VENV_A)/.installed
WORKERS ?= auto
# Compiled modules are kept: the tests start many processes, and each would compile the package anew.
TESTING  := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1

.NOTPARALLEL:
.PHONY: help demo demo-reset up sms-demo test test-adapters lint types imports unit bench-ledger bench-governance bench-documents bench-datasets bench-instrument bench-review soak verifier-digest wheel clean

help:
	@echo "make demo        the whole story on real data: one to three minutes, and the installation the first time"
	@echo "make up          the Dagster UI and the review site of the demo (Ctrl-C stops both)"
	@echo "make demo-reset  forget the demo: removes its ledger, keys and Dagster home"
	@echo "make sms-demo    fine-tuning a transformer on real messages, governed end to end; ten minutes, and 3 GB installed the first time"
	@echo "make test        ruff, mypy, import-linter, pytest"
	@echo "make test-adapters  the tests beside real torch, transformers, MLflow and others, in an environment of their own (3 GB)"
	@echo "make lint        ruff, mypy, import-linter"
	@echo "make bench-ledger  how fast the ledger is, beside baselines of the same run"
	@echo "make bench-governance  how fast decisions and sensor ticks are in a ledger of a million entries"
	@echo "make bench-documents  how fast coverage, PDF, HTML and seal are, beside baselines of the same run"
	@echo "make bench-datasets  how fast snapshots, record digests, differences and overlap are, beside baselines of the same run"
	@echo "make bench-instrument  how fast model files are hashed and runs sealed, and what the Hugging Face callback costs"
	@echo "make bench-review  how fast pages of the review site are with fifty people on a ledger of a million entries"
	@echo "make soak        a million honest entries must raise no alarm (SOAK_ENTRIES=100000: fewer)"
	@echo "make verifier-digest  writes docs/verifier.sha256 and proof-verifier.sha256 after a change of an offline verifier"
	@echo "make wheel       the installable package, in dist/"
	@echo "make clean       removes .venv, dist and caches, not the demo"
	@echo "PYTHON=python3.12 chooses the interpreter (3.10 to 3.14) that .venv is made with"

# setuptools is for jsonpath-rw (through mlcroissant): it is published as source only.
# $(1): the extra of pyproject.toml, $(2): the environment, $(3): the constraints
define install
@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 15))' || \
  { echo "Python 3.10 to 3.14 is needed. Call for example: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
@test -x $(2)/bin/python || $(PYTHON) -m venv $(2)
@echo "Installing into $(2) ($(1)) …"
@$(2)/bin/python -m pip install -q --disable-pip-version-check -c $(3) pip
@$(2)/bin/python -m pip install -q --disable-pip-version-check -c $(3) hatchling editables setuptools
@$(2)/bin/python -m pip install -q --disable-pip-version-check -c $(3) --no-build-isolation -e '.[$(1)]'
endef

$(DEMO): pyproject.toml constraints.txt
	$(call install,demo,$(VENV),constraints.txt)
	@touch $@

# The extra dev holds demo, so the demo needs no installation of its own afterwards.
$(DEV): pyproject.toml constraints.txt
	$(call install,dev,$(VENV),constraints.txt)
	@touch $(DEMO) $@

$(ADAPTERS): pyproject.toml constraints-adapters.txt
	$(call install,adapters,$(VENV_A),constraints-adapters.txt)
	@touch $@

demo: $(DEMO)
	@$(PY) -m examples.credit_default.demo

# Standard library only, so it works before anything is installed; refuses while the demo or its UI runs.
demo-reset:
	@$(if $(wildcard $(PY)),$(PY),$(PYTHON)) -m examples.credit_default.reset

up: $(DEMO)
	@$(PY) -m examples.credit_default.up

# Real MiniLM and real messages; ARGS=--tiny takes a two-layer model and few messages.
sms-demo: $(ADAPTERS)
	@HF_HUB_OFFLINE=1 $(VENV_A)/bin/python -m examples.sms_finetune.demo $(ARGS)

test: lint unit

lint: $(DEV) style types imports

.PHONY: style
style: $(DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(DEV)
	$(VENV)/bin/mypy --strict cognify_dagster/ledger cognify_dagster/evidence cognify_dagster/records cognify_dagster/workspace cognify_dagster/governance
	$(VENV)/bin/mypy cognify_dagster examples

imports: $(DEV)
	$(VENV)/bin/lint-imports

unit: $(DEV)
	$(TESTING) $(PY) -m pytest -n $(WORKERS) --dist loadgroup

# Where a library is missing these tests are not collected; with COGNIFY_ADAPTERS=1 that is an error.
test-adapters: $(ADAPTERS)
	$(TESTING) COGNIFY_ADAPTERS=1 HF_HUB_OFFLINE=1 $(VENV_A)/bin/python -m pytest -n $(WORKERS) --dist loadgroup tests/adapters

# Ratios to baselines of the same run; QUICK=1 only shows that it works.
bench-ledger: $(DEV)
	@$(PY) -m benchmarks.ledger $(if $(QUICK),--quick)

# QUICK=1 as above; ENTRIES=100000: a smaller ledger. It is made once and kept in .bench-cache (about 2 GB).
bench-governance: $(DEV)
	@$(PY) -m benchmarks.governance $(if $(QUICK),--quick) $(if $(ENTRIES),--entries $(ENTRIES))

# QUICK=1 as above.
bench-documents: $(DEV)
	@$(PY) -m benchmarks.documents $(if $(QUICK),--quick)

# QUICK=1 as above; ONLY=cold-small: one row. Data (about 5 GB) and the baselines' own environments are made once in .bench-cache.
bench-datasets: $(DEV)
	@$(PY) -m benchmarks.datasets $(if $(QUICK),--quick) $(addprefix --only ,$(ONLY))

# QUICK=1 as above. The rows of the callback need transformers, so all run in the adapters' environment.
bench-instrument: $(ADAPTERS)
	@HF_HUB_OFFLINE=1 $(VENV_A)/bin/python -m benchmarks.instrument $(if $(QUICK),--quick)

# QUICK=1 as above. The ledger is made once and kept in .bench-cache.
bench-review: $(DEV)
	@$(PY) -m benchmarks.review $(if $(QUICK),--quick)

SOAK_ENTRIES ?= 1000000

# Forty minutes on two slow cores. Only a whole one replaces the result in docs/soak.md; a smaller one is printed.
soak: $(DEV)
	@$(PY) -m tests.soak.soak --entries $(SOAK_ENTRIES) $(if $(filter 1000000,$(SOAK_ENTRIES)),--write docs/soak.md)

verifier-digest: $(DEV)
	@$(PY) -m cognify_dagster.cli verify --version > docs/verifier.sha256
	@$(PY) -m cognify_dagster.cli dataset check-proof --version > docs/proof-verifier.sha256
	@cat docs/verifier.sha256 docs/proof-verifier.sha256

wheel: $(DEV)
	$(PY) -m build --no-isolation --wheel

clean:
	rm -rf $(VENV) $(VENV_A) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
