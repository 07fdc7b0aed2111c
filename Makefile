.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
MODEL := .funcnet/models/smollm2-135m-instruct
# Cheats at layers 0-10 and, in the same jobs, at 20-30.
ADVERSARIES := int4-weights+other-model-text,int6-weights+wrong-seed,fp8-weights+wrong-temperature,int8-weights+wrong-top-p,int4-one-layer+lossy-speculation,int8-one-layer+low-rank,low-rank-attention+kv-fp8,kv-int8+kv-int8-past,sliding-window+smaller-model,fewer-layers+swapped-layers,other-job+early-exit,cached-answer+constant-row,few-tokens+few-channels,shifted-rows+other-input,truncated-evidence+oversized-evidence,other-list+wrong-seed
# Verifiers that cheat in their duties, one or two at a time.
LAZY := passes-all+decides-nothing,passes-all+skips,copies
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_OFFLINE := 1

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

prerequisites:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is missing: install python3.11 with its venv module, or set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "$(PYTHON) is not Python 3.11: set PYTHON=/path/to/python3.11"; exit 1; }
	@command -v npm >/dev/null || { echo "Node.js 20 or newer with npm is missing: install it from your distribution or nodejs.org"; exit 1; }
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { echo "Node.js $$(node --version) is too old: 20 or newer is needed"; exit 1; }

.venv/.ready: requirements.lock pyproject.toml | prerequisites
	@echo "[1/4] Python packages"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/pip install -qq --no-deps --require-hashes -r requirements.lock
	@.venv/bin/pip install -qq torch==2.13.0
	@.venv/bin/pip install -qq --no-deps --editable .
	@touch $@

node_modules/.ready: package-lock.json | prerequisites
	@echo "[2/4] EVM tools"
	@npm ci --silent --no-audit --no-fund 2>/dev/null || npm ci --no-audit --no-fund
	@touch $@

out/.ready: node_modules/.ready .venv/.ready foundry.toml $(shell find contracts/src contracts/script contracts/solc -type f)
	@echo "[3/4] contracts"
	@forge build --quiet contracts/src contracts/script
	@.venv/bin/python -m funcnet.export_abi
	@touch $@

$(MODEL)/tolerance.json: .venv/.ready
	@echo "[4/4] model"
	@.venv/bin/funcnet model prepare

# slither wants a web3 below ours and halmos pins its solver: they get an environment of their own.
.solidity-tools/.ready: contracts/prove/requirements.txt | prerequisites
	@$(PYTHON) -m venv .solidity-tools
	@.solidity-tools/bin/pip install -qq -r contracts/prove/requirements.txt
	@touch $@

setup: out/.ready $(MODEL)/tolerance.json ## install and build everything (demo and test do it by themselves)

demo: setup ## show the whole job: a real model, a real chain, a real database
	@.venv/bin/funcnet demo

test: setup ## check formats and types, run the tests; in a quarter of an hour
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
	@.venv/bin/mypy
	@forge fmt --check contracts
	@forge test
	@FOUNDRY_PROFILE=gas FORGE_SNAPSHOT_CHECK=true forge test
	@.venv/bin/pytest

test-slow: setup ## the tests that take longest: planted faults, adversaries, stages that hang or leave, funcnet up
	@.venv/bin/pytest -m slow

test-long: setup ## what takes longer than make test allows
	@FOUNDRY_FUZZ_RUNS=5000 FOUNDRY_INVARIANT_RUNS=128 forge test
	@command -v rabbitmq-server >/dev/null || echo "RabbitMQ is not installed: its part runs over Redis (Debian: apt-get install rabbitmq-server)"
	@FUNCNET_ADVERSARIES=$(ADVERSARIES) FUNCNET_LAZY=$(LAZY) FUNCNET_LONG=1 \
		FUNCNET_TEST_BROKER=$$(command -v rabbitmq-server >/dev/null && echo rabbitmq || echo redis) .venv/bin/pytest -m "slow or not slow"

prove: setup .solidity-tools/.ready ## prove and measure what the docs claim: long invariants, symbolic tests, mutants, coverage, gas, the whole job
	@FOUNDRY_PROFILE=long forge test
	@.solidity-tools/bin/python contracts/prove/static.py
	@.solidity-tools/bin/python contracts/prove/symbolic.py
	@.venv/bin/python contracts/prove/coverage.py
	@.venv/bin/python contracts/prove/mutants.py
	@.venv/bin/funcnet bench gas --json
	@.venv/bin/funcnet bench pipeline --json
	@.venv/bin/funcnet demo --json

format: .venv/.ready ## format all code
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format . ; forge fmt contracts

lock: ## resolve the dependencies anew
	@.venv/bin/pip-compile --quiet --extra dev --generate-hashes --strip-extras --no-annotate --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --unsafe-package torch --unsafe-package function-network -o .funcnet/lock pyproject.toml
	@{ head -1 requirements.lock; grep -v '^#' .funcnet/lock; } > .funcnet/lock.new && mv .funcnet/lock.new requirements.lock

clean: ## remove what setup made
	@rm -rf .venv .solidity-tools node_modules out cache broadcast deployments .funcnet

.PHONY: help prerequisites setup demo test test-long prove format lock clean
