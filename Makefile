SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test test-cluster test-long env data chromium viz mlflow serve page prune lint lock clean

bin := .venv/bin
# MLflow opens on traces of language models if it is not told that these are training runs.
runs := http://127.0.0.1:5000/\#/experiments/1?workflowType=machine_learning
export MLFLOW_DISABLE_TELEMETRY := true

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: env data ## Set up, bring the data, run the whole pipeline
	@$(bin)/kedro run
	@echo
	@echo "Samples:   $$(find "$$PWD/data/08_reporting" -path '*sample_sheet.png/*' -name '*.png' | sort | tail -n 1)"
	@echo "Figures:   make mlflow, then $(runs)"
	@echo "Pipeline:  make viz, then http://127.0.0.1:4141"
	@echo "A kanji:   $(bin)/kedro run --pipeline=generate --params=\"prompt=water,style=brush\""

test: env data chromium lint ## Set up, bring the data, check style, types and imports, run the tests
	@$(bin)/pytest

test-cluster: env data ## Run the tests that start Ray, some minutes on two cores
	@$(bin)/pytest -m ray

test-long: env data ## Run the tests that take longest, such as those of large models
	@$(bin)/pytest -m long

env: ## Make .venv hold what requirements.lock names
	@scripts/setup.sh

data: ## Bring fonts and dictionary into data/01_raw
	@scripts/raw_data.sh

chromium: ## Bring Chromium into .tools/chromium, for the tests of the page
	@scripts/chromium.sh

viz: env ## Show the pipeline with previews on http://127.0.0.1:4141
	@$(bin)/kedro viz run --host 127.0.0.1

mlflow: env ## Show runs, curves and models on http://127.0.0.1:5000
	@echo "Training runs: $(runs)"
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false \
		$(bin)/mlflow server --host 127.0.0.1 --port 5000 --workers 1 \
		--backend-store-uri sqlite:///mlflow.db --artifacts-destination mlartifacts

serve: env ## Serve the champion on http://127.0.0.1:5001
	@$(bin)/kedro serve

page: env ## Type, draw and collect kanji on http://127.0.0.1:5002; PORT=5003, MODEL=released for another
	@$(bin)/kedro page --port="$(or $(PORT),5002)" $(if $(MODEL),--model="$(MODEL)")

prune: env ## Show what old versions and checkpoints take; KEEP=3 stay, YES=1 removes the others
	@$(bin)/kedro prune --keep="$(or $(KEEP),3)" $(if $(filter 1,$(YES)),--yes)

lint: env ## Check style, types and who imports whom
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/mypy
	@$(bin)/lint-imports --no-logo --no-cache

lock: env ## Resolve the dependencies of pyproject.toml into requirements.lock
	@$$(command -v uv || echo .tools/bin/uv) pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --extra dev pyproject.toml --output-file requirements.lock

clean: ## Remove what tools keep to be faster
	@rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find benchmarks scripts src tests -name __pycache__ -prune -exec rm -rf {} +
