# make book and make test are all that a reader needs; make help lists the rest.
# Needs Python 3.10 or newer, make and git. Everything else goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help book test offline pdf lab lab-test colab claims bench release lint format address clean distclean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

book: $(READY)  ## build the site: _build/html/index.html
	@$(BIN)/python _ext/stages.py book

test: $(READY)  ## lint, unit tests, notebooks, site, browser; FORCE=1 runs them though nothing changed
	@$(BIN)/python _ext/stages.py test $(if $(FORCE),--force)

offline: $(READY)  ## chapters 01 and 02 with neither data nor network
	@$(BIN)/python _ext/stages.py offline

pdf: book  ## the whole book as one file: _build/book.pdf
	@$(BIN)/python _ext/pdf.py

lab: $(READY)  ## open chapters and assignments in JupyterLab, as copies of your own in lab/
	@$(BIN)/python _ext/lab.py

lab-test: $(READY)  ## every chapter and an assignment in JupyterLab, in a browser
	@LECTOOL_LAB=all $(BIN)/python -m pytest -q tests/lab

colab: $(READY)  ## the chapters in Colab's versions; CHAPTER=01 for one
	@$(BIN)/python _ext/colab.py $(CHAPTER)

claims: $(READY)  ## run the chapters over three seeds and both data settings; CHAPTER=01 for one
	@$(BIN)/python _ext/stages.py claims $(CHAPTER)

bench: $(READY)  ## run benchmarks/*.py
	@$(BIN)/python _ext/stages.py bench

release: $(READY)  ## write the student notebooks of the assignments from their masters
	@$(BIN)/python -m lectool.assign release assignments/*.ipynb --to assignments/student

lint: $(READY)  ## check code and notebooks with ruff
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(READY)  ## put code into ruff's form, and fold notebooks alike for page, JupyterLab and Colab
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/python _ext/folding.py chapters/*.ipynb assignments/*.ipynb

address: $(READY)  ## REPO=owner/name [TAG=v0.2.0]: change the repository's address everywhere
	@$(BIN)/python _ext/address.py $(REPO) $(if $(TAG),--tag $(TAG))

clean:  ## remove the site and the outputs of the notebooks
	rm -rf _build build dist *.egg-info .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## remove the environment too
	rm -rf $(VENV)

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed; PYTHON=/path/to/python3 names one"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "$(PYTHON) is older than Python 3.10"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); } \
		|| { echo "Python's venv module is missing (Debian, Ubuntu: apt-get install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)
