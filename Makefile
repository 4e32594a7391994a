# Everything runs from a virtual environment in .venv that `make` creates by itself.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
STAMP_DEV := $(VENV)/.ready-dev
DEMO ?= demo
# Tests of `make test` that run side by side; integration tests and the long faults have the machine to themselves.
JOBS ?= 2
export PYTHONDONTWRITEBYTECODE := 1
export PYTHONPATH := $(CURDIR)/scripts

.PHONY: test golden demo faults replay security bundle lint integration env lock clean

env: $(STAMP)

# PyTorch is a step of its own: its wheel differs by platform (README names the CPU index). pip, torch first.
$(STAMP): requirements.lock requirements-torch.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

$(STAMP_DEV): $(STAMP) requirements-dev.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

lock:
	pip-compile -q --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-options \
	  --extra docker --extra agent --extra kubernetes --extra hub -o requirements.lock pyproject.toml
	pip-compile -q --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-options \
	  --extra docker --extra agent --extra dev --extra kubernetes --extra hub --extra siglip --extra ray \
	  -o requirements-dev.lock pyproject.toml

lint: $(STAMP_DEV)
	$(PY) -m ruff check scripts tests benchmarks hooks packaging evals
	$(PY) -m ruff format --check --quiet scripts tests benchmarks hooks packaging evals
	$(PY) -m mypy

test: lint
	$(PY) -m pytest -m "not integration" -n $(JOBS) --dist worksteal

# The report's headings, ids, numbers and verdicts of a fixed run; look at the difference before committing it.
golden: $(STAMP_DEV)
	DEFT_UPDATE_GOLDEN=1 $(PY) -m pytest -q -n 0 tests/report/test_report.py -k test_values_of_a_fixed_run

integration: $(STAMP_DEV)
	$(PY) -m pytest -m integration

demo: $(STAMP)
	test -d $(DEMO) || $(PY) scripts/make_demo_workspace.py --output $(DEMO)
	$(PY) scripts/run_loop.py --workspace $(DEMO) --platform local --engine embedded --kpi-target "FAR < 1% at recall=100%" --yes
	@RUN=$$(ls -d $(DEMO)/results/run_* | tail -1); printf '%s\n' "" "next, on a line every Monday (README):" \
	  "  $(PY) scripts/infer.py --model $$RUN --csv $(DEMO)/kpi/holdout_set.csv --images $(DEMO)/kpi/images --output $(DEMO)-boards" \
	  "  open $(DEMO)-boards/review.html, judge by keys, save labels.csv; then (the demo's boards are its hold-out: they are refused)" \
	  "  $(PY) scripts/import_review.py labels.csv --review $(DEMO)-boards/review.json --workspace $(DEMO)" \
	  "  $(PY) scripts/run_loop.py --workspace $(DEMO) --continue-from $$RUN"

faults: $(STAMP_DEV)
	$(PY) tests/faults/run.py
	DEFT_LONG_TESTS=1 $(PY) -m pytest tests/analysis/test_file_index.py tests/analysis/test_operating_point.py

replay: $(STAMP_DEV)
	$(PY) -m pytest tests/agent tests/transcripts

security: $(STAMP_DEV)
	$(PY) tests/security/run.py

bundle: $(STAMP_DEV)
	$(PY) packaging/bundle.py

clean:
	rm -rf $(VENV) $(DEMO) dist build
