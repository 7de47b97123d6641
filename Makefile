# make demo: set up and run the main job.  make test: set up and run every test.
# make check: lint, types, import rule, unit tests (what a change must pass before it is pushed).
PYTHON ?= python3
BIN := .venv/bin
# pip's own time-stamped tools for the job's tests, kept apart from the locked environment
PYTEST_SITE := build/pytest-site

.DEFAULT_GOAL := help
.PHONY: help demo check lint test unit unit-first unit-others startup jobs-test integration models containers slurm slurm-up slurm-down soak residuals oracle lock clean

help:
	@sed -n 's/^# //p' $(MAKEFILE_LIST) | head -2

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ .venv/installed

$(PYTEST_SITE)/installed: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target $(PYTEST_SITE) 'pytest>=9,<10'
	@touch $@

demo: .venv/installed
	$(BIN)/launch --strategy qlora --max-cost 10

check: lint unit

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two lanes of one process each, about as long: what pytest-xdist's processes tell each other took a
# third of the tests' own time. What is in no lane by name is in the second.
FIRST_LANE := $(wildcard tests/unit/test_*.py tests/unit/launcher/test_*.py) tests/unit/launcher/catalog

unit: .venv/installed-test
	+$(MAKE) --no-print-directory -j2 --output-sync=target unit-first unit-others

unit-first: .venv/installed-test
	@$(BIN)/python -m pytest $(FIRST_LANE)

unit-others: .venv/installed-test
	@$(BIN)/python -m pytest tests/unit $(FIRST_LANE:%=--ignore %)

# What starting costs, in CPU time: nothing may run beside it.
startup: .venv/installed-test
	$(BIN)/python -m pytest tests/startup

# The job's own tests run in the training environment, which the launcher makes on first use.
jobs-test: .venv/installed-test $(PYTEST_SITE)/installed
	OMP_NUM_THREADS=1 PYTHONPATH=$(PYTEST_SITE):. $$($(BIN)/python -m launcher.executors.environment) -P -m pytest tests/jobs

ROOMS := slurm models containers # of tests/integration: each has a target of its own

integration: .venv/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/integration $(ROOMS:%=--ignore tests/integration/%)

# Models trained to some use, and shipped; the training image, and jobs in it by Docker and Podman.
models containers: .venv/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/integration/$@

# SkyPilot on a local Slurm cluster: needs root and Slurm's packages, and says so where they lack.
slurm: .venv/installed-test
	$(BIN)/python -m pytest tests/integration/slurm

# Each keeps to one thread (threads that wait for each other spin), and the cluster's wait much: three
# at a time on two cores, the longest first, each one's output when it has ended.
test: unit startup $(PYTEST_SITE)/installed
	+$(MAKE) --no-print-directory -j3 --output-sync=target slurm integration jobs-test models containers

# A local Slurm cluster with pretended GPUs, as the tests have it, and a SkyPilot that uses it (root).
slurm-up slurm-down: .venv/installed-test
	$(BIN)/python -m tests.integration.slurm $(@:slurm-%=%)

# The long ones: a pretrained model trained longer and in both strategies, a student on thousands of
# verses, half a billion parameters in 4.5 GB of RAM, our job against a plain TRL script, a GiB through
# a store and beside `aws s3 cp`; on a local Slurm cluster twenty kills at random moments
# (LORALIFT_SOAK_KILLS, LORALIFT_SOAK_SEED).
soak: .venv/installed-test
	$(BIN)/python -m benchmarks.soak

# our estimates against published measurements
residuals: .venv/installed
	$(BIN)/python -m benchmarks.vram_residuals
	$(BIN)/python -m benchmarks.throughput_residuals

# our memory model against a simulation of the job's step: docs/measured/oracle.csv
oracle: .venv/installed
	$(BIN)/python -m benchmarks.vram_oracle "$$($(BIN)/python -m launcher.executors.environment)" --write

# images/*.lock anew, from pyproject
lock: | $(BIN)/python
	$(BIN)/python images/lock.py

clean:
	rm -rf .venv build dist runs
