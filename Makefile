# Everything a newcomer needs: Python >= 3.11 and make. `make help` lists the rest.
#
# What is set up lives in .venv (Python packages, uv, Node where the machine has none), web/node_modules
# and web/dist. Files named .venv/.* are stamps: a second `make run` finds them fresh and only starts.
# Kept to GNU make 3.81, which macOS ships.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
unexport PYTHONPATH PYTHONHOME

PY := .venv/bin/python
NPM := $(PY) web/build_hook.py

# ---- The machine's settings -------------------------------------------------------------------------------------

# Without a home directory to write to, the caches live in .venv.
HOME_IS_USABLE := $(shell [ -n "$$HOME" ] && [ -d "$$HOME" ] && [ -w "$$HOME" ] && echo yes)
ifneq ($(HOME_IS_USABLE),yes)
export UV_CACHE_DIR ?= $(CURDIR)/.venv/.cache/uv
export npm_config_cache ?= $(CURDIR)/.venv/.cache/npm
export PIP_CACHE_DIR ?= $(CURDIR)/.venv/.cache/pip
export PLAYWRIGHT_BROWSERS_PATH ?= $(CURDIR)/.venv/.cache/browsers
endif

# A company's own certificate is in the machine's list, which uv asks only when told to.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),)
export UV_SYSTEM_CERTS ?= true
endif

# uv reads no PIP_* variable and no pip.conf: hand on an index, links and a certificate that were set for pip only.
pip_setting = $$($(PY) -m pip config get global.$(1) 2>/dev/null)
UV := \
	index="$${UV_DEFAULT_INDEX:-$${UV_INDEX_URL:-$${PIP_INDEX_URL:-$(call pip_setting,index-url)}}}"; \
	extra="$${UV_INDEX:-$${UV_EXTRA_INDEX_URL:-$${PIP_EXTRA_INDEX_URL:-$(call pip_setting,extra-index-url)}}}"; \
	links="$${UV_FIND_LINKS:-$$(echo "$${PIP_FIND_LINKS:-$(call pip_setting,find-links)}" | tr ' ' ',')}"; \
	certificate="$${SSL_CERT_FILE:-$${PIP_CERT:-$(call pip_setting,cert)}}"; \
	env $${index:+"UV_DEFAULT_INDEX=$$index"} $${extra:+"UV_INDEX=$$extra"} $${links:+"UV_FIND_LINKS=$$links"} \
	$${certificate:+"SSL_CERT_FILE=$$certificate"} UV_HTTP_TIMEOUT="$${UV_HTTP_TIMEOUT:-$${PIP_DEFAULT_TIMEOUT:-60}}" \
	.venv/bin/uv

# ---- Verbs ------------------------------------------------------------------------------------------------------

.PHONY: help run test install lint format types bench chaos web lock migration clean FORCE

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "; print "Usage: make VERB\n"} /^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' Makefile

run: install web ## Set everything up and start the studio (ARGS="--port 9000" for options)
	@exec .venv/bin/chat-studio serve $(ARGS)

test: install web .venv/.browser ## Set everything up and run every check and test (ARGS="-k log" for pytest, JOBS=2 for workers)
	@failed=''; \
	check() { \
		name=$$1; shift; \
		if output=$$("$$@" </dev/null 2>&1); then echo "ok      $$name"; \
		else failed="$$failed $$name,"; echo "FAILED  $$name"; echo "$$output"; fi; \
	}; \
	check 'lint (ruff)' $(PY) -m ruff check --output-format concise .; \
	check 'format (ruff)' $(PY) -m ruff format --check --output-format concise .; \
	check 'types (mypy)' $(PY) -m mypy; \
	check 'web types (svelte-check)' $(NPM) run check; \
	check 'web tests (vitest)' $(NPM) test; \
	$(PY) -m $(if $(CI),tests.once_more,pytest) $(if $(JOBS),-n $(JOBS)) $(ARGS) </dev/null \
		|| failed="$$failed tests (pytest),"; \
	[ -z "$$failed" ] || { echo "failed:$${failed%,}"; exit 1; }

install: .venv/.compiled ## Set up the Python environment in .venv

lint: install .venv/.web ## Check style and types (Python and web)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(NPM) run check

format: install ## Format the Python code and mend what ruff can
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

types: install ## Check the Python types alone
	$(PY) -m mypy

