# Every target installs what it needs into .venv first; the first command ever typed may be any of them.
PYTHON ?= python3.11
BIN := .venv/bin
SOURCES := clientsdk shard router tests loadtests
.DEFAULT_GOAL := help

.venv/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Holdfast needs Python 3.11 as '$(PYTHON)'; or say: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.venv/load-installed: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,load]'
	@touch $@

# The hot modules of nodes and routers, by mypyc; without a C compiler they run the sources.
.venv/compiled: .venv/installed $(wildcard clientsdk/holdfast/wire/*.py shard/holdfast_shard/*.py shard/holdfast_shard/*/*.py router/holdfast_router/*.py router/holdfast_router/*/*.py)
	-$(BIN)/python -m holdfast_shard.compiling
	-$(BIN)/python -m holdfast_router.compiling
	@touch $@

.PHONY: help install up test check fmt bench load compare sim mutants fuzz api coverage proto clean failover chaos extent
help:  ## What there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: .venv/installed  ## Make .venv

up: .venv/compiled  ## Run the service here: three nodes, two groups, one router
	$(BIN)/holdfast up

# Each worker takes tests that lie together: those of a folder share a cluster, which else all would start.
test: .venv/compiled  ## All fast tests, three at a time, for many wait
	$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not long'

check: .venv/installed  ## Lint, format, types, layers
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy clientsdk/holdfast shard/holdfast_shard router/holdfast_router tests
	$(BIN)/lint-imports

fmt: .venv/installed  ## Format, and mend what can be mended
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: .venv/load-installed .venv/compiled  ## Figures of a local cluster, medians of five: BENCH='--concurrency 256 --flame load-reports'
	$(BIN)/python -m loadtests.bench --json load-reports/bench.json $(BENCH)

load: .venv/load-installed .venv/compiled  ## Load test by Locust: SCENARIO= THROUGH= SHAPE= USERS= SECONDS= WORKERS=; see loadtests/README.md
	$(BIN)/python -m loadtests.locust.run $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(THROUGH),--through $(THROUGH)) $(if $(SHAPE),--shape $(SHAPE)) $(if $(USERS),--users $(USERS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(WORKERS),--workers $(WORKERS)) $(LOAD)

compare: .venv/load-installed .venv/compiled  ## Holdfast beside Redis, Redlock, etcd, ZooKeeper and PostgreSQL; shorter: COMPARE='--peers holdfast redis'
	$(BIN)/python -m loadtests.compare --json load-reports/compare.json --chart load-reports/compare.svg $(COMPARE)

failover: .venv/compiled  ## Kill, stop and restart nodes under load; judge every belief, measure the gaps
	$(BIN)/python -m tests.chaos.failover --rounds 10 --fault kill
	$(BIN)/python -m tests.chaos.failover --rounds 5 --fault stop
	$(BIN)/python -m tests.chaos.failover --rounds 3 --fault all
	if [ "$$(id -u)" = 0 ]; then for fault in both unheard deaf; do $(BIN)/python -m tests.chaos.failover --rounds 5 --fault $$fault || exit 1; done; fi

MINUTES ?= 10
chaos: .venv/compiled  ## Processes, links, disks and clocks fail for MINUTES (10) under load; the history is judged
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

mutants: .venv/installed  ## Seed every known bug in turn; show which test or seed catches it
	$(BIN)/python -m tests.mutants

extent: .venv/load-installed .venv/compiled  ## How far a cluster goes: waiters, sessions, expiry, locks held, groups
	for what in names waiters sessions expiring rows million locks groups "groups --levels 16 --nodes 6"; do $(BIN)/python -m loadtests.extent $$what || exit 1; done

SEEDS ?= 10000
sim: .venv/installed  ## Simulate the whole system, SEEDS=10000 times; replay one: .venv/bin/python -m tests.simulation replay SEED
	$(BIN)/python -m tests.simulation many --seeds $(SEEDS)

fuzz: .venv/installed  ## Any bytes to everything that reads bytes, led by coverage, for SECONDS=60
	$(BIN)/python -m tests.fuzz -max_total_time=$(or $(SECONDS),60)

api: .venv/installed  ## Requests made up from the OpenAPI document, 200 for each operation
	$(BIN)/python -m pytest -m long tests/contract

coverage: .venv/installed  ## Branch coverage of the state machines and the engine by their fast tests; at least 95 %
	$(BIN)/python -m coverage run -m pytest -m 'not long' --timeout=300 tests/machine tests/consensus tests/fuzz
	$(BIN)/python -m coverage report
	$(BIN)/python -m tests.branches

proto: .venv/installed  ## Generate the committed stubs of clientsdk/holdfast/v1 from its .proto files
	$(BIN)/python -m grpc_tools.protoc -Iclientsdk --python_out=clientsdk --pyi_out=clientsdk clientsdk/holdfast/v1/*.proto
	$(BIN)/python -m grpc_tools.protoc -Iclientsdk --grpc_python_out=clientsdk $$(grep -l '^service' clientsdk/holdfast/v1/*.proto)

clean:  ## Remove everything that can be made again
	rm -rf .venv build dist *.egg-info clientsdk/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
