# Everything a fresh clone needs. `make` alone says what there is.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
# spelled out for the make of macOS, which knows no .SHELLFLAGS
SAFE := set -eu -o pipefail;
PIP := -m pip --disable-pip-version-check --quiet install
# pip also lists every package that a second index or folder of wheels does not have
QUIET := 2>&1 | { grep -v -E "^(WARNING: Location .* is ignored|Looking in)" || true; }
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-pose down test check bench prove clean

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.stamp .venv-label-studio/.stamp  ## install flywheel and Label Studio, each in its own environment

demo: setup  ## run the digits demo: servers, traffic, labels, nights
	@$(BIN)/flywheel demo $(if $(FRESH),--fresh)

demo-pose: setup  ## run the pose demo: a robot cell, keypoints, five nights
	@$(BIN)/flywheel demo pose $(if $(FRESH),--fresh)

down:  ## stop the demos' servers
	@for name in digits pose; do if test -d demo/$$name; then $(BIN)/flywheel demo $$name --down; fi; done

test: setup  ## check, then run every test with real servers
	@$(MAKE) --no-print-directory check
	@$(BIN)/pytest -q -n auto --dist loadfile tests/unit tests/golden
	@$(BIN)/pytest -q -n 3 --dist loadfile tests/integration

check: .venv/.stamp  ## format, lint, types and size
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python tests/size.py

bench: .venv/.stamp  ## the numbers the README quotes
	@$(SAFE) for script in tests/benchmarks/bench_*.py; do echo "$$script"; $(BIN)/python "$$script"; done

prove: .venv/.stamp  ## the error rates of the gate and of every interval, by simulation (minutes)
	@$(SAFE) for script in tests/proofs/prove_*.py; do echo "$$script"; $(BIN)/python "$$script"; done

clean:  ## remove both environments and all caches; a project's .flywheel stays
	@rm -rf .venv .venv-label-studio .mypy_cache .ruff_cache .pytest_cache *.egg-info

.venv/.stamp: pyproject.toml constraints.txt
	@echo "Installing flywheel into .venv (2 to 5 minutes, 2 GB) ..."
	@$(call new-environment,.venv)
	@$(SAFE) PYTHONWARNINGS=ignore $(BIN)/python $(PIP) -c constraints.txt -e '.[pose,postgres,s3,scale,docker,kubernetes]' --group dev $(QUIET)
	@touch $@

.venv-label-studio/.stamp: docker/label-studio.txt
	@echo "Installing Label Studio into .venv-label-studio (2 to 3 minutes, 1 GB) ..."
	@$(call new-environment,.venv-label-studio)
	@$(SAFE) .venv-label-studio/bin/python $(PIP) -r docker/label-studio.txt $(QUIET)
	@touch $@

# pip before 25.1 knows no --group, so each environment starts with a newer one
define new-environment
$(SAFE) test -n "$(PYTHON)" || { echo "no Python of 3.11 or newer is on PATH; install one, or: make setup PYTHON=/path/to/python3" >&2; exit 1; }; \
test -x $(1)/bin/python || "$(PYTHON)" -m venv $(1); \
$(1)/bin/python $(PIP) --upgrade 'pip>=25.1' $(QUIET)
endef
