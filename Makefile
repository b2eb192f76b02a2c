# Everything is set up on first use: `make app` and `make test` need Python 3.11 or newer with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JAX_VENV := .venv-jax
JAX_TESTS := $(patsubst %,tests/test_%.py,architectures batches bench build command_line costs explaining export \
	floors keras_files keras_layers memory pixel_losses runtimes streaming_outputs streaming_samples system train_command training)
# Tests of one file stay in one process: what a module has trained once serves all of them.
PROCESSES ?= 2
PIP := -m pip install --quiet --disable-pip-version-check --prefer-binary

.PHONY: app test test-jax lint format lock clean

app: $(VENV)/app.stamp
	$(BIN)/python app.py

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# The toolkit on JAX, in an environment without TensorFlow: what depends on the backend, or could ask for TensorFlow.
test-jax: $(JAX_VENV)/dev.stamp
	KERAS_BACKEND=jax $(JAX_VENV)/bin/python -m pytest -m "not tensorflow and not app and not once" toolkit $(JAX_TESTS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Pins for every platform and Python from the direct dependencies in pyproject.toml.
lock: $(VENV)/dev.stamp
	$(BIN)/python $(PIP) uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-annotate --no-header pyproject.toml -o requirements.txt

clean:
	rm -rf $(VENV) $(JAX_VENV) runs

$(VENV)/app.stamp: requirements.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.11')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once; about 2 GB with TensorFlow) ..."
	$(BIN)/python $(PIP) -r requirements.txt
	$(BIN)/python -m compileall -q toolkit app.py
	touch $@

$(VENV)/dev.stamp: $(VENV)/app.stamp pyproject.toml
	$(BIN)/python $(PIP) -r requirements.txt -e ".[dev]"
	touch $@

$(JAX_VENV)/dev.stamp: requirements.txt pyproject.toml
	test -x $(JAX_VENV)/bin/python || $(PYTHON) -m venv $(JAX_VENV)
	grep -v '^tensorflow' requirements.txt > $(JAX_VENV)/requirements.txt
	$(PYTHON) -c "import tomllib; extras = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']; print(*extras['dev'], *extras['jax'], *extras['parquet'], sep='\n')" >> $(JAX_VENV)/requirements.txt
	$(JAX_VENV)/bin/python $(PIP) -r $(JAX_VENV)/requirements.txt
	touch $@
