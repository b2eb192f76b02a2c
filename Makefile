# Everything is set up on first use: `make app` and `make test` need Python 3.11 or newer with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JAX_VENV := .venv-jax
BOOK_VENV := .venv-book
BOOK := $(BOOK_VENV)/bin/python
JAX_TESTS := $(patsubst %,tests/test_%.py,architectures attacks augmenting batches bench build command_line costs explaining export \
	floors gradients keras_files keras_layers memory optimizing pixel_losses quantizing recipes runtimes streaming_outputs streaming_samples system train_command training)
# Tests of one file stay in one process: what a module has trained once serves all of them.
PROCESSES ?= 2
PIP := -m pip install --quiet --disable-pip-version-check --prefer-binary

.PHONY: app test test-jax lint format lock clean book book-jupyter book-check book-epub

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

# The course. Cells that have run are kept in _build/book-cache under a hash of what they import.
book: $(BOOK_VENV)/book.stamp
	$(BOOK) -m sphinx -b html -W -n --keep-going book _build/book

# The same pages by Jupyter Book 2, with the local theme, so that no network is needed. Jupyter refuses to start as root
# without this setting.
book-jupyter: $(BOOK_VENV)/book.stamp
	$(BOOK) book/_ext/prepare.py
	mkdir -p _build/jupyter && echo "c.ServerApp.allow_root = True" > _build/jupyter/jupyter_server_config.py
	cd book && JUPYTER_CONFIG_DIR=$(CURDIR)/_build/jupyter PYTHONPATH=$(CURDIR) PATH=$(CURDIR)/$(BOOK_VENV)/bin:$$PATH \
		jupyter-book build --html --execute --strict --ci

# Every page in a browser: no foreign request, nothing that axe-core finds, calculators that answer what Python answers,
# no broken link.
book-check: book
	$(BOOK) book/_ext/check_site.py _build/book

book-epub: $(BOOK_VENV)/book.stamp
	$(BOOK) -m sphinx -b epub -n --keep-going book _build/book-epub

clean:
	rm -rf $(VENV) $(JAX_VENV) $(BOOK_VENV) _build runs

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

$(BOOK_VENV)/book.stamp: requirements.txt pyproject.toml
	test -x $(BOOK) || $(PYTHON) -m venv $(BOOK_VENV)
	$(BOOK) $(PIP) -r requirements.txt -e ".[book]"
	touch $@
