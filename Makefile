# Two commands do everything on a fresh machine: `make demo` and `make test`.
.PHONY: help demo test fuzz lint check bench bench-quick lock clean
.DEFAULT_GOAL := help

PY := .venv/bin/python
SOURCES := src tests bench demo

help: ## show the targets
	@grep -E '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

demo: ## encrypt a real image, look at it, open it again (IMAGE=oci:path:tag for your own)
	@sh tools/bootstrap.sh run
	@$(PY) demo/demo.py $(if $(IMAGE),--image '$(IMAGE)')

test: ## install what the tests need, then lint, types, layering and every test
	@sh tools/bootstrap.sh dev
	@sh tools/peers.sh
	@$(MAKE) --no-print-directory lint
	@$(PY) -m pytest -n 4 --dist worksteal --ignore tests/newcomer $(ARGS)
	@$(PY) -m pytest tests/newcomer

fuzz: ## fuzz every parser for an hour each (SECONDS=3600 TARGETS="jwe pgp"), on all cores
	@sh tools/bootstrap.sh dev
	@PYTHONPATH=tests:src $(PY) -m fuzz $(TARGETS) --seconds $(or $(SECONDS),3600) --corpus .fuzz

lint: ## style, types and layering
	$(PY) -m ruff check $(SOURCES)
	$(PY) -m ruff format --check --quiet $(SOURCES)
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache | tail -n 6

bench: ## measure everything beside its peers, half an hour; writes docs/performance.md
	@sh tools/bootstrap.sh dev
	@$(PY) -m bench --out bench/results.json $(ARGS); code=$$?; $(PY) -m bench.page && exit $$code

bench-quick: ## the same with small inputs, in under a minute; writes nothing
	@sh tools/bootstrap.sh dev
	@$(PY) -m bench --quick $(ARGS)

bench-%: ## one group alone: memory, sink, disk, registry, recipients, decoder, startup, unpack
	@sh tools/bootstrap.sh dev
	@$(PY) -m bench $* $(ARGS)

lock: ## pin the newest dependencies again
	@sh tools/lock.sh

clean: ## remove what the other targets made
	rm -rf .venv .demo .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
