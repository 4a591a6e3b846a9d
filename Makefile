# make demo   see GPO improve a prompt, offline and without a key
# make test   all that must hold: lint, strict types, tests, the docs' code blocks
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test postgresql lint types format lock clean

help:
	@sed -n 's/^# //p' $(MAKEFILE_LIST)

# The stamp is newer than all that decides what is installed.
.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

install: .venv/.installed

demo: install
	$(BIN)/python examples/sandbox_demo.py

test: lint types postgresql
	$(BIN)/python -m pytest

# The storage is tested on SQLite and on a PostgreSQL server that the tests start for themselves.
# Its programs come from Debian where we may install them; elsewhere those tests say why they skip.
postgresql:
	@if command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; \
	then :; elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		export DEBIAN_FRONTEND=noninteractive; apt-get update -qq \
		&& apt-get install -qq --yes --no-install-recommends postgresql >/dev/null \
		|| echo "PostgreSQL could not be installed: its tests will be skipped"; fi

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every version for Python 3.10 to 3.13. CUDA libraries are left out: a CUDA build of torch pins
# its own, and the CPU build needs none.
lock:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.10 --all-extras --group dev \
		--no-annotate --no-header --quiet --upgrade pyproject.toml \
		| sed -E '/^(cuda-|nvidia-|triton)/d' > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:
	rm -rf .venv runs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
