# Each target sets up the virtual environment on first use and is quick afterwards.
.DEFAULT_GOAL := help
PYTHON  ?= /usr/bin/python3
VENV    ?= .venv
BIN     := $(VENV)/bin
PROGRAM := $(VENV)/.program-installed
STAMP   := $(VENV)/.installed
JOBS    ?= 2
PREFIX  ?= /opt/scheduler
LOCK    := $(BIN)/uv pip compile pyproject.toml --generate-hashes --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links -q

# The tests without processes, sockets and waits, for the rules that most edits touch.
QUICK := tests/core tests/settings tests/database tests/ledger \
	tests/test_names.py tests/test_docs.py tests/test_docs_named.py tests/test_rules.py tests/test_release.py

define CHECKS
$(BIN)/ruff format --check -q .
$(BIN)/ruff check -q .
$(BIN)/mypy
$(BIN)/lint-imports --no-logo
endef

# Hundreds of processes are started: each would compile thousands of lines once more.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run install uninstall test computing waiting quick check soak faults bench docs lock format release clean

help:  ## show this list
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

run: $(PROGRAM)  ## start the demo: the embedded API and the daemon
	$(BIN)/scheduler up --demo

# PREFIX says where, PYTHON with which interpreter.
install:  ## as root: install or upgrade the services from this checkout
	PREFIX=$(PREFIX) PYTHON=$(PYTHON) deploy/install.sh install

uninstall:  ## as root: remove the services; keep settings, ledger and users
	PREFIX=$(PREFIX) deploy/install.sh uninstall

# The tests that wait are beside the others: while they wait, the others compute. A test that waits for the full minute
# must not be late, so the others get the processor after it. Of the others, too, some wait for a process or a
# connection: one worker more than there are cores has something to do meanwhile.
test: check  ## run all checks and every test
	@$(MAKE) --no-print-directory -j 2 computing waiting

computing: $(STAMP)  ## run the tests that mostly compute
	nice -n 10 $(BIN)/pytest -n $$(( $(JOBS) + 1 )) --dist worksteal -m 'not waiting'

# Their output comes in one piece, below that of the others.
waiting: $(STAMP)  ## run the tests that mostly wait
	@$(BIN)/pytest -n $$(( 3 * $(JOBS) )) --dist loadscope --no-loadscope-reorder -m waiting >$(VENV)/waiting.log 2>&1; \
	status=$$?; cat $(VENV)/waiting.log; exit $$status

# VENV and PYTHON choose another Python: see .ci/run.
quick: $(STAMP)  ## check the code and run the quick tests, in under a minute
	$(CHECKS)
	$(BIN)/pytest -q -n $(JOBS) --dist worksteal $(QUICK)

check: $(STAMP)  ## check formatting, lint, types and layers
	$(CHECKS)

# Exit status 1 on any violation.
soak: $(STAMP)  ## simulate on all cores: SEEDS seeds, beginning with FROM
	$(BIN)/python -m tests.simulation soak --seeds $(or $(SEEDS),1000) --from $(or $(FROM),0)

# Without SEED the command draws a seed and prints it. Exit status 1 on any violation.
faults: $(STAMP)  ## play MINUTES of real faults, drawn from SEED
	$(BIN)/python -m tests.faults --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED)) $(if $(FOLDER),--folder $(FOLDER))

bench: $(STAMP)  ## measure the figures of docs/performance.md
	$(BIN)/python -m bench

docs: $(STAMP)  ## write the parts of docs/ that are made from the code
	$(BIN)/python -m tests.commands_page
	$(BIN)/python -m tests.states_page

format: $(STAMP)  ## format the code and apply the fixes of the linter
	$(BIN)/ruff format -q .
	$(BIN)/ruff check -q --fix .

# requirements-run.lock is the part of requirements.lock that `make run` and `make install` need.
lock: $(STAMP)  ## write both lock files from pyproject.toml
	$(LOCK) --group dev --upgrade -o requirements.lock
	$(LOCK) --group build --constraint requirements.lock --upgrade -o requirements-run.lock

# `make run` installs the packages of the program only. The tools for development are eight times as large.
$(PROGRAM): requirements-run.lock pyproject.toml
	$(call install,requirements-run.lock)
	@touch $@

$(STAMP): requirements.lock pyproject.toml
	$(call install,requirements.lock)
	@touch $(PROGRAM) $@

# $(call install,LOCK): put the packages of LOCK and this checkout into the virtual environment. pip shows its progress.
define install
	@echo "Setting up $(VENV) with the packages of $(1): once, for about a minute."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is missing or older than Python 3.11: set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r $(1)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
endef

# hatchling builds both from this checkout, and fetches nothing. The commands that publish are for people.
release: check  ## check, build sdist and wheel, print the next steps
	rm -rf dist
	$(BIN)/python -m hatchling build
	@version=$$($(BIN)/python -c 'import scheduler; print(scheduler.__version__)'); \
		echo "Built dist/ of version $$version. Next, by hand:"; \
		echo "  1. make test, and git status: everything is committed"; \
		echo "  2. git tag -a v$$version -m 'Version $$version'"; \
		echo "  3. git push origin main v$$version"; \
		echo "  4. upload dist/*, with the section [$$version] of CHANGELOG.md as its notes"; \
		echo "  5. install the wheel on a machine: docs/upgrade-and-move.md"

clean:  ## remove the virtual environment, the state of the demo, caches
	rm -rf $(VENV) .venv-* var build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
