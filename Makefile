# make demo   FedSA-LoRA beside its baselines, on a real model and real text
# make test   the whole test suite
# make check  formatting, lint and types
# make docs   the docstrings of all modules, as pages in site/

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO := $(addprefix yaml_configs/demo/, \
	fedsa.yaml fedavg.yaml fedit.yaml local.yaml)
MODULES := $(subst /,.,$(basename $(shell find fs_plugins -name '*.py' \
	! -name '__*' ! -path '*/embedded/*')))

export HF_HUB_OFFLINE ?= 1

.PHONY: demo test check docs install install-demo clean

demo: install-demo
	$(BIN)/fedsa compare $(DEMO) --out exp/demo

test: install-demo
	$(BIN)/python -m pytest -q --numprocesses auto --dist loadfile tests

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy fs_plugins benchmarks

docs: .venv/.installed
	$(BIN)/pdoc --docformat google --output-directory site \
		$(MODULES)

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
