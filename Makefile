# Every chore of the project; `make help` lists them.
#
# All of it runs in .venv, which make builds by itself; each dependency group of pyproject.toml is
# installed there when a target first needs it. Where pip gets packages is the machine's own affair.

PYTHON ?= python3
VENV   := .venv
RUN    := $(CURDIR)/$(VENV)/bin/python
PIP    := $(RUN) -m pip --disable-pip-version-check --quiet

# What the distributions are made of. Folders count too: a deleted file must not linger in the wheel.
SOURCES := pyproject.toml README.md LICENSE CHANGELOG.md Makefile \
           $(shell find lambdamr tests benchmarks deploy examples docs/ \
                   -not -path '*/.*' -not -path '*/__pycache__*' 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # two pips in one .venv get in each other's way
.PHONY: help demo test test-setup test-waiting test-timed test-pyrdf image image-test image-push lint lint-aws format types bench docs wheel clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(VENV)/.group-demo $(VENV)/.installed $(VENV)/.pyrdf ## run examples/demo.py, and the dimuon spectrum with ROOT
	$(RUN) examples/demo.py $(ARGS)
	$(RUN) examples/dimuon/demo.py

# From tests/ and with -P, so that the lambdamr next door is out of reach: the wheel is what is tested.
# What waits more than it computes goes first, three files at a time; what minds the clock, or what others
# leave in shared memory, runs alone.
# `.ci/run` runs the image's tests beside the first.
WAITING := aws contract deploy report simulation soak
PYTEST   = cd tests && LAMBDAMR_ARTIFACTS=$${LAMBDAMR_ARTIFACTS-$(CURDIR)/build} \
           LAMBDAMR_TEST_INSTALLED=1 LAMBDAMR_TEST_RIE=$(CURDIR)/$(VENV)/.rie $(RUN) -P -m pytest

ifdef ARGS
test: $(VENV)/.group-test $(VENV)/.rie/.unpacked $(VENV)/.installed
	$(PYTEST) $(ARGS)
else
test: test-waiting test-timed test-pyrdf ## test the installed wheel; ARGS="-k tree" for some of it
endif

test-setup: $(VENV)/.group-test-pyrdf $(VENV)/.rie/.unpacked $(VENV)/.installed $(VENV)/.pyrdf

test-waiting: $(VENV)/.group-test $(VENV)/.rie/.unpacked $(VENV)/.installed
	$(PYTEST) -n 3 --dist loadfile $(WAITING)

test-timed: $(VENV)/.group-test $(VENV)/.rie/.unpacked $(VENV)/.installed
	$(PYTEST) $(addprefix --ignore=,$(WAITING) image)

test-pyrdf: $(VENV)/.group-test-pyrdf $(VENV)/.installed $(VENV)/.pyrdf ## test the adapter to ROOT
	cd adapters/pyrdf/tests && $(RUN) -P -m pytest $(if $(ARGS),$(ARGS),-n 2 --dist loadfile)

# Only `make image-test` runs these: they build the image, as root, on a Linux with debootstrap and buildah.
image-test: test-setup ## build the image with ROOT, and run it as Lambda does; needs root
	@for tool in debootstrap buildah unshare; do command -v $$tool >/dev/null \
	  || { echo "error: $$tool is missing; on Debian and Ubuntu: apt-get install debootstrap buildah" >&2; exit 1; }; done
	$(PYTEST) image $(ARGS)

image: $(VENV)/.group-image $(VENV)/.installed $(VENV)/.pyrdf ## build the image with ROOT for the functions; ARGS="--requirements ..."
	$(VENV)/bin/lambdamr image build $(ARGS)

image-push: $(VENV)/.group-image $(VENV)/.installed $(VENV)/.pyrdf ## build it, and push it to the repository of the stack
	$(VENV)/bin/lambdamr image push $(ARGS)

# What lies in no room of its own: a newcomer reads it in an evening.
CORE := $(filter-out lambdamr/cli.py,$(wildcard lambdamr/*.py))

lint: $(VENV)/.group-lint lint-aws ## style, format, who may import whom, the AWS template, the pipelines
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(VENV)/bin/lint-imports --no-logo --no-cache
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@lines=$$($(VENV)/bin/radon raw --summary $(CORE) | awk '/SLOC:/ { total = $$2 } END { print total }'); \
	  [ "$$lines" -lt 1500 ] || { echo "error: the core has $$lines lines of code, of less than 1,500: what is none of it?" >&2; exit 1; }

lint-aws: $(VENV)/aws/.made
	$(VENV)/aws/bin/cfn-lint lambdamr/deploy/template.yaml
	$(VENV)/aws/bin/checkov --file lambdamr/deploy/template.yaml --config-file .checkov.yaml --quiet --compact --skip-download
	@! command -v terraform >/dev/null || terraform fmt -check -diff deploy/terraform

format: $(VENV)/.group-lint ## mend what ruff can mend
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

types: $(VENV)/.group-lint $(VENV)/.group-test ## mypy, strict
	$(RUN) -m mypy

# From a folder that holds nothing else: the wheel is measured, compiled as users have it.
bench: $(VENV)/.group-bench $(VENV)/.installed ## measure lambdamr beside its peers; ARGS=--quick for a look
	mkdir -p $(VENV)/bench && ln -sfn $(CURDIR)/benchmarks $(VENV)/bench/benchmarks
	cd $(VENV)/bench && $(RUN) -m benchmarks $(ARGS)

docs: $(VENV)/.group-docs ## build the pages of docs/ into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet

wheel: dist/.built ## build sdist and wheel, and check their metadata
	$(RUN) -m twine check --strict dist/*

clean: ## remove everything that make made
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/.hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made anew whenever pyproject.toml changes. Older pips than 25.1 cannot read dependency groups.
$(VENV)/.made: pyproject.toml
	@command -v $(PYTHON) >/dev/null \
	  || { echo 'error: no $(PYTHON) here; install Python 3.11 or newer, or say PYTHON=... to make' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: lambdamr needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1); say PYTHON=... to make" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo 'error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.group-%: $(VENV)/.made
	$(PIP) install --group $*
	@touch $@

$(VENV)/aws/.made: $(VENV)/.made
	$(RUN) -m venv --clear --without-pip $(VENV)/aws
	$(PIP) --python $(VENV)/aws/bin/python install --group lint-aws
	@touch $@

# The wheel is built from the sdist, so the sdist is known to be whole.
dist/.built: $(SOURCES) | $(VENV)/.group-build
	rm -rf dist
	$(RUN) -m build --no-isolation
	@touch $@

# AWS's runtime interface emulator, out of the wheel that has it, without the sixty packages it needs.
$(VENV)/.rie/.unpacked: $(VENV)/.made
	rm -rf $(@D)
	$(PIP) download --no-deps --dest $(@D) aws-sam-cli
	cd $(@D) && $(RUN) -m zipfile -e *.whl . && mv samcli/local/rapid/aws-lambda-rie-* . && rm -rf -- *sam*cli*
	chmod +x $(@D)/aws-lambda-rie-*
	@touch $@

# Forced, since the version may be the same; a second time for the dependencies that are missing.
$(VENV)/.installed: dist/.built $(VENV)/.made
	$(PIP) install --force-reinstall --no-deps dist/*.whl
	$(PIP) install dist/*.whl
	@touch $@

# The library is for workers on this machine; who has no C++ compiler has slower ones.
$(VENV)/.pyrdf: $(shell find adapters/pyrdf -name '*.py' -o -name '*.h' -o -name '*.cpp' -o -name pyproject.toml) \
                $(VENV)/.installed $(VENV)/.group-build
	$(PIP) install --no-build-isolation --force-reinstall --no-deps ./adapters/pyrdf
	@if command -v c++ >/dev/null; then cd $(VENV) && $(RUN) -W ignore -m PyRDF.precompiled; \
	 else echo 'no c++ here: PyRDF compiles in each session what it could compile once'; fi
	@touch $@
