# Everything runs from a virtual environment in .venv that `make` creates by itself.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
DEMO ?= demo
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: test demo faults replay security bench bundle lint integration env clean

env: $(STAMP)

# PyTorch is a step of its own: its wheel differs by platform (README names the CPU index). pip, torch first.
$(STAMP): requirements.lock requirements-torch.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

lint: $(STAMP)
	$(PY) -m ruff check scripts tests benchmarks hooks packaging
	$(PY) -m mypy

test: lint
	$(PY) -m pytest -m "not integration"

integration: $(STAMP)
	$(PY) -m pytest -m integration

demo: $(STAMP)
	$(PY) scripts/make_demo_workspace.py --output $(DEMO) --force
	$(PY) scripts/run_loop.py --workspace $(DEMO) --platform local --engine embedded --kpi-target "FAR < 1% at recall=100%" --yes

faults: $(STAMP)
	$(PY) tests/faults/run.py

replay: $(STAMP)
	$(PY) -m pytest tests/agent tests/transcripts

bundle: $(STAMP)
	$(PY) packaging/bundle.py

clean:
	rm -rf $(VENV) $(DEMO) dist build
