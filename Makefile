# Each target sets up the virtual environment on first use and is quick afterwards.
PYTHON ?= /usr/bin/python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2
PREFIX ?= /opt/scheduler
LOCK   := $(BIN)/uv pip compile pyproject.toml --generate-hashes --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links -q

# Hundreds of processes are started: each would compile thousands of lines once more.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run install uninstall test check soak faults bench docs lock format clean

run: $(STAMP)  ## the demo: the embedded API, the daemon and an automation that is due every minute
	$(BIN)/scheduler up --demo

install:  ## as root: the services, from this checkout; again for an upgrade. PREFIX says where, PYTHON with which interpreter
	PREFIX=$(PREFIX) PYTHON=$(PYTHON) deploy/install.sh install

uninstall:  ## as root: takes away what install has made, and leaves settings, ledger and users
	PREFIX=$(PREFIX) deploy/install.sh uninstall

# Of the first tests, too, some wait for a process or a connection: one worker more than there are cores has something to do meanwhile.
test: check  ## all checks and every test
	$(BIN)/pytest -n $$(( $(JOBS) + 1 )) --dist worksteal -m 'not waiting'
	$(BIN)/pytest -n $$(( 3 * $(JOBS) )) --dist loadscope --no-loadscope-reorder -m waiting

check: $(STAMP)  ## formatting, lint, types, layers
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

soak: $(STAMP)  ## simulations on all cores: SEEDS of them, beginning with FROM; exit status 1 on any violation
	$(BIN)/python -m tests.simulation soak --seeds $(or $(SEEDS),1000) --from $(or $(FROM),0)

faults: $(STAMP)  ## MINUTES of real faults, drawn from SEED or from a seed that it prints; exit status 1 on any violation
	$(BIN)/python -m tests.faults --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED)) $(if $(FOLDER),--folder $(FOLDER))

bench: $(STAMP)  ## the figures of docs/performance.md
	$(BIN)/python -m bench

docs: $(STAMP)  ## makes docs/commands.md anew from the commands' own help
	$(BIN)/python -m tests.commands_page

format: $(STAMP)
	$(BIN)/ruff format -q .
	$(BIN)/ruff check -q --fix .

lock: $(STAMP)  ## makes both locks anew from pyproject.toml: everything, and of that what `make install` needs
	$(LOCK) --group dev --upgrade -o requirements.lock
	$(LOCK) --group build --constraint requirements.lock --upgrade -o requirements-run.lock

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) var build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
