# Two commands are all anyone needs: `make demo` and `make test`. Both set up a virtual environment first.
VENV    ?= .venv
PYTHON  ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN     := $(VENV)/bin
OUT     ?= out/demo
DATA    ?=
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check matrix setup clean

demo: setup  ## shipped model -> all targets -> verify -> bench -> report.html (DATA=dir: fine-tune on it first)
	$(BIN)/edge-unet demo --out $(OUT) $(if $(DATA),--data $(DATA))

test: setup  ## every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: setup  ## formatting, lint, types, import contracts, fast tests
	$(BIN)/ruff format --check edge_unet tests apps export benchmarks
	$(BIN)/ruff check edge_unet tests apps export benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow"

matrix: setup  ## every network, level and target at full size, about an hour; what was measured already is kept
	$(BIN)/python export/costs.py
	$(BIN)/python export/matrix.py
	$(BIN)/python benchmarks/summary.py

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:  ## remove the virtual environment and everything that was generated
	rm -rf $(VENV) out dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
