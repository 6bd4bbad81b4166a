# Needs python3 >= 3.11, make and git; everything else is installed into .venv.
#
#   make demo    install what the demo needs and run it
#   make test    install everything and run the tests
#   make extras  build the wheel and try each extra alone in a fresh environment
#   make test-lowest, make test-newest  the core's tests with the oldest and the newest dependencies that pyproject.toml allows
#   make test-python PYTHON=python3.13  the demo and the core's tests with that interpreter
#   make packages  build sdist and wheel, check them, and try each by itself
#   make test-all  also the tests that take minutes or install things: test-long, test-examples, test-over-ray, extras
#   make test-portable  the tests of one process, client, command line and console as on a system that is not Linux
#   make npm     agents and servers that the long tests run for real; test-long does it by itself
#   make model   100,000 random sequences, the core against a naive model; MODEL_ARGS="--first 100000"
#   make histories  calls to a real runtime under faults, judged; HISTORY_ARGS="run --seconds 600", "campaign", or "check FILE…"
#   make pairs   two runtimes over one store take over from each other under load, judged; PAIR_ARGS="--minutes 25 --store postgres"
#   make fuzz    damaged bytes and values for every parser of what comes from outside; FUZZ_ARGS="--seconds 60"
#   make powerloss  what a loss of power may leave of a ledger, built from a record, opened and judged; POWERLOSS_ARGS="--images 100"
#   make toolbox  the bounds of backup, prune and verify, measured; TOOLBOX_ARGS="verify --entries 100000"
#   make figures  the tables of docs/reliability.md and README.md, from what make simulate, histories, model, planted, powerloss and toolbox put on record
#   make planted  bugs put into a copy of the sources, each to be caught; PLANTED_ARGS="NAME…"
#   make bench   compare with DBOS, Restate and LangGraph; BENCH_ARGS="--quick", or --help
#   make scale   how figures grow with what a ledger holds; SCALE_ARGS="--sizes 0,1000", or --help
#   make availability  how long after each kind of fault answers are accepted again; AVAILABILITY_ARGS="--before PATH"
#   make hour    an operator's hour at the console, before claims and review mode, and now; HOUR_ARGS="--waits 24", or --help
#   make up      a runtime in the foreground with the example tasks
#   make notebooks  execute the notebooks and render them into docs/notebooks
#   make tables  the tables of the docs, and what they say of features: from operations, entry kinds, errors, commands, methods of clients, keys
#   make animation  the moving picture of the README, drawn by the console
#   make typescript  the TypeScript client as a package in build/typescript; needs npm
#   make site    the docs as a site in build/site
#   make gauges  the shape of the sources, where code names a feature, docstrings, names, walks and commits of calls
#   make sbom    what an installation consists of, as CycloneDX, in build/sbom.json
#   make release  what later versions are held against: names, routes and options of this one, and a ledger that it wrote
#   make recordings  sessions of the examples, which their code has to fit
#   make lint    ruff, mypy --strict, import contracts
#
# Another interpreter: make test PYTHON=python3.12. More pytest options: make test PYTEST_ARGS="-k wait -x". Six workers:
# make test WORKERS=6.

PYTHON ?= python3
TASKS ?= helmr.examples.publish_review helmr.examples.chat helmr.examples.release
PYTEST_ARGS ?=
WORKERS ?= 4
MODEL_ARGS ?=
BENCH_ARGS ?=
SCALE_ARGS ?=
FUZZ_ARGS ?=
HISTORY_ARGS ?= run
HOUR_ARGS ?=
PAIR_ARGS ?=
AVAILABILITY_ARGS ?=
PLANTED_ARGS ?=
POWERLOSS_ARGS ?=
TOOLBOX_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Ray would start each worker through `uv run`, in an environment of its own.
export RAY_ENABLE_UV_RUN_RUNTIME_ENV := 0
# uv installs no bytecode. Kept from writing it, each of a runtime's processes would compile Ray anew: 27 s of CPU for a
# start, where 8.5 s are enough.
unexport PYTHONDONTWRITEBYTECODE
# Four workers for two cores: half of their time they wait for processes and screens (two left the cores 48 % idle). Each
# takes the next file when it has done one. The bound is for what hangs: `test-long` took 69 and 84 minutes on one machine.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --session-timeout 10800
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test test-all test-long npm gate-newest test-examples test-over-ray extras packages test-lowest test-newest test-python model histories pairs fuzz planted powerloss toolbox figures bench scale availability hour soak simulate simulate-pairs perf gauges notebooks tables animation recordings release typescript site sbom lint format up lock clean

help:
	@sed -n 's/^#   //p' Makefile

# A stamp stands for a finished install and lives in .venv, so that deleting the folder forgets it.
$(VENV)/.stamp-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: Helmr needs Python 3.11 or newer; '$(PYTHON)' is missing or older. Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: '$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.stamp-uv: $(VENV)/.stamp-python constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@touch $@

