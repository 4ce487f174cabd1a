# Set-up and every check of the project. `make` lists the targets.
PYTHON ?= python3
SIM := .venv
TEST := .venv-test
OUT ?= out
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help study test thorough docs lint types check golden bench fuzz gpu lab islands validate programs faults learning wheel notebooks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The simulator alone: no torch.
$(SIM)/.installed: pyproject.toml
	$(PYTHON) -m venv $(SIM)
	$(SIM)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# Everything the tests need; dependency groups are read from pyproject.toml by this pip.
$(TEST)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(TEST)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --editable . --group test --group lint
	@# What every process of the tests reads, compiled once; the rest is compiled as it is read.
	@cd $(TEST)/lib/python3*/site-packages && ../../../bin/python -m compileall -q -j $(JOBS) \
		-x '/(tests?|testing|_inductor)/' torch numpy pandas sympy matplotlib > /dev/null || true
	@touch $@

study: $(SIM)/.installed ## install the simulator and reproduce the published table into out/
	$(SIM)/bin/bandwise study streaming_diloco_table4 --out $(OUT) --jobs $(JOBS)

# One process more than cores: some tests wait, for peers and for time to pass.
test: $(TEST)/.installed ## install everything and run the whole test suite
	$(TEST)/bin/python -m pytest --numprocesses $$(($(JOBS) + 1)) --benchmark-disable

thorough: $(TEST)/.installed ## the suite with all examples, kills and damages (forty minutes)
	BANDWISE_THOROUGH=1 $(MAKE) test

docs: $(TEST)/.installed ## build the documentation into out/docs, warnings as errors
	$(TEST)/bin/python -m sphinx -W --keep-going -q -d $(OUT)/doctrees docs $(OUT)/docs
	@echo "open $(OUT)/docs/index.html"

lint: $(TEST)/.installed ## ruff: rules and format
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .

types: $(TEST)/.installed ## mypy, strict, on the simulator
	$(TEST)/bin/mypy

check: test lint types validate ## all that CI runs

golden: $(TEST)/.installed ## renew the golden files; review the diff
	BANDWISE_UPDATE_GOLDEN=1 $(TEST)/bin/python -m pytest -k "golden or bad_input"

bench: $(TEST)/.installed ## speed and memory, beside benchmarks/HISTORY.md
	$(TEST)/bin/python -m pytest benchmarks --benchmark-only --benchmark-columns=min,median,rounds

fuzz: $(TEST)/.installed ## try 10,000 mutated inputs and 500 damaged files (fifteen minutes)
	$(TEST)/bin/python benchmarks/fuzz.py --jobs $(JOBS) --out $(OUT)/fuzz

gpu: $(TEST)/.installed ## prove and measure what needs a GPU, into out/ (eight minutes)
	$(TEST)/bin/python benchmarks/gpu.py $(OUT)

lab: $(TEST)/.installed ## test the limited networks (Linux, root, a quiet machine)
	BANDWISE_LAB=1 $(TEST)/bin/python -m pytest tests/lab/test_lab.py

islands: $(TEST)/.installed ## train two islands of four processes each, every method with every inside (a minute)
	ISLAND_ACCELERATORS=4 $(TEST)/bin/python -m pytest tests/realrun/test_islands_for_real.py

validate: $(TEST)/.installed ## predict real runs and programs on limited networks, and run them (four minutes; Linux, root)
	BANDWISE_VALIDATE=1 $(TEST)/bin/python -m pytest tests/validation -k "the_loop_closes or time_that_was_predicted"

programs: $(TEST)/.installed ## predict programs of torch and torchft, and run them (five minutes; Linux, root)
	$(TEST)/bin/python -m pip install --quiet --constraint constraints.txt --group programs
	$(TEST)/bin/python benchmarks/programs --out $(OUT)/programs

faults: $(TEST)/.installed ## disturb every command: full disks, damaged files, kills (40 minutes; Linux, root)
	$(TEST)/bin/python benchmarks/faults $(OUT)

learning: $(TEST)/.installed ## train one small model with every method (hours; goes on where it stopped)
	$(TEST)/bin/python benchmarks/learning.py --jobs 1

wheel: $(TEST)/.installed ## build the wheel into dist/
	$(TEST)/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove environments and outputs
	rm -rf $(SIM) $(TEST) $(OUT) dist build
