# What a visitor, a developer and CI run. `make` alone lists it.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

RUN := $(VENV)/bin
PIN := -c constraints.txt --build-constraint constraints.txt
ASKED := pyproject.toml constraints.txt
ANOTHER := name a Python 3.11 or newer: make PYTHON=python3.11

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-thorough test-slow check fix wheel floors interop constraints clean
.PRECIOUS: %/.created %/.readers

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.demo ## fine-tune, compress, export and benchmark the built-in model, offline
	$(RUN)/theseus demo $(ARGS)

PYTEST := $(RUN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.dev ## run the test suite on two cores; ARGS="-k name" chooses
	$(PYTEST) $(ARGS)

test-thorough: $(VENV)/.dev ## run what takes seconds each: exports, processes, benchmarks, long proofs
	$(PYTEST) -m 'thorough and not slow' $(ARGS)

test-slow: $(VENV)/.dev $(VENV)/.demo $(VENV)/.browser ## run the long tests: products of families and heads, kills, a browser
	$(RUN)/python -m pytest -m slow $(ARGS)

check: $(VENV)/.dev ## check format, lint and types
	$(RUN)/ruff format --check --quiet
	$(RUN)/ruff check
	$(RUN)/mypy

fix: $(VENV)/.dev ## mend format, and the lint that can be mended
	$(RUN)/ruff check --fix-only
	$(RUN)/ruff format

wheel: $(VENV)/.dev ## build the sdist, from it the wheel, and use the wheel in an environment of its own
	rm -rf dist
	$(RUN)/python -m build
	$(RUN)/python .ci/wheel.py dist/*.whl

# Old releases call what their dependencies have deprecated since, so such a warning is no error here.
floors: $(VENV)-floors/.created ## run the test suite on the lowest versions that pyproject.toml promises
	$(VENV)-floors/bin/python .ci/floors.py > $(VENV)-floors/floors.txt
	$(VENV)-floors/bin/python -m pip install -c $(VENV)-floors/floors.txt -e '.[openvino]' --group dev
	$(VENV)-floors/bin/python -m pytest -W ignore::DeprecationWarning $(ARGS)

interop: $(VENV)/.dev $(VENV)-interop/.readers ## compare our bundles with what optimum, onnxruntime and OpenVINO read in them
	rm -rf $(VENV)-interop/bundles
	$(RUN)/python .ci/bundles.py $(VENV)-interop/bundles
	$(VENV)-interop/bin/python .ci/interop.py $(VENV)-interop/bundles

constraints: ## pin the newest versions anew; torch stays as it is written in constraints.txt
	rm -rf $(VENV)-new
	$(PYTHON) -m venv $(VENV)-new
	grep '^torch==' constraints.txt > $(VENV)-new/torch.txt
	$(VENV)-new/bin/python -m pip install --upgrade pip hatchling editables
	$(VENV)-new/bin/python -m pip install -c $(VENV)-new/torch.txt '.[demo,openvino]' --group dev --group browser
	grep '^#' constraints.txt > $(VENV)-new/constraints.txt
	$(VENV)-new/bin/python -m pip freeze --all --exclude theseus-deploy | sed 's/+.*//' >> $(VENV)-new/constraints.txt
	mv $(VENV)-new/constraints.txt constraints.txt
	rm -rf $(VENV)-new

clean: ## remove all that make made
	rm -rf $(VENV) $(VENV)-* dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each step leaves a stamp inside the environment, so that a second call has nothing to do.
%/.created:
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) is not on the PATH; $(ANOTHER)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or \
	  sys.exit("$(PYTHON) is Python %d.%d; $(ANOTHER)" % sys.version_info[:2])'
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --upgrade -c constraints.txt pip
	@touch $@

%/.readers: %/.created .ci/interop.txt constraints.txt
	grep -E '^(torch|onnxruntime|openvino)==' constraints.txt > $*/pins.txt
	$*/bin/python -m pip install -c $*/pins.txt -r .ci/interop.txt
	@touch $@

$(VENV)/.demo: $(VENV)/.created $(ASKED)
	$(RUN)/python -m pip install $(PIN) -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.created $(ASKED)
	$(RUN)/python -m pip install $(PIN) -e '.[openvino]' --group dev
	@touch $@

$(VENV)/.browser: $(VENV)/.created $(ASKED)
	$(RUN)/python -m pip install -c constraints.txt --group browser
	@touch $@
