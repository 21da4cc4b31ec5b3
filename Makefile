# The targets make their own virtual environment. Nothing is installed twice: a stamp in the
# environment is older than pyproject.toml or the constraints only when there is something to install.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
PYTEST_ARGS ?=
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)
# One thread per test process: with more threads than cores the tests get slower.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest test-base check format bench checkpoints docs build clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.stamp-demo ## train small models on images, mathematics and documents, write runs/demo/index.html
	$(BIN)/python scripts/demo.py

test: $(VENV)/.stamp-dev ## run the tests and the doctests
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

test-oldest: ## run the tests on the lowest supported versions, in .venv-oldest
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

test-base: build ## test the built wheel and source distribution, without extras, in an empty .venv-base
	rm -rf .venv-base
	$(PYTHON) -m venv .venv-base
	.venv-base/bin/python -m pip install --quiet -c $(CONSTRAINTS) torch
	for archive in dist/*.whl dist/*.tar.gz; do \
		.venv-base/bin/python -m pip install --quiet --force-reinstall --no-deps $$archive && \
		.venv-base/bin/python -m pip install --quiet -c $(CONSTRAINTS) $$archive && \
		.venv-base/bin/python -m pip check && \
		$(TEST_ENV) .venv-base/bin/python tests/check_base_install.py || exit 1; \
	done

check: $(VENV)/.stamp-dev ## format, lint, types, the linter of transformers models, versions that fit each other
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python tests/check_mlinter.py
	$(BIN)/python -m pip check

format: $(VENV)/.stamp-dev ## rewrite the code the way `make check` wants it
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.stamp-dev ## run the benchmarks at smoke size; full size: benchmarks/README.md
	$(TEST_ENV) $(BIN)/python benchmarks/gmvq_cifar10.py smoke
	$(TEST_ENV) $(BIN)/python benchmarks/t5_vqvae_worldtree.py smoke
	$(TEST_ENV) $(BIN)/python benchmarks/t5_vqvae_inference.py smoke
	$(TEST_ENV) $(BIN)/python benchmarks/t5_vqvae_overhead.py --smoke
	$(TEST_ENV) $(BIN)/python benchmarks/topic_image.py smoke

docs: $(VENV)/.stamp-dev ## build the documentation site into site/, a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

checkpoints: $(VENV)/.stamp-dev ## train and write the published checkpoints; hours to days, see docs/publishing.md
	$(BIN)/python scripts/make_checkpoints.py

build: $(VENV)/.stamp-dev ## build the wheel and the source distribution into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build

clean: ## remove caches and builds; environments, data and runs stay
	rm -rf build dist site .pytest_cache .ruff_cache .mypy_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch first and alone: every other library then finds the pinned build in place.
$(VENV)/.stamp-dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) torch
	$(INSTALL) -e '.[dev]'
	touch $(VENV)/.stamp-demo $@

# `dev` contains `demo`, so its stamp serves both.
$(VENV)/.stamp-demo: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) torch
	$(INSTALL) -e '.[demo]'
	touch $@