$(VENV)/.stamp-demo: $(VENV)/.stamp-uv pyproject.toml constraints.txt
	$(UV) pip install --quiet --constraint constraints.txt --editable '.[runtime,console]'
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-uv pyproject.toml constraints.txt
	$(UV) pip install --quiet --constraint constraints.txt --editable '.[runtime,console,experiments,notebooks,otel,sql,docs,dev]'
	@touch $(VENV)/.stamp-demo $@

$(VENV)/.stamp-bench: $(VENV)/.stamp-uv pyproject.toml constraints.txt
	$(UV) pip install --quiet --constraint constraints.txt --editable '.[runtime,bench]'
	@touch $@

$(VENV)/.stamp-servers: $(VENV)/.stamp-dev pyproject.toml constraints.txt
	$(UV) pip install --quiet --constraint constraints.txt --editable '.[servers]'
	@touch $@

venv: $(VENV)/.stamp-dev

demo: $(VENV)/.stamp-demo
	$(BIN)/helmr demo

up: $(VENV)/.stamp-demo
	$(BIN)/helmr up $(TASKS)

test: $(VENV)/.stamp-dev
	$(PYTEST) $(PYTEST_ARGS)

# Installs what it tries: needs the package index, or a filled cache of uv.
extras: $(VENV)/.stamp-dev
	$(BIN)/python -m pytest -m "extras and not long" $(PYTEST_ARGS)

packages: $(VENV)/.stamp-dev
	$(BIN)/python -m pytest -m extras tests/extras/test_packages.py $(PYTEST_ARGS)

# The product's own requirements at one end of their ranges; tools of the tests stay as they are pinned.
RESOLUTION_lowest := lowest-direct
RESOLUTION_newest := highest
CORE := tests/core tests/sdk tests/replay tests/forms

test-lowest test-newest: test-%: $(VENV)/.stamp-dev
	mkdir -p .bench
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .bench/$*
	VIRTUAL_ENV=$(CURDIR)/.bench/$* $(BIN)/uv pip install --quiet --constraint constraints.txt \
	  --editable '.[runtime,console,experiments,notebooks,otel,sql,docs,dev]'
	$(BIN)/uv pip compile --quiet pyproject.toml --extra runtime --extra console --extra otel --extra sql --extra experiments \
	  --python $(BIN)/python --resolution $(RESOLUTION_$*) --no-annotate --no-header --output-file .bench/$*.txt
	VIRTUAL_ENV=$(CURDIR)/.bench/$* $(BIN)/uv pip install --quiet --requirement .bench/$*.txt
	.bench/$*/bin/python -m pytest $(CORE) $(PYTEST_ARGS)

# In an environment of its own, with the versions of constraints.txt.
OTHER := .bench/$(notdir $(PYTHON))

test-python: $(VENV)/.stamp-dev
	mkdir -p .bench
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(OTHER)
	VIRTUAL_ENV=$(CURDIR)/$(OTHER) $(BIN)/uv pip install --quiet --constraint constraints.txt \
	  --editable '.[runtime,console,experiments,notebooks,otel,sql,docs,dev]'
	$(OTHER)/bin/helmr demo
	$(OTHER)/bin/python -m pytest $(CORE) $(PYTEST_ARGS)

# Goes on behind what failed, and fails at its end.
test-all: $(VENV)/.stamp-dev
	@$(MAKE) --keep-going --no-print-directory test test-long test-examples test-over-ray extras

test-long: $(VENV)/.stamp-servers npm
	$(PYTEST) -m "long and not soak and not perf" $(PYTEST_ARGS)

# Agents and servers that long tests run for real. Where npm or its registry is missing these tests are skipped.
npm:
	@command -v npm >/dev/null || { echo "note: npm is missing; tests with real agents are skipped" >&2; exit 0; }; \
	mkdir -p .bench && \
	{ cmp -s tests/programs/gate/package.json .bench/.installed || \
	  { cp tests/programs/gate/package.json .bench/package.json && \
	    npm install --prefix .bench --no-audit --no-fund --loglevel=error && \
	    cp tests/programs/gate/package.json .bench/.installed; } || \
	  echo "note: npm could not install; tests with real agents are skipped" >&2; }

# The newest Claude Code and Codex in each of their modes. Fails where they have come to differ from what was tried; the
# versions that the long tests run are those of tests/programs/gate/package.json.
gate-newest: $(VENV)/.stamp-dev
	npm install --prefix .bench/newest --no-audit --no-fund --loglevel=error \
	  @anthropic-ai/claude-code@latest @openai/codex@latest
	HELMR_GATE_CLIENTS=$(CURDIR)/.bench/newest $(PYTEST) -m long tests/gate $(PYTEST_ARGS)

# The tests of properties again, with all their examples.
test-examples: $(VENV)/.stamp-dev
	HELMR_TEST_EXAMPLES=all $(PYTEST) -m "hypothesis and not soak and not perf and not long and not extras" $(PYTEST_ARGS)