bench: install web ## Measure against the peers and print a table
	$(PY) -m tests.load.bench $(ARGS)

chaos: install ## Break parts of a cluster under load and print a table (ARGS="--list", "--sabotage")
	$(PY) -m tests.chaos.run $(ARGS)

web: web/dist/index.html ## Build the web client into web/dist

lock: .venv/bin/uv ## Resolve requirements.lock again (UPGRADE=1 takes the newest versions)
	@$(UV) pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
		$(if $(UPGRADE),--upgrade) --quiet --output-file requirements.lock

migration: install ## Start a new migration: make migration NAME="add a table"
	@[ -n "$(NAME)" ] || { echo 'Name it: make migration NAME="add a table"' >&2; exit 2; }
	@slug=$$(echo "$(NAME)" | tr 'A-Z' 'a-z' | tr -cs 'a-z0-9\n' '_' | sed 's/_$$//'); day=$$(date -u +%Y%m%d); \
	count=$$(ls migrations/versions | grep -c "^$$day.*\.py$$"); \
	$(PY) -m alembic revision -m "$(NAME)" --rev-id "$$(printf '%s_%02d_%s' "$$day" $$((count + 1)) "$$slug")"
	@$(PY) -m ruff format --quiet migrations/versions

clean: ## Remove what make made, but never ./data
	rm -rf .venv web/node_modules web/dist dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find server plugins migrations tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- The Python environment -------------------------------------------------------------------------------------

PYTHONS := $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3.14 python3)
PYTHON_SOURCES := $(shell find server plugins migrations -name '*.py' 2>/dev/null)

# An environment made in another folder, or whose Python is gone, is made anew.
ifneq ($(shell [ -x $(PY) ] && [ "$$(cat .venv/.made 2>/dev/null)" = "$$(pwd -P)" ] && echo fresh),fresh)
.venv/.made: FORCE
endif

.venv/.made:
	@for python in $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || { partial=$$python; continue; }; \
		echo "Making .venv with $$("$$python" --version)"; \
		"$$python" -m venv --clear .venv || exit 1; \
		pwd -P > $@; exit 0; \
	done; \
	if [ -n "$$partial" ]; then \
		echo "$$partial has no venv module. On Debian or Ubuntu: apt install $$(basename "$$partial")-venv" >&2; \
	else echo 'Python 3.11 or newer is needed; none was found. Name one: make PYTHON=/path/to/python3' >&2; fi; exit 1

# uv comes from the lock itself, by its hash.
.venv/bin/uv: .venv/.made
	@awk '/^[^ #]/ {mine = /^uv==/} mine && !/^ *#/' requirements.lock > .venv/uv.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.lock
	@touch $@

.venv/.synced: requirements.lock pyproject.toml .venv/bin/uv
	@echo 'Installing the Python packages of requirements.lock'
	@$(UV) pip sync --quiet --python $(PY) --require-hashes --compile-bytecode requirements.lock
	@$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation -e .
	@touch $@

# Imports take seconds where bytecode cannot be written later.
.venv/.compiled: .venv/.synced $(PYTHON_SOURCES)
	@$(PY) -m compileall -q server plugins migrations
	@touch $@

# The browser tests take Chromium from the machine, or Playwright's own. Without either they skip, loudly.
.venv/.browser: .venv/.synced
	@for browser in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$browser >/dev/null && exit 0; \
	done; \
	[ -d '/Applications/Google Chrome.app' ] || [ -d /Applications/Chromium.app ] || \
	{ echo 'Fetching a Chromium for the browser tests'; \
	$(PY) -m playwright install chromium-headless-shell >.venv/browser.log 2>&1; } || \
	echo 'None could be fetched (.venv/browser.log says why): the browser tests will be skipped.'
	@touch $@

# ---- The web client ---------------------------------------------------------------------------------------------

WEB_SOURCES := $(shell find web/src web/public web/index.html web/package.json web/*.ts web/*.js \
	-type f ! -name '*.test.ts' 2>/dev/null)

.venv/.web: web/package.json web/package-lock.json .venv/.synced
	$(NPM) ci --include=dev --no-audit --no-fund --no-update-notifier
	@touch $@

ifeq ($(wildcard web/node_modules),)
.venv/.web: FORCE
endif

web/dist/index.html: .venv/.web $(WEB_SOURCES)
	$(NPM) run build
	@touch $@
