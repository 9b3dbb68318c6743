# Each command does its own set-up; the first one takes minutes and several GB (README.md names a smaller one).
#   make lab       study: opens the first lesson in JupyterLab
#   make test      check the style, run all tests, execute every notebook
#   make setup     the set-up alone, anew where the folder was moved or copied
#   make lint      check the style alone
#   make lessons   execute every notebook from a fresh kernel and store its outputs (LESSONS="02 05": only these)
#   make ledger    measure every claim on five seeds and on real data, write reports/ledger.md (LESSONS as above)
#   make zoo       train the networks of zoo/ anew, for about an hour (LESSONS as above)
#   make site      build the web pages from the stored notebooks, offline: build/site/index.html
#   make student   write copies of the lessons into build/: exercises open, and all solved (LESSONS as above)
#   make bench     measure the course beside what people would use instead, write reports/benchmark.md
#   make clean     remove what set-up, tests, zoo and site made, all of build/; data, notebooks and zoo/ stay
# Variables of the set-up, before the word make:
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu    PyTorch without its GPU libraries
#   PYTHON=/path/to/python3.12                          a Python of your choice, 3.11 or later

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The environment belongs to the folder that it was made in; the stamp holds that folder.
ELSEWHERE := [ -f $(READY) ] && [ "$$(cat $(READY))" != "$$(pwd -P)" ]
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if "$$p" -c '$(NEW_ENOUGH)' 2>/dev/null; then echo "$$p"; break; fi; done)
TORCH_LINES := import re, tomllib; \
	print(*(d for d in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"] if re.match("torch", d)), sep="\n")

.PHONY: help setup ready lab lint test lessons ledger zoo site student bench clean

help:
	@sed -n 's/^#  *//p' Makefile | sed 15q

setup:
	@if $(ELSEWHERE); then rm -rf $(VENV); fi
	@$(MAKE) --silent $(READY)

ready:
	@if $(ELSEWHERE); then \
	    echo "This folder was moved or copied since its environment was made: run make setup, which makes it anew." >&2; \
	    exit 1; fi
	@$(MAKE) --silent $(READY)

# The stamp is written last: a set-up that was interrupted has none and is done again, and so is one that is older than
# the list of dependencies.
$(READY): pyproject.toml
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' 2>/dev/null || { \
	    echo "aecourse needs Python 3.11 or later, and $(if $(PYTHON),'$(PYTHON)' is not one,none was found)." >&2; \
	    echo "Get one at https://www.python.org/downloads and name it: PYTHON=/path/to/python make setup" >&2; exit 1; }
	@echo "set-up of $(VENV) with $$("$(PYTHON)" --version): minutes the first time"
	@"$(PYTHON)" -m venv $(VENV) || { \
	    echo "$(VENV) could not be made. On Debian and Ubuntu it needs a package: apt install python3-venv" >&2; exit 1; }
ifneq ($(TORCH_INDEX),)
	@$(BIN)/python -c '$(TORCH_LINES)' > $(VENV)/torch.txt
	$(BIN)/python -m pip install --no-deps --index-url "$(TORCH_INDEX)" -r $(VENV)/torch.txt
endif
	$(BIN)/python -m pip install --editable '.[test,site]'
	@$(BIN)/python -m pip check
	@$(BIN)/python -c 'import aecourse, torch, torchvision, jupyterlab; print("ready, with torch", torch.__version__)'
	@pwd -P > $(READY)

# This environment's kernel comes first, whatever kernels the user's own folders hold. The server listens on this machine
# only, keeps its token and prints its address, for those without a browser. Jupyter has to be told that root is meant.
lab: ready
	@JUPYTER_PATH="$(CURDIR)/$(VENV)/share/jupyter" JUPYTER_PREFER_ENV_PATH=1 $(BIN)/python -m jupyterlab \
	    --ip=localhost $$([ "$$(id -u)" -ne 0 ] || echo --allow-root) \
	    --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

lint: ready
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check

# Two processes with one thread each; all cells of a notebook run in one of them.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --every-notebook --numprocesses 2 --dist loadfile

lessons: ready
	$(BIN)/python scripts/lessons.py $(LESSONS)

ledger: ready
	$(BIN)/python scripts/ledger.py $(LESSONS)

zoo: ready
	OMP_NUM_THREADS=1 $(BIN)/python scripts/zoo.py $(LESSONS)

site: ready
	$(BIN)/python scripts/pictures.py
	$(BIN)/python scripts/site.py

student: ready
	$(BIN)/python scripts/student.py $(LESSONS)

bench: ready
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build aecourse.egg-info .pytest_cache .ruff_cache
	find aecourse scripts benchmarks tests -name __pycache__ -exec rm -rf {} +
