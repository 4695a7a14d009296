# anomaly_sweep: `make help` lists what there is. Everything is set up in .venv by the first target that needs it.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SWEEP ?= experiment=embedded_grid
LOCALIZE ?= experiment=embedded_localize
RESULTS ?= results/ono_mori
TRACKING_URI ?= sqlite:///mlflow.db
PORT ?= 5000

.PHONY: help setup data sweep localize tables ui docs test lint format types bench bench-flows bench-localization bench-ridge bench-verdicts clean clean-results

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | awk -F'\t' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with the pinned dependencies

# The torch and torchvision builds are pinned together; constraints.txt holds the rest.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
		|| { echo "Python 3.11 to 3.13 is needed; set PYTHON=python3.12, say"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

sweep: $(STAMP) ## Run the study of Ono & Mori on the embedded images and print the paper's tables
	$(BIN)/anomaly-sweep -m $(SWEEP)

localize: $(STAMP) ## Run the ridge paper's comparison on the embedded images and print its tables
	$(BIN)/anomaly-sweep -m $(LOCALIZE)

tables: $(STAMP) ## Make the tables again from the database alone, and check the paper's statements
	$(BIN)/multirun-analysis tables --paper ono_mori --backbone all --tracking-uri $(TRACKING_URI) --out $(RESULTS)
	$(BIN)/multirun-analysis claims --backbone all --tracking-uri $(TRACKING_URI)

ui: $(STAMP) ## Open the MLflow UI on the runs table
	$(BIN)/multirun-analysis ui --tracking-uri $(TRACKING_URI) --port $(PORT)

docs: $(STAMP) ## Build the documentation site in build/site; a broken link or reference fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "build/site/index.html"

test: $(STAMP) lint types ## Lint, check types and run the tests
	$(BIN)/python -m pytest -n 2

lint: $(STAMP) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## Check types
	$(BIN)/mypy

format: $(STAMP) ## Rewrite to the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure: closed-form trials, composing and planning, recording (ratios in one run)
	$(BIN)/python tests/benchmarks/bench_closed_form.py
	$(BIN)/python tests/benchmarks/bench_compose.py
	$(BIN)/python tests/benchmarks/bench_scale.py
	$(BIN)/python tests/benchmarks/bench_recording.py

bench-localization: $(STAMP) ## Measure: scoring seconds of ridge, PatchCore and PaDiM, pixel metrics
	$(BIN)/python tests/benchmarks/bench_regions.py
	$(BIN)/python tests/benchmarks/bench_localization.py

bench-ridge: $(STAMP) ## Measure: the ridge paper's freedom on real images (ANOMALY_SWEEP_REAL)
	$(BIN)/python tests/benchmarks/bench_ridge.py --rows methods

bench-flows: $(STAMP) ## Measure: flows one at a time and stacked
	$(BIN)/python tests/benchmarks/bench_flows.py

bench-verdicts: $(STAMP) ## Simulate: how often verdicts are wrong and intervals cover (minutes)
	$(BIN)/python tests/benchmarks/bench_verdicts.py

clean: ## Remove what tools left behind (not results)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print | xargs rm -rf

clean-results: ## Remove the cache, runs and tables of sweeps made here
	rm -rf .anomaly_sweep mlflow.db mlflow.db-shm mlflow.db-wal mlartifacts multirun outputs results data/synthetic
