# make install  the project in .venv, with the command fedsa
# make demo   FedSA-LoRA beside its baselines, on a real model and real text
# make test   the whole test suite; the CI runs 'make check' before it
# make check  formatting, lint and types of everything, tests too
# make docs   the documents and the Python reference, as a site in site/

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO := $(addprefix yaml_configs/demo/, \
	fedsa.yaml fedavg.yaml fedit.yaml local.yaml)

export HF_HUB_OFFLINE ?= 1

.PHONY: demo test check docs install install-demo clean

demo: install-demo
	$(BIN)/fedsa compare $(DEMO) --out exp/demo

test: install-demo
	$(BIN)/python -m pytest -q --numprocesses auto --dist worksteal tests

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy fs_plugins benchmarks

# The variable leaves out an announcement of the theme's authors.
docs: .venv/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: .venv/.installed
install-demo: .venv/.demo

.venv/.installed: setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

.venv/.demo: .venv/.installed requirements-demo.txt
	$(PIP) install --quiet --no-deps --require-hashes \
		--requirement requirements-demo.txt
	@touch $@

.venv/.dev: .venv/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv exp build site *.egg-info
