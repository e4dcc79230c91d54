# Everything that people and CI run. The first target is what a newcomer runs.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STORE ?= .hrmctl
REPORTS ?= reports
TORCH = torch==2.13.0
TESTS ?= tests
# Each worker begins with half of the tests in their order, so that what a module prepares is prepared once.
PARALLEL ?= -n 2 --dist worksteal
# What check-contracts measures before it judges all contracts together; a stage that ran before is taken from the store.
MEASURED = quickstart phase acceptance-models acceptance-data qlora-vs-lora tooluse audit
RECIPES ?= $(MEASURED:%=recipes/%.yaml)
READY = $(VENV)/.ready

.PHONY: quickstart venv lock test test-slow lint format check-contracts bench bench-generate bench-evaluate bench-sandbox bench-train bench-latency docs clean

quickstart: $(READY)
	$(BIN)/hrmctl pipeline recipes/quickstart.yaml --store $(STORE)

venv: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hrmctl needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python tools/install_torch.py $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check --disable-pip-version-check
	@touch $@

lock:
	$(PYTHON) tools/lock.py $(TORCH)

# A plugin of a third party, installed as one would be.
$(VENV)/.third-party: $(READY) tests/third_party/pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e tests/third_party
	@touch $@

test: $(VENV)/.third-party
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

test-slow: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m slow $(TESTS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Every recipe is run (what is cached is not run again), then all contracts are judged together, each on the newest run
# that speaks of it. A failed stage leaves its obligations BLOCKED, and the table is printed all the same. In between
# the evaluation report is written with its evidence and audited, so that the contracts on it are judged like the rest.
check-contracts: $(READY)
	@test -n "$(strip $(REPORTS))" || { echo "REPORTS is empty: name a folder" >&2; exit 2; }
	$(BIN)/hrmctl contracts prove contracts
	@failed=0; for recipe in $(RECIPES); do \
	  $(BIN)/hrmctl pipeline $$recipe --no-check --keep-going --store $(STORE) || failed=$$?; done; \
	rm -rf "$(REPORTS)/bundle"; \
	$(BIN)/hrmctl check contracts --store $(STORE) --export $(REPORTS) --format badge || test $$? -ne 2 || failed=2; \
	$(BIN)/hrmctl pipeline recipes/audit-report.yaml --no-check --store $(STORE) --set vars.folder=$(abspath $(REPORTS)) || failed=$$?; \
	$(BIN)/hrmctl check contracts --store $(STORE) --ratchet contracts/accepted.json --out json=$(REPORTS)/latest.json || failed=$$?; \
	exit $$failed

bench: $(READY)
	$(BIN)/python benchmarks/startup.py

# Against transformers' own generation; MBPP's prompts where HRMCTL_TEST_DATA names the folder of mbpp.jsonl.
bench-generate: $(READY)
	$(BIN)/python benchmarks/generate.py $(ARGS)

# 500 MBPP problems x 10 samples end to end; make bench-evaluate ARGS='--limit 50' for less.
bench-evaluate: $(READY)
	$(BIN)/python benchmarks/evaluate.py $(ARGS)

# Against other harnesses, each in an environment of its own under .bench; see benchmarks/README.md.
bench-sandbox: $(READY)
	$(BIN)/python benchmarks/sandbox.py $(ARGS)

# hrm-27m against GPT-2 117M in transformers' Trainer, and loops against each other; needs 14 GB of memory,
# or 5 with ARGS=--sequential.
# On MBPP where HRMCTL_TEST_DATA names the folder of mbpp.jsonl; make bench-train ARGS=--quick for less.
bench-train: $(READY)
	$(BIN)/python benchmarks/train.py $(ARGS)

# 512 tokens of one prompt, hrm-27m against GPT-2 117M.
bench-latency: $(READY)
	$(BIN)/python benchmarks/latency.py $(ARGS)

docs: $(READY)
	$(BIN)/python -m hrmctl.reference docs/reference.md docs/schema
	$(BIN)/python -m hrmctl_reporters.schema docs/schema/check.json

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build plugins/*.egg-info
