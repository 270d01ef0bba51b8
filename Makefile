# Everything a fresh Debian or Ubuntu machine needs is installed on the way, by root or with sudo.

VENV := .venv/bin
# Further words for the program, pytest or the benchmark:  make test ARGS="-k clone"
ARGS ?=
# Tests at the same time; most of them wait for servers.
WORKERS ?= 4
# What became of each test of `make test`.
REPORT := build/tests.xml

.PHONY: help setup demo servers test test-again check lint format bench soak windows clean

help:
	@echo "make demo     install what is needed and watch studies cross, on made-up data"
	@echo "make test     install what is needed, the real servers too, and run all checks and tests"
	@echo "make windows  build both Windows installers under Wine, and prove them, into dist/"
	@echo "make setup    install the program into .venv (then: .venv/bin/dicom-ferry)"
	@echo "make servers  install the real servers that the tests use"
	@echo "make lint     style and types only        make format   put the style right"
	@echo "make bench    measure against other ways  make soak     the long tests"

setup:
	@installer/setup/program.sh

# Real Orthanc servers make the demo better; it does without where they cannot be installed.
demo: setup
	@orthanc=$$(installer/setup/servers.sh --for-demo) || echo "Going on without Orthanc servers."; \
	PATH="$${orthanc:+$$orthanc:}$$PATH" $(VENV)/dicom-ferry demo $(ARGS)

servers:
	@installer/setup/servers.sh

test:
	@rm -f $(REPORT)
	@installer/setup/program.sh test
	@installer/setup/servers.sh
	@$(MAKE) --no-print-directory check
	$(VENV)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 20 \
		--junit-xml $(REPORT) $(ARGS)

# After a `make test` in which a few tests failed: those alone, with nothing beside them.
test-again:
	@$(VENV)/python -m tests.again $(REPORT)

lint:
	@installer/setup/program.sh test
	@$(MAKE) --no-print-directory check

check:
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

format:
	@installer/setup/program.sh test
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

bench:
	@installer/setup/program.sh test bench
	@installer/setup/servers.sh
	$(VENV)/python -m tests.bench $(ARGS)

soak:
	@installer/setup/program.sh test
	@installer/setup/servers.sh
	$(VENV)/pytest -m soak --timeout 0 -o faulthandler_timeout=0 $(ARGS)

# Parts alone:  make windows ARGS="--only installers --only msi"
windows:
	@installer/setup/program.sh test freeze
	@installer/setup/servers.sh
	@installer/setup/windows.sh
	$(VENV)/python -m installer.windows $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
