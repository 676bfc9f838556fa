# Everything a fresh clone needs. `make` alone says what there is.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
# spelled out for the make of macOS, which knows no .SHELLFLAGS
SAFE := set -eu -o pipefail;
# Modules are compiled when they are first imported: most never are, and all take a minute.
PIP := -m pip --disable-pip-version-check install --no-compile
export PYTHONDONTWRITEBYTECODE :=
# pip also lists every package that a second index or folder of wheels does not have
QUIET := { grep -v -E "^(WARNING: Location .* is ignored|Looking in)" || true; }
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-details demo-messages demo-pose demo-shapes demo-tumours down test check bench prove clean

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## install flywheel and Label Studio, each in its own environment
	@$(MAKE) --no-print-directory -j 2 .venv/.stamp .venv-label-studio/.stamp

demo:  ## run the digits demo: servers, traffic, labels, nights
	@echo "make demo: about 6 minutes on two cores, of them 1 to install; run again, it goes on where it stopped"
	@$(MAKE) --no-print-directory -j 2 .venv/.demo .venv-label-studio/.stamp
	@$(BIN)/flywheel demo $(if $(FRESH),--fresh)

demo-details:  ## run the details demo: spans of text, scikit-learn, four nights
	@$(MAKE) --no-print-directory -j 2 .venv/.stamp .venv-label-studio/.stamp
	@$(BIN)/flywheel demo details $(if $(FRESH),--fresh)

demo-messages:  ## run the messages demo: text to a support desk, four nights
	@$(MAKE) --no-print-directory -j 2 .venv/.demo .venv-label-studio/.stamp
	@$(BIN)/flywheel demo messages $(if $(FRESH),--fresh)

demo-pose:  ## run the pose demo: a robot cell, keypoints, six nights
	@$(MAKE) --no-print-directory -j 2 .venv/.pose .venv-label-studio/.stamp
	@$(BIN)/flywheel demo pose $(if $(FRESH),--fresh)

demo-shapes:  ## run the shapes demo: boxes in pictures, four nights
	@$(MAKE) --no-print-directory -j 2 .venv/.demo .venv-label-studio/.stamp
	@$(BIN)/flywheel demo shapes $(if $(FRESH),--fresh)

demo-tumours:  ## run the tumours demo: rows of a table, scikit-learn, four nights
	@$(MAKE) --no-print-directory -j 2 .venv/.stamp .venv-label-studio/.stamp
	@$(BIN)/flywheel demo tumours $(if $(FRESH),--fresh)

down:  ## stop the demos' servers
	@for name in digits details messages pose shapes tumours; do if test -d demo/$$name; then $(BIN)/flywheel demo $$name --down; fi; done

# The files that take longest come first, else one core would end with them alone. What failed while three
# sets of servers shared two cores is run once more, by itself: a server on SQLite drops an event now and then.
test:  ## check, then run every test with real servers; LONG=1: also in their long forms
	@$(MAKE) --no-print-directory -j 2 check .venv-label-studio/.stamp
	@$(BIN)/pytest -q -n 3 --no-loadscope-reorder $(LONG:%=--long) tests || \
		{ test $$? -eq 1 && $(BIN)/pytest -q --last-failed $(LONG:%=--long) tests; }

check: .venv/.stamp  ## format, lint, types and size
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python tests/size.py

bench: .venv/.stamp  ## speed, as ratios to what a user would use instead
	@$(SAFE) for script in tests/benchmarks/bench_*.py; do echo "$$script"; $(BIN)/python "$$script"; done

prove: .venv/.stamp  ## the error rates of the gate and of every interval, by simulation (minutes)
	@$(SAFE) for script in tests/proofs/prove_*.py; do echo "$$script"; $(BIN)/python "$$script"; done

clean:  ## remove both environments and all caches; a project's .flywheel stays
	@rm -rf .venv .venv-label-studio .mypy_cache .ruff_cache .pytest_cache *.egg-info

