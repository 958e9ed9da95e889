# make demo    see hybrid search on 2,000 products (a virtual environment, an embedded PostgreSQL, no download of a model)
# make test    run every test against a real PostgreSQL
# make help    the rest

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint smoke check picture quality bench-lexical bench-sparse bench-updates bench-freshness load bench-query bench-recipe bench-sql fuzz clean

help: ## show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(PIP) install -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## play a shop's story: migrate, index, search (with DATABASE_URL: on that server)
	@$(BIN)/hybridsearch demo

# Two processes, each with a server of its own; on a server that is given, one.
SPREAD := $(if $(HYBRIDSEARCH_TEST_URL),,-n 2 --dist loadfile)

test: $(VENV)/.dev ## run all tests (with HYBRIDSEARCH_TEST_URL: on that server)
	$(BIN)/python -m pytest $(SPREAD) $(ARGS)

soak: $(VENV)/.dev ## the faults for longer: 300 kills of workers, 8 writers beside 3 workers for 2 minutes
	HYBRIDSEARCH_TEST_KILLS=300 HYBRIDSEARCH_TEST_SECONDS=120 HYBRIDSEARCH_TEST_CUTS=100 HYBRIDSEARCH_TEST_CRASHES=10 \
	$(BIN)/python -m pytest tests/faults -s $(ARGS)

bench-freshness: $(VENV)/.dev ## the triggers' cost, the lag behind 20 writes a second, a backfill beside the encoder alone (PARTS)
	$(BIN)/python -m benchmarks.freshness $(PARTS)

lint: $(VENV)/.dev ## format, lint, types, the import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

smoke: $(VENV)/.dev ## build the wheel, try it in an empty environment
	$(BIN)/python tests/smoke.py

check: test lint smoke ## what CI runs

picture: $(VENV)/.dev ## make the README's picture of the demo anew
	$(BIN)/python docs/picture.py

quality: $(VENV)/.dev ## measure judged collections (DATA=folder of collections) and write docs/quality.md
	$(BIN)/python benchmarks/quality.py $(DATA) $(COLLECTIONS)

bench-lexical: $(VENV)/.dev ## BM25 beside ts_rank, pg_textsearch, rank-bm25 (SCALE=20k to 1m, DATA=folder of collections)
	$(BIN)/python benchmarks/lexical/bench.py --scale $(or $(SCALE),20k) $(if $(DATA),--data $(DATA))

bench-sparse: $(VENV)/.dev ## the learned-sparse leg beside HNSW on sparsevec (SCALE=20k to 1m)
	$(BIN)/python benchmarks/lexical/sparse.py --scale $(or $(SCALE),20k)

fuzz: $(VENV)/.dev ## hostile arguments of every kind, through Python, SQL, command line: CASES (10,000) of each
	HYBRIDSEARCH_FUZZ=$(or $(CASES),10000) $(BIN)/python -m pytest tests/integration/test_hostile.py \
	tests/integration/test_sql_query_language.py tests/integration/test_sql_hostile.py tests/integration/test_cli_hostile.py $(ARGS)

load: $(VENV)/.dev ## 50 clients at the FastAPI example for 30 s (CLIENTS, SECONDS)
	$(BIN)/python -m benchmarks.load --clients $(or $(CLIENTS),50) --seconds $(or $(SECONDS),30)

bench-updates: $(VENV)/.dev ## the size of the lexical index under 1,000,000 updates (about an hour; DOCUMENTS=20000)
	$(BIN)/python benchmarks/lexical/updates.py --documents $(or $(DOCUMENTS),20000) --updates 1000000

bench-query: $(VENV)/.dev ## legs, hybrid, filters beside the usual recipe (SCALE=100k or 1m)
	$(BIN)/python benchmarks/query/bench.py --scale $(or $(SCALE),100k)

bench-recipe: $(VENV)/.dev ## nDCG beside the usual recipe on SciFact and Icecat (DATA=folder of collections)
	$(BIN)/python benchmarks/query/quality.py $(DATA)

bench-sql: $(VENV)/.dev ## the search function in SQL: with a worker that encodes, and from the cache
	$(BIN)/python benchmarks/query/sql_function.py

clean: ## remove environments, the demo's database and build results
	rm -rf $(VENV) .venv-* .demo dist build *.egg-info
