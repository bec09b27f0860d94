# One command for everything a person does in this repository; `make` alone lists them.
# Each target sets up what it needs, with nothing on the machine but Python 3.11+, make and git.

PYTHON ?= python3
WORKERS ?= 2
ARGS ?=

UV_VERSION := 0.13.9
UV := .local/uv-$(UV_VERSION)/bin/uv
READY := .venv/.ready
CLIENT := .local/pipedrive-client/.ready
CLIENT_LOCK := tests/integration/connectors/pipedrive_client
BIN := .venv/bin

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup check cluster client crds test demo chaos simulate bench format clean

# Logs are read in files more often than on screens.
export NO_COLOR := 1
# The environment uses the Python that is there, and no other.
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv
export UV_NO_PROGRESS := 1

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  demo, chaos and bench take arguments: make chaos ARGS=--help"

setup: $(READY) ## Make or renew the environment in .venv

check: $(READY) ## Lint, check the format, the types and the layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Looks for a Kubernetes control plane, and builds one if there is none: some eight minutes, once on a machine.
cluster: $(READY) ## Provide the programs of the test cluster
	@$(BIN)/python tests/cluster/provision.py

client: $(CLIENT) ## Install Pipedrive's own client, which tests the simulated Pipedrive

crds: $(READY) ## Generate the resource definition and its reference from contracts/
	$(BIN)/python -m contracts.custom_resource
	rm -rf charts/integration-layer/files/crds
	cp -r crds charts/integration-layer/files/crds

# Both runs always happen, so that one failure does not hide another. Exit code 5 says that no test is marked serial.
test: check cluster client ## Check, then run every test
	@status=0; \
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not serial" || status=$$?; \
	$(BIN)/python -m pytest -m serial || { code=$$?; test $$code -eq 5 || status=$$code; }; \
	exit $$status

# Standard output is the demo's own: with --json it is read by programs.
demo: $(READY) ## Run the whole layer on this machine against simulated partners
	@$(BIN)/integrations local --demo examples/local $(ARGS)

# Half a minute of it runs in `make test`. Standard output is the account: with --json it is read by programs.
chaos: $(READY) ## Break everything at random for a while, then account for every event
	@$(BIN)/python -m chaos $(ARGS)

# Four seeds a weather run in `make test`.
simulate: $(READY) ## Let workers work in 40 simulated worlds a weather, where time and chance are the test's
	SIMULATION_SEEDS=40 $(BIN)/python -m pytest -n $(WORKERS) tests/unit/delivery/test_simulated_workers.py

bench: $(READY) ## Measure it
	$(BIN)/python -m benchmarks $(ARGS)

format: $(READY) ## Format the code and repair what can be repaired
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove the environment and all caches; the demo's data in .local stay
	rm -rf .venv .local/uv-* .local/pipedrive-client dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml uv.lock | $(UV)
	@$(UV) sync --frozen --all-extras --python "$$(command -v $(PYTHON))" >&2
	@touch $@

# Node comes in a wheel, into an environment of its own. Packages are what the lock file says; their scripts do not run.
$(CLIENT): $(CLIENT_LOCK)/package.json $(CLIENT_LOCK)/package-lock.json uv.lock | $(UV)
	@mkdir -p $(@D) && cp $(CLIENT_LOCK)/package.json $(CLIENT_LOCK)/package-lock.json $(@D)
	@UV_PROJECT_ENVIRONMENT=$(@D)/node $(UV) sync --frozen --quiet --only-group node --python "$$(command -v $(PYTHON))"
	@PATH="$(CURDIR)/$(@D)/node/bin:$$PATH" npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# Built beside its place and moved there: a second make at the same time finds all of it or nothing.
$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed as $(PYTHON); name another one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@mkdir -p .local
	@building=".local/uv-building-$$$$"; trap 'rm -rf "$$building"' EXIT; \
	$(PYTHON) -m venv "$$building" || \
		{ echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	"$$building/bin/python" -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) && \
	{ test -e $(@D) || mkdir -p $(@D); } && mv -f "$$building/bin/uv" $@
