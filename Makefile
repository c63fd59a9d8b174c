# `make demo` and `make test` are all that a newcomer needs; both make the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long test-all test-matrix test-examples test-web test-ray test-urls lint docs format clean

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; use make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# The bundled pair: out/demo.png, its metadata out/demo.json and its loss curve out/demo-loss.png.
demo: $(VENV)/.installed
	@mkdir -p out
	$(BIN)/python -m jaxstyle stylize --output out/demo.png --plot

# TESTS="tests/test_solvers.py -k quadratic" chooses among them.
test: $(VENV)/.installed
	$(BIN)/python -m pytest $(TESTS)

# The tests that take longest. Other tests cover most of what these cover.
test-long: $(VENV)/.installed
	$(BIN)/python -m pytest -m long $(TESTS)

test-all: $(VENV)/.installed
	$(BIN)/python -m pytest -m ''

# The tests on every Python that is promised and found, with the instructions of older CPUs, and with
# the oldest packages that pyproject.toml promises; MATRIX="--only 3.13" chooses among them.
test-matrix: $(VENV)/.installed
	$(BIN)/python scripts/test_matrix.py $(MATRIX)

# Every program and the notebook in scripts/examples, and a project that installs the wheel.
test-examples: $(VENV)/.installed
	$(BIN)/python -m pytest -m '' tests/test_examples.py tests/test_second_project.py

# The live page in a real browser, Debian's chromium, also behind nginx.
test-web: $(VENV)/.installed-web
	@{ command -v chromium || command -v chromium-browser; } >/dev/null && \
		PATH=$$PATH:/usr/sbin command -v nginx >/dev/null || \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -y -qq chromium nginx-light >/dev/null; \
		else echo "error: no chromium or no nginx; install both" \
			"(on Debian: apt-get install chromium nginx-light)" >&2; exit 2; fi
	$(BIN)/python -m pytest -m web -n 0

# A Ray cluster of several nodes on this machine, on loopback only where that is possible.
test-ray: $(VENV)/.installed
	@unshare=; ! unshare --map-root-user --net ip link set lo up 2>/dev/null \
		|| unshare='unshare --map-root-user --net'; \
	$$unshare sh -c 'ip link set lo up 2>/dev/null; exec $(BIN)/python -m pytest -m ray -n 0'

$(VENV)/.installed-web: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev-web]'
	@touch $@

# What needs Parquet and object stores: an S3 server of the tests on the loopback.
test-urls: $(VENV)/.installed-urls
	$(BIN)/python -m pytest -m urls -n 0

$(VENV)/.installed-urls: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev-urls]'
	@touch $@

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Guides and reference as HTML: out/docs/index.html.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet scripts/docs out/docs

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

format: $(VENV)/.installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Only what was built: `out` is also where the README's examples write your pictures.
clean:
	rm -rf $(VENV) .venv-matrix build dist out/docs
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
