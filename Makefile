# Each target makes the environment `.venv` first if it is not there.
#
# make search   make the demo corpus, search the 27-point grid, register the champion
# make champion DATA=FOLDER   train the model that comes with AGR on the corpora in FOLDER: six trainings, together about 50 minutes on two cores
# make quick    run the tests that need neither Ray nor a server: about a minute on two cores
# make test     run all tests, two files at a time: about ten minutes on two cores
# make check    ruff and mypy --strict
# make layout   print and check the layout: imports, sizes, README
# make docs     build the documentation into site/; a broken link is an error
# make bench    measure prepare and predict
# make up       write docker/.env with fresh secrets, and start all services with Docker Compose
# make audit    look for known vulnerabilities in the pinned packages and for secrets in tracked files
# make sbom     list what the image holds, as CycloneDX, in sbom.json
# make lock     pin the newest versions that pyproject.toml allows, in .ci/requirements.lock
# make clean    delete environments, data, runs and models

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help search champion quick test check layout docs bench up audit sbom lock clean

help:
	@sed -n 's/^# //p' Makefile

search: $(INSTALLED)
	$(BIN)/python search/run_grid.py

champion: $(INSTALLED)
	$(BIN)/python search/make_champion.py $(DATA)

quick: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not services"

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

layout: $(INSTALLED)
	$(BIN)/python -m tests.architecture

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet

bench: $(INSTALLED)
	$(BIN)/python bench/prepare.py
	$(BIN)/python bench/predict.py

$(INSTALLED): .ci/requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "AGR needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r .ci/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable . --config-settings editable_mode=compat  # else a folder named agr hides it
	touch $@

up:
	$(PYTHON) .ci/up

audit:
	$(PYTHON) .ci/audit

sbom:
	$(PYTHON) .ci/sbom sbom.json

lock: # in a new environment, so that packages installed by hand stay out
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet "torch==2.13.0" ".[dev]"
	{ echo "# What \`make\` installs: every package, pinned. Made by \`make lock\` from the ranges in pyproject.toml."; \
	  .venv-lock/bin/python -m pip freeze --exclude agr | sed 's/^\(torch==[^+]*\)+.*/\1/'; } > .ci/requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-audit .venv-sbom data site
	rm -rf mlflow_store/mlflow.db mlflow_store/artifacts mlflow_store/stages mlflow_store/ray mlflow_store/outbox
	rm -rf mlflow_store/studies.journal*