# Each part of the lock: what the digits demo needs, the pose demo too, everything.
.venv/.demo: pyproject.toml constraints.txt
	@$(call new-environment,.venv)
	@$(call install,.venv,sed '/^# pose/$(COMMA)$$d' constraints.txt)
	@$(call install-flywheel,.)
	@touch $@

.venv/.pose: pyproject.toml constraints.txt
	@$(call new-environment,.venv)
	@$(call install,.venv,sed '/^# the other extras/$(COMMA)$$d' constraints.txt)
	@$(call install-flywheel,.[pose])
	@touch .venv/.demo $@

.venv/.stamp: pyproject.toml constraints.txt
	@$(call new-environment,.venv)
	@$(call install,.venv,cat constraints.txt)
	@$(call install-flywheel,.[parquet$(COMMA)pose$(COMMA)postgres$(COMMA)s3$(COMMA)sklearn$(COMMA)huggingface$(COMMA)lightning$(COMMA)scale$(COMMA)docker$(COMMA)kubernetes],--group dev)
	@touch .venv/.demo .venv/.pose $@

.venv-label-studio/.stamp: docker/label-studio.txt
	@$(call new-environment,.venv-label-studio)
	@$(call install,.venv-label-studio,cat docker/label-studio.txt)
	@$(call empty-database,.venv-label-studio)
	@touch $@

COMMA := ,

# pip before 25.1 knows no --group, so each environment starts with a newer one
define new-environment
$(SAFE) test -n "$(PYTHON)" || { echo "no Python of 3.11 or newer is on PATH; install one, or: make setup PYTHON=/path/to/python3" >&2; exit 1; }; \
test -x $(1)/bin/python || "$(PYTHON)" -m venv $(1); \
$(1)/bin/python $(PIP) --quiet --upgrade 'pip>=25.1' 2>&1 | $(QUIET)
endef

# folder, command that prints the lock; says every 10 s how far it is
define install
$(SAFE) $(2) > $(1)/lock.txt; all=$$(grep -c == $(1)/lock.txt); \
echo "$(1): installing $$all packages ..."; : > $(1)/install.log; \
(while sleep 10 > /dev/null 2>&1; do \
	if grep -q ^Installing $(1)/install.log; then echo "$(1): writing the packages ..."; \
	else echo "$(1): $$(grep -c ^Collecting $(1)/install.log) of $$all packages fetched"; fi; done) & \
trap "kill $$! 2> /dev/null" EXIT; \
$(1)/bin/python $(PIP) --no-deps -r $(1)/lock.txt 2>&1 > $(1)/install.log | $(QUIET)
endef

# The lock has all that is needed here; where torch is built for CUDA, pip adds its libraries. A project's
# first start copies Prefect's empty database: its migrations take longer than the server's start.
define install-flywheel
$(SAFE) PYTHONWARNINGS=ignore $(BIN)/python $(PIP) --quiet --no-build-isolation -c constraints.txt -e '$(1)' $(2) 2>&1 | $(QUIET); \
rm -rf .venv/empty; mkdir .venv/empty; PREFECT_HOME=$$PWD/.venv/empty \
PREFECT_SERVER_DATABASE_CONNECTION_URL=sqlite+aiosqlite:///$$PWD/.venv/empty/prefect.db \
$(BIN)/prefect server database upgrade -y > /dev/null
endef

# A project's first start copies it: the migrations, half a minute, run while flywheel is installed.
define empty-database
$(SAFE) echo "$(1): making an empty database of Label Studio, about 40 s ..."; \
rm -rf $(1)/empty; mkdir $(1)/empty; \
HOME=$$PWD/$(1)/empty LABEL_STUDIO_BASE_DATA_DIR=$$PWD/$(1)/empty DJANGO_DB=sqlite LOG_LEVEL=ERROR \
SENTRY_DSN= FRONTEND_SENTRY_DSN= LABEL_STUDIO_COLLECT_ANALYTICS=false PYTHONWARNINGS=ignore \
$(1)/bin/python $(1)/lib/python*/site-packages/label_studio/manage.py migrate -v 0 > $(1)/migrate.log 2>&1 \
|| { tail $(1)/migrate.log >&2; exit 1; }
endef