# The tests of faults and of the contract again, with calls through Ray.
test-over-ray: $(VENV)/.stamp-dev
	HELMR_TEST_TRANSPORT=ray $(PYTEST) -m "transports and not soak and not perf and not extras" $(PYTEST_ARGS)

# Figures of one run are to be compared with one another only; docs/performance.md says how to read them.
bench: $(VENV)/.stamp-bench
	$(BIN)/python -m tests.programs.benchmarks $(BENCH_ARGS)

# Says which replies were met how often. A difference ends it: the seed, and the shortest sequence that still differs.
model: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.model $(MODEL_ARGS)

# Builds ledgers in .bench/scale once and keeps them: the largest takes ten minutes or more, and 2 GB.
scale: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.benchmarks.scale $(SCALE_ARGS)

# A real runtime is killed and stopped, part by part, while callers send; --before alternates with another checkout.
availability: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.benchmarks.availability $(AVAILABILITY_ARGS)

# Makes a checkout of the commit before claims in .bench once, with an environment of its own.
hour: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.operators_hour $(HOUR_ARGS)

# Minutes to hours of faults; not part of `make test`.
soak: $(VENV)/.stamp-dev
	$(BIN)/python -m pytest -m soak --timeout=0 $(PYTEST_ARGS)

# Seeded histories of the whole system in one process: SIMULATE_ARGS="--seconds 3600", or the line that a failure printed.
simulate: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.simulation --probes $(SIMULATE_ARGS)
	$(BIN)/python -m tests.programs.simulated_pair --probes $(SIMULATE_ARGS)

# Of them only those of two runtimes that share the log in a store.
simulate-pairs: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.simulated_pair --probes $(SIMULATE_ARGS)

# Histories of calls to a real runtime under faults, checked: HISTORY_ARGS="run --seconds 600", or "check FILE…".
histories: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.histories $(HISTORY_ARGS)

# A SeaweedFS or PostgreSQL of its own is killed too, and cut off. Numbers mean something on a machine that does nothing else.
pairs: $(VENV)/.stamp-servers
	$(BIN)/python -m tests.programs.pairs $(PAIR_ARGS)

# Ends with the smallest input that a parser answers with anything but a value or the error that it documents.
fuzz: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.fuzz $(FUZZ_ARGS)

# Each patch of tests/programs/planted in a copy of the sources: what is to catch it passes without it and fails with it.
planted: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.planted $(PLANTED_ARGS)

# Needs a C compiler: a library that the recorded process loads sees its writes and syncs.
powerloss: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.powerloss $(POWERLOSS_ARGS)

# The ledger that is measured is built once, in .bench/toolbox.
toolbox: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.toolbox.bounds $(TOOLBOX_ARGS)

# What the runs with --record have written down; docs/reliability-figures.json.
figures: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.figures

# Numbers mean something only on a machine that does nothing else.
perf: $(VENV)/.stamp-dev
	$(BIN)/python -m pytest -m perf --timeout=0 -p no:randomly $(PYTEST_ARGS)

# Executed in fresh kernels; the notebooks stay as they are, without outputs.
notebooks: $(VENV)/.stamp-dev
	$(BIN)/python notebooks/build.py

tables: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.docs.tables

release: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.surface
	$(BIN)/python -m tests.fixtures.releases.make

recordings: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.examples.record

animation: $(VENV)/.stamp-dev
	HELMR_UPDATE_GOLDENS=1 $(BIN)/python -m pytest -m long tests/console/flow/test_animation.py

# What one process, client, command line and console need, with Linux's own ways taken away.
test-portable: $(VENV)/.stamp-dev
	HELMR_PORTABLE=1 $(PYTEST) tests/core tests/replay tests/session tests/ledger tests/http tests/service tests/client tests/cli tests/console tests/sdk tests/security tests/process $(PYTEST_ARGS)

# The package for npm, in build/typescript; needs npm.
typescript: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.typescript

site: $(VENV)/.stamp-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Of all extras that a user may want; for some: .venv/bin/python -m tests.sbom runtime mcp
sbom: $(VENV)/.stamp-dev
	mkdir -p build
	$(BIN)/python -m tests.sbom > build/sbom.json

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=.:runtime:console $(BIN)/lint-imports --no-logo

format: $(VENV)/.stamp-dev
	$(BIN)/ruff check --fix-only --exit-zero
	$(BIN)/ruff format

gauges: $(VENV)/.stamp-dev
	$(BIN)/python -m tests.programs.gauges

# Raises every pin as far as pyproject.toml allows. Where the packages came from is nobody's business: no URLs.
lock: $(VENV)/.stamp-uv
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
	  --no-header --no-annotate --quiet --output-file $(VENV)/constraints.new
	{ echo "# Compiled by 'make lock' from pyproject.toml; do not edit."; \
	  grep -E '^[A-Za-z0-9]' $(VENV)/constraints.new; } > constraints.txt

# Leaves .helmr/, a runtime's data, alone.
clean:
	rm -rf $(VENV) .bench build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find helmr runtime console tests -name __pycache__ -type d -prune -exec rm -rf {} +
