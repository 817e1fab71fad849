# The demo, the tests, and what development needs. CONTRIBUTING.md has the same without make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint browser lab dev export outputs docs readme benchmarks clean

demo: $(VENV)/.demo            ## fresh environment, index, a real run, the score table
	$(BIN)/wattnb models --fetch smollm2-135m & $(BIN)/wattnb index && wait
	$(BIN)/wattnb run --model smollm2-135m --env demo
	$(BIN)/wattnb run --model extractive --env demo
	$(BIN)/wattnb run --model abstain --env demo
	$(BIN)/wattnb results --env demo

test: $(VENV)/.test browser    ## everything CI checks; the last line is "N passed, N failed"
	@$(BIN)/python tests/run_all.py

lint: $(VENV)/.test             ## layout and types: ruff and mypy, by pyproject.toml
	@$(BIN)/python tests/run_all.py lint

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# uv installs in a tenth of pip's time; where it cannot (a package index that only pip's configuration names) pip does
$(VENV)/.demo: $(VENV)/bin/python settings.ini setup.py
	{ $(PIP) install uv && $(BIN)/uv pip install -q --python $(BIN)/python -e '.[demo]'; } || $(PIP) install -e '.[demo]'
	@touch $@

$(VENV)/.lab: $(VENV)/.demo
	$(PIP) install -e '.[demo,notebook]'
	@touch $@

# of its 20,000 modules the tests import a fifth: Python compiles those at their first import
$(VENV)/.test: $(VENV)/bin/python settings.ini setup.py
	$(PIP) install -U pip
	$(PIP) install --no-compile -e '.[demo,local,notebook,plots,api,dev]'
	@touch $@ $(VENV)/.demo $(VENV)/.lab

browser:                       ## a Chromium for tests/test_browser.py, where there is none and apt can bring it; without one that test is skipped
	@command -v chromedriver >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  export DEBIAN_FRONTEND=noninteractive && timeout 120 apt-get update -qq && \
	  timeout 300 apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core; } >/dev/null 2>&1 || \
	  echo "no Chromium with its driver here: tests/test_browser.py will be skipped"

lab: $(VENV)/.lab             ## JupyterLab on the front page; explore.ipynb is beside it
	$(BIN)/jupyter lab nbs/index.ipynb

dev: $(VENV)/.test             ## for contributors: Jupyter saves notebooks clean, git merges them cell by cell
	$(BIN)/nbdev_install_hooks

export: $(VENV)/.test          ## library from notebooks
	$(BIN)/nbdev_export

readme: $(VENV)/.test          ## README.md from nbs/index.ipynb
	$(BIN)/python tests/readme.py

outputs: $(VENV)/.test         ## run the notebooks and store the outputs that changed (NB="nbs/x.ipynb ...": only these)
	for n in $(or $(NB),$(wildcard nbs/*.ipynb nbs/*/*.ipynb)); do $(BIN)/python tests/outputs.py --renew $$n || exit 1; done

docs: $(VENV)/.test            ## the site's pages, prepared and checked; rendered too where Quarto is installed
	$(BIN)/python tests/site.py
	@if command -v quarto >/dev/null; then quarto render _proc; else echo "Quarto is not installed: _proc/ is ready for it"; fi

clean:
	rm -rf build dist *.egg-info _docs _proc
