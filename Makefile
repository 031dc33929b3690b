# Two commands are all anyone needs: `make demo` and `make test`. Both set up a virtual environment first.
VENV    ?= .venv
PYTHON  ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN     := $(VENV)/bin
OUT     ?= out/demo
DATA    ?=
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1

# Debian packages that some tests drive: a real ssh server, a real adb client, a real browser, and npm for the page that
# it opens. Without root, without a network, or with a Node older than 20.19, those tests skip and say so.
PROGRAMS := /usr/sbin/sshd:openssh-server adb:adb chromium:chromium npm:npm
missing   = $(foreach p,$(PROGRAMS),$(if $(shell command -v $(word 1,$(subst :, ,$(p)))),,$(word 2,$(subst :, ,$(p)))))

APT       = -o Acquire::Retries=0 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20

.PHONY: demo test check matrix peers arm64 apps page programs setup clean

demo: setup  ## shipped model -> all targets -> verify -> bench -> report.html (DATA=dir: fine-tune on it first)
	$(BIN)/edge-unet demo --out $(OUT) $(if $(DATA),--data $(DATA))

test: setup programs  ## every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --durations 20

check: setup  ## formatting, lint, types, import contracts, fast tests
	$(BIN)/ruff format --check edge_unet tests apps export benchmarks
	$(BIN)/ruff check edge_unet tests apps export benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow"

matrix: setup  ## every network, level and target at full size, about an hour; what was measured already is kept
	$(BIN)/python export/costs.py
	$(BIN)/python export/matrix.py
	$(BIN)/python benchmarks/summary.py

programs:  ## what the tests of devices and of the report page need beside Python
	@test -z "$(strip $(missing))" || apt-get $(APT) update -qq >/dev/null 2>&1 || true
	@for package in $(missing); do apt-get $(APT) install -y -qq --no-install-recommends $$package >/dev/null 2>&1 \
		|| echo "not installed: $$package; the tests that need it will skip"; done

peers: setup  ## peers beside the reference model at 256x256, some minutes with --rapid
	$(BIN)/python benchmarks/peers/run.py --rapid --out benchmarks/results/$(shell date +%F)-peers-256.json

arm64: setup  ## x86 against emulated arm64, bit by bit; never timed (apt, dpkg; kept in out/arm64)
	$(BIN)/python benchmarks/arm64/run.py --out benchmarks/results/$(shell date +%F)-arm64.json

apps: setup  ## both apps and the camera over the videos below DATA (or EDGE_UNET_DATA); videos, logs, reports in out/apps
	$(BIN)/python apps/run.py $(if $(DATA),--data $(DATA))

page: setup  ## the phone's camera page, from its lockfile (Node 20.19, npm): a wheel built after this carries it
	cd apps/camera-web && npm ci
	$(BIN)/python -m edge_unet.segment.web.page

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:  ## remove the virtual environment and everything that was generated
	rm -rf $(VENV) out dist build edge_unet/segment/web/page apps/camera-web/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
