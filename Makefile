# `make` alone lists the targets. Everything happens in .venv; PYTHON=... names the interpreter to make it from.
.DEFAULT_GOAL := help
.PHONY: help install serve test test-local test-clients lint bench bench-local lock clean
.DELETE_ON_ERROR:

python := .venv/bin/python
pip := $(python) -m pip install --quiet --disable-pip-version-check --no-input
# Present while an installation is under way: found at the start, it means that the last one was cut short.
incomplete := .venv/.incomplete
node_modules := tests/node/node_modules
clients := tests/clients/node_modules
NPM ?= npm

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

install: .venv/.relay $(EXTRAS:%=.venv/.extra-%) ## make .venv with the locked dependencies and the `relay` command (EXTRAS="hub local markdown")
	@:

serve: install ## start the relay (ARGS="--port 9000")
	@exec .venv/bin/relay serve $(ARGS)

test: lint $(node_modules)/.installed ## lint, types, and the tests with branch coverage (ARGS="-k stream --no-cov")
	@echo "==> tests"
	@$(python) -m pytest $(ARGS) --cov

test-local: .venv/.dev ## the relay's own engine with torch, where a build for the CPU can be had (ARGS="-k grammar")
	@echo "==> the relay's own engine"
	@if requirements/torch --cpu; then \
		$(MAKE) --no-print-directory .venv/.extra-local; \
		$(python) -m pytest tests/inference tests/serving $(ARGS) --cov --cov-config=tests/inference/coverage.toml; \
	elif [ $$? -eq 3 ]; then \
		echo "NOTE: without torch for the CPU the tests of the relay's own engine are SKIPPED."; \
	else \
		exit 1; \
	fi

test-clients: .venv/.dev $(clients)/.installed ## Cloudflare's own clients against a live relay (ARGS="-k Vite")
	@echo "==> Cloudflare's clients"
	@$(python) -m pytest tests/clients $(ARGS)

lint: .venv/.dev ## style, imports, formatting and types
	@echo "==> lint"
	@$(python) -m ruff check --quiet
	@$(python) -m ruff format --quiet --check
	@echo "==> types"
	@$(python) -m mypy

bench: .venv/.dev ## measure what a request and a chunk cost (ARGS="--help")
	@$(python) -m benchmarks $(ARGS)

bench-local: .venv/.dev ## the same model through the relay's own engine and other ways to run it (ARGS="--help")
	@$(python) -m benchmarks.local $(ARGS)

lock: .venv/.dev ## write requirements/*.txt anew (ARGS="--upgrade")
	@requirements/lock $(ARGS)

clean: ## remove .venv and everything that tests and tools leave behind
	@rm -rf .venv $(node_modules) $(clients) .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	@find adapters auth proxy wrangler_compat tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call prepare,NAMES): install these requirements files and the relay itself, from the lock alone.
define prepare
$(make-venv)
@echo "Installing the locked dependencies into .venv ($(1)); the first time takes about a minute ..."
@touch $(incomplete)
@$(pip) --require-hashes $(foreach name,$(1),-r requirements/$(name).txt)
@$(pip) --no-deps --no-build-isolation --editable .
@rm $(incomplete)
endef

# Keep a .venv that works; make one where there is none, or where it is old or half made.
define make-venv
@if [ -e $(incomplete) ] || ! $(python) -c '$(call check,pip)' 2>/dev/null; then \
	for name in $(interpreters); do \
		if $$name -c '$(call check,venv$(comma) ensurepip)' 2>/dev/null; then found=$$name; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "No Python 3.11 or newer with venv and ensurepip (looked for: $(interpreters))." >&2; \
		echo "Install one (Debian and Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	echo "Making .venv with $$($$found --version) ..."; \
	$$found -m venv --clear .venv; \
fi
endef
check = import sys, $(1); sys.exit(sys.version_info < (3, 11))
interpreters := $(or $(PYTHON),python3.11 python3 python3.14 python3.13 python3.12)
comma := ,

.venv/.relay: pyproject.toml requirements/build.txt requirements/relay.txt
	$(call prepare,build relay)
	@touch $@

# torch is in no lock.
.venv/.extra-local: requirements/local.txt requirements/torch .venv/.relay
	@requirements/torch
	@echo "Installing the extra 'local' into .venv ..."
	@$(pip) --require-hashes -r $<
	@touch $@

# An extra on top; its lock names the relay's own dependencies in the same versions.
.venv/.extra-%: requirements/%.txt .venv/.relay
	@echo "Installing the extra '$*' into .venv ..."
	@$(pip) --require-hashes -r $<
	@touch $@

.venv/.dev: pyproject.toml requirements/dev.txt
	$(call prepare,dev)
	@touch $@ .venv/.relay

# npm only installs the Node clients: a Node that is new enough for them is among their packages.
tests/%/node_modules/.installed: tests/%/package.json tests/%/package-lock.json tests/%/.npmrc
	@if [ -z "$(NPM)" ] || ! command -v $(NPM) >/dev/null; then \
		echo "NOTE: without npm the tests of the clients in tests/$* are SKIPPED."; \
	else \
		echo "Installing the locked clients into tests/$*/node_modules ..."; \
		if ! $(NPM) ci --prefix tests/$* --ignore-scripts --loglevel=error >/dev/null; then \
			echo "The clients of tests/$* cannot be installed. To test without them: make $(or $(MAKECMDGOALS),test) NPM=" >&2; \
			exit 1; \
		fi; \
		touch $@; \
	fi
