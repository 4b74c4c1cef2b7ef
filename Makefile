# Every target makes and uses .venv; nothing but Python from 3.11 on, make and the pip registry is needed.
PYTHON ?= $(firstword $(foreach name,python3.11 python3 python3.12 python3.13 python3.14 python,\
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
NO_PYTHON = $(error No Python from 3.11 on was found: install one, or name it with PYTHON=)
NEW_VENV = test -x $(BIN)/python || $(or $(PYTHON),$(NO_PYTHON)) -m venv .venv
# Where it is set, every process of the tests would compile all that it imports anew.
export PYTHONDONTWRITEBYTECODE :=
BIN := .venv/bin
# What is imported is compiled then; all of it would take 40 seconds more.
PIP := $(BIN)/python -m pip install --no-compile --constraint constraints.txt
# PyTorch without CUDA comes from an index of its own, which PyTorch's page "Start Locally" names:
# make quickstart CPU=1 CPU_INDEX=ADDRESS. Elsewhere than on Linux for x86 every PyTorch is one for CPUs.
ifdef CPU
SIZES := 1.2 GB in .venv
CPU_TORCH = $(PIP) torch torchvision --index-url \
	$(or $(CPU_INDEX),$(error CPU=1 needs CPU_INDEX=, the address of PyTorch's index for CPUs))
else
SIZES := 2.7 GB to fetch, 5.6 GB in .venv
CPU_TORCH = @:
endif
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(THREADS) $(BIN)/python -m pytest

.PHONY: help setup dist system-packages quickstart test test-slow test-all fuzz check docs audit secrets pages format clean

help:  ## Lists the targets
	@grep -E '^[a-z-]+%?:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/installed-train: pyproject.toml constraints.txt
	$(NEW_VENV)
	@echo "Installing PyTorch and kinema: $(SIZES). This takes minutes; pip shows each package."
	$(CPU_TORCH)
	$(PIP) --editable ".[train]"
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt
	$(NEW_VENV)
	@echo "Installing PyTorch and kinema: $(SIZES). This takes minutes; pip shows each package."
	$(CPU_TORCH)
	$(PIP) --editable ".[dev]"
	@touch $@ .venv/installed-train

setup: .venv/installed-dev  ## Creates the environment with everything for development

dist:  ## Builds the archives for a package index in dist/, and checks them
	rm -rf dist .venv-dist
	$(or $(PYTHON),$(NO_PYTHON)) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --quiet build twine
	.venv-dist/bin/python -m build
	.venv-dist/bin/python -m twine check --strict dist/*

system-packages:  ## Installs Debian's chromium and FFmpeg, which some tests use
	command -v chromium >/dev/null && command -v ffmpeg >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium ffmpeg; }

quickstart: .venv/installed-train  ## Installs, then renders, trains, evaluates and predicts
	$(BIN)/kinema quickstart

test: .venv/installed-dev  ## Runs the tests that take under three minutes
	$(PYTEST) -m "not slow" -n 2 --dist worksteal

test-slow: .venv/installed-dev  ## Runs the slow tests: full-size networks, real processes
	$(PYTEST) -m slow -n 2 --dist worksteal --durations 40

test-all: test test-slow  ## Runs all tests

# Real sets: DATA is a folder with sets/NAME/{train.csv,val.csv,videos/}, WEIGHTS an ImageNet file.
DATA ?= ../shared/data
WEIGHTS ?= $(DATA)/weights/mobilenetv2_100_tf2_in1k_imagenetnorm.pth
JOBS ?= 2
# Such as OPTIONS=--report-only, or OPTIONS='--known benchmarks/studies/NAME.json'.
OPTIONS ?=
REAL_SETS := handwash12 fight2 cameramotion8
STUDY = $(BIN)/kinema sweep recipes/sweeps/$*.toml --out runs/$* --jobs $(JOBS) $(OPTIONS)

study-%: src/kinema/recipes/sweeps/%.toml .venv/installed-train  ## Runs recipes/sweeps/NAME.toml, or goes on with it, and keeps its results
	$(STUDY) $(if $(filter $*,$(REAL_SETS)),$(addprefix data.,train=$(DATA)/sets/$*/train.csv \
		val=$(DATA)/sets/$*/val.csv root=$(DATA)/sets/$*/videos) model.weights=$(WEIGHTS))
	mkdir -p benchmarks/studies && cp runs/$*/results.json benchmarks/studies/$*.json
	$(BIN)/python scripts/results_page.py

fuzz: .venv/installed-dev  ## Feeds 5,000 damaged videos and 20,000 other damaged files to the readers
	$(THREADS) $(BIN)/python tests/fuzz/run.py --target videos --count 5000
	$(THREADS) $(BIN)/python tests/fuzz/run.py --target recordings --count 4000
	$(THREADS) $(BIN)/python tests/fuzz/run.py --target annotations --target recipes --count 8000
	$(THREADS) $(BIN)/python tests/fuzz/run.py --target checkpoints --target imports \
		--target index_caches --count 1500
	for target in annotations recipes; do \
		$(THREADS) $(BIN)/python tests/fuzz/guided.py $$target --seconds 300 || exit 1; done

check: .venv/installed-dev  ## Checks format, lint, types and import layers
	$(BIN)/ruff format --check src tests examples scripts benchmarks
	$(BIN)/ruff check src tests examples scripts benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: .venv/installed-dev  ## Builds the documentation site in site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

audit: .venv/installed-dev  ## Looks for known vulnerabilities in the locked packages
	$(BIN)/python scripts/audit.py

# What the baseline lists was looked at and is no secret. To accept more:
# .venv/bin/detect-secrets scan --baseline .secrets.baseline, then look at the difference.
secrets: .venv/installed-dev  ## Looks for keys and passwords in the files of the repository
	git ls-files -z --cached --others --exclude-standard | \
		xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline

# Tables, pages and diagrams that tests compare with the code; each script says what it writes.
pages: .venv/installed-dev  ## Rewrites the generated parts of README.md and docs/
	for script in command_line_page published_page recipe_page reference_tables module_tables readme_table \
		benchmark_tables results_page module_diagrams motion_diagrams; do \
		$(BIN)/python scripts/$$script.py || exit 1; done
	$(BIN)/python -m tests.model.test_every_network

format: .venv/installed-dev  ## Formats the code and mends what the linter can mend
	$(BIN)/ruff format src tests examples scripts benchmarks
	$(BIN)/ruff check --fix src tests examples scripts benchmarks

clean:  ## Removes the environment and caches, keeps runs/
	rm -rf .venv .venv-dist .mypy_cache .ruff_cache .pytest_cache build dist site
