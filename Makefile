# `make demo` and `make test` need python3, its venv module, a C compiler and make; the rest they
# fetch themselves, into $(VENV).

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_NO_INPUT = 1

BIN := $(VENV)/bin
# An environment made by another Python, or before the checkout moved, is made anew.
KEY := $(shell { pwd; $(PYTHON) -VV; } 2>&1 | cksum | cut -d' ' -f1)
MADE := $(VENV)/.made-$(KEY)
BUILT := $(VENV)/.built-$(KEY)
group = $(VENV)/.group-$(1)-$(KEY)

COMPILING = sh tools/with_compiler.sh $(BIN)/python $(abspath $(VENV))/headers

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: $(BUILT) ## download a file through the proxy and compare it with a copying relay
	@$(BIN)/python examples/demo.py $(ARGS)

.PHONY: test
test: $(BUILT) $(call group,test) ## run the tests; ARGS="-k pipe" is passed to pytest
	$(BIN)/python -m pytest $(ARGS)

.PHONY: test-full
test-full: export SPLICEIO_TEST_FULL = 1
test-full: test ## the same with every combination of cases, not every pair; takes long

.PHONY: test-oldest
test-oldest: $(BUILT) ## the tests of spliceio.asgi with the oldest uvicorn that it works with
	@[ -e build/oldest/.made ] || { $(PYTHON) -m venv build/oldest && \
		build/oldest/bin/python -m pip install --quiet uvicorn==0.36.0 'httptools==0.6.3' anyio==4.7 \
		cffi gunicorn hypothesis pytest pytest-xdist starlette trio uvicorn-worker uvloop wsproto && \
		touch build/oldest/.made; }
	PYTHONPATH=$(CURDIR) build/oldest/bin/python -m pytest $(or $(ARGS),tests/asgi)

.PHONY: lint
lint: $(BUILT) $(call group,lint) ## ruff: rules and format; import-linter: the arrows of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(call group,lint) ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: $(BUILT) $(call group,types) ## mypy --strict on the package; the types of the C, and their use
	$(BIN)/python tools/stub.py --check
	$(BIN)/mypy --strict spliceio
	$(BIN)/python tools/check_stub.py

.PHONY: stub
stub: $(BUILT) ## write spliceio/_cffi.pyi, the types of the C, after a change of csrc/api.h
	$(BIN)/python tools/stub.py

.PHONY: cwarn
cwarn: $(BUILT) ## compile every C file with all warnings as errors
	$(COMPILING) sh tools/cwarn.sh $(BIN)/python

.PHONY: docs
docs: $(BUILT) $(call group,docs) ## build the site, warnings are errors, and run its snippets
	$(BIN)/sphinx-build -q -n -W --keep-going -b html docs docs/_build/html
	$(BIN)/sphinx-build -q -n -W --keep-going -b doctest docs docs/_build/doctest

.PHONY: bench
bench: $(BUILT) $(call group,bench) ## run the benchmarks; ARGS is passed on
	$(COMPILING) $(BIN)/python -m benchmarks $(ARGS)

.PHONY: bench-smoke
bench-smoke: $(BUILT) $(call group,bench) ## run every benchmark once, small: does it work?
	$(COMPILING) $(BIN)/python -m benchmarks --smoke

.PHONY: sanitize
sanitize: $(BUILT) $(call group,test) $(call group,build) ## the tests under ASan and UBSan
	$(COMPILING) sh tools/sanitize.sh $(BIN)/python $(ARGS)

.PHONY: races
races: ## threads against one engine, under ThreadSanitizer
	@mkdir -p build
	$(or $(CC),cc) -std=c11 -g -O1 -fsanitize=thread -D_FILE_OFFSET_BITS=64 -Icsrc \
		-o build/races tools/races.c csrc/*/*.c -pthread
	build/races

.PHONY: vm
vm: $(BUILT) $(call group,test) ## what this kernel may not have, under Debian's, in a virtual machine; ARGS
	sh tools/vm.sh $(BIN)/python -m pytest -q -p no:cacheprovider --color=no \
		$(or $(ARGS),tests/files/test_reflink.py tests/files/test_scripted.py tests/transfer/test_send_scripted.py tests/vm)
	sh tools/vm.sh --suite trixie python3 -m pytest -q -n0 -p no:cacheprovider --color=no \
		$(or $(ARGS),tests/vm)

.PHONY: wheel
wheel: $(MADE) $(call group,build) ## build dist/: the sdist and from it the wheel; check both
	@rm -rf dist build/lib* build/temp* build/bdist*
	@mkdir -p build
	@echo "spliceio: building the sdist, and from it the wheel; log in build/wheel.log"
	@$(COMPILING) $(BIN)/python -m build >build/wheel.log 2>&1 || { cat build/wheel.log; exit 1; }
	$(BIN)/abi3audit --strict dist/*.whl
	$(BIN)/python tools/check_dist.py dist

.PHONY: clean
clean: ## remove everything that was made here
	[ ! -e $(VENV)/.ours ] || rm -rf $(VENV)
	rm -rf build dist docs/_build *.egg-info spliceio/_cffi*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(MADE):
	@sh tools/check_python.sh "$(PYTHON)"
	@[ ! -e $(VENV) ] || [ -e $(VENV)/.ours ] || \
		{ echo "spliceio: $(VENV) is somebody else's: remove it, or make VENV=another" >&2; exit 1; }
	@echo "spliceio: making $(VENV) with $$($(PYTHON) -V)"
	@rm -rf $(VENV) && mkdir -p $(VENV) && touch $(VENV)/.ours
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Editable, so that the checkout is what runs wherever Python is started, `python -m` from the
# root included, and editing a .py needs no install. The compiled module lands in spliceio/.
$(BUILT): $(MADE) setup.py pyproject.toml $(wildcard csrc/* csrc/*/*) $(if $(wildcard spliceio/_cffi*.so),,FORCE)
	@rm -rf build/lib* build/temp* spliceio/_cffi*.so
	@echo "spliceio: building and installing into $(VENV)"
	@$(COMPILING) sh -c '"$$@" >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }' \
		- $(BIN)/python -m pip install --editable .
	@touch $@

# pip knows dependency groups from 25.1 on.
$(VENV)/.group-%-$(KEY): pyproject.toml | $(MADE)
	@echo "spliceio: installing the $* tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --group $*
	@touch $@

.PHONY: FORCE
FORCE:
