# make search   .venv, the demo corpus, the 27-trial grid, a registered champion
# make test     .venv, the whole test suite, two files at a time
# make quick    the tests that need neither Ray nor a server, in less than a minute
# make check    style and types
# make layout   which package imports which, and how large things are
# make docs     the documentation, in site/

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: search test quick check layout docs bench audit sbom lock clean

search: $(INSTALLED)
	$(BIN)/python search/run_grid.py

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile

quick: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not services"

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

layout: $(INSTALLED)
	$(BIN)/python -m tests.architecture

docs: $(INSTALLED) # a broken link is an error
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet

bench: $(INSTALLED)
	$(BIN)/python bench/prepare.py
	$(BIN)/python bench/predict.py

$(INSTALLED): .ci/requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "AGR needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r .ci/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

audit: # known vulnerabilities of the pinned packages, secrets in tracked files
	$(PYTHON) .ci/audit

sbom: # what the image holds, as CycloneDX
	$(PYTHON) .ci/sbom sbom.json

lock: # in a new environment, so that nothing installed by hand gets in
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet "torch==2.13.0" ".[dev]"
	{ echo "# What \`make\` installs: every package, pinned. Made by \`make lock\` from the ranges in pyproject.toml."; \
	  .venv-lock/bin/python -m pip freeze --exclude agr | sed 's/^\(torch==[^+]*\)+.*/\1/'; } > .ci/requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-audit .venv-sbom data site
	rm -rf mlflow_store/mlflow.db mlflow_store/artifacts mlflow_store/stages mlflow_store/ray mlflow_store/outbox
	rm -rf mlflow_store/studies.journal*
