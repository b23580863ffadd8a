.DEFAULT_GOAL := help
.PHONY: help setup fmt check test test-ray test-gpu docs smoke

help: ## Show the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-10s %s\n", $$1, $$2}'

setup: ## Install the package with what its checks need.
	pip install -e ".[dev]"

fmt: ## Format the code.
	ruff check --fix . && ruff format .

check: ## Lint, types, import contracts.
	ruff check . && ruff format --check . && mypy && lint-imports --no-cache

test: ## Tests that need no Ray cluster.
	pytest tests/unit tests/docs tests/laws

test-ray: ## Tests on a local Ray cluster.
	pytest tests/ray tests/jobs tests/faults tests/cluster tests/clusters

test-gpu: ## Tests that need a CUDA device.
	pytest tests/gpu -m gpu

docs: ## Write the generated pages and build the site.
	python docs/reference/generate.py && mkdocs build --strict

smoke: ## Train the quickstart from nothing, in a folder that is deleted afterwards.
	folder=$$(mktemp -d) && rayft train jobs/quickstart.yaml storage_path=$$folder && rm -r $$folder
