# Needs Python 3.11 or later with its headers, and a C compiler; makes .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
# or each of the many processes would compile the package anew
unexport PYTHONDONTWRITEBYTECODE
SOURCES := pyproject.toml $(wildcard bufpool_workers/memory/*.p[yx]* bufpool_workers/memory/_core/*.pyx \
    bufpool_workers/counters/*.pyx bufpool_workers/sealing/*.pyx)

.PHONY: help demo test test-long check check-deploy wheels bench bench-go bench-metrics bench-pythons
.PHONY: bench-instructions figures neighbours soak storm storm-metrics faults model fuzz leaks debug
.PHONY: asan libraries suites clean

help:
	@echo "make demo           a real worker with warm pools at work on real files (under two minutes)"
	@echo "make demo HOST=rq   on another job system (dramatiq, rq, huey, futures)"
	@echo "make test           the tests; ONLY=\"tests/memory -k fork\" for some"
	@echo "make test-long      those that it leaves out: whole builds, the whole demo, more faults"
	@echo "make check          lint, types, spelling, workflows"
	@echo "make check-deploy   deploy/: linters, and each step of it that needs no Docker"
	@echo "make wheels         the wheel for this machine in dist/, tested where there is no compiler"
	@echo "make bench          what it costs and what it gains, as ratios measured here"
	@echo "make bench-go       the same beside Go's own pools"
	@echo "make bench-metrics  what counting and scraping cost"
	@echo "make bench-pythons  the core under Python 3.11 to 3.14, as far as they are found"
	@echo "make bench-instructions  the same by callgrind, where time is too noisy"
	@echo "make figures        writes the figures of the pages from the recorded runs"
	@echo "make leaks          where secrets show: in memory, cores, the broker; plain, wiped, sealed"
	@echo "make libraries      what numpy, pandas, redis and twenty others take of a buffer"
	@echo "make neighbours     workers beside Flower, New Relic, Sentry, OpenTelemetry, Datadog and others"
	@echo "make suites         RQ's and Dramatiq's own tests, with the adapter as without it"
	@echo "make soak           two workers under load and faults for SECONDS=120; nothing may be lost"
	@echo "make faults         what can die, fill up or misbehave; 2,000 recycled children, plotted"
	@echo "make storm          100,000 asynchronous exceptions over each pool, and what they cost it"
	@echo "make storm-metrics  10,000 writers and 500 compactors killed; the totals have to be exact"
	@echo "make model          a million random steps of the core against a model in Python"
	@echo "make fuzz           hostile counter files for SECONDS=120; settings, tokens, canvases, EXAMPLES=20000"
	@echo "make debug          all tests under the debug modes of allocator and interpreter"
	@echo "make asan           the core's tests under the address and undefined-behaviour sanitizers"
	@echo "make clean          removes .venv, build and what was compiled"
	@echo
	@echo "PYTHON=python3.12 names another Python; APT=1 lets root install missing Debian packages."

comma := ,

demo: .venv/.demo$(addprefix $(comma),$(HOST))
	$(BIN)/python -m tasks.demo $(HOST)

# more processes than two cores: most tests wait for a worker, and another may run meanwhile
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder

test: .venv/.test
	@.ci/prometheus
	$(BIN)/python -m pytest $(PARALLEL) $(ONLY)

test-long: .venv/.test
	$(BIN)/python -m pytest $(PARALLEL) -m long

PAGES := $(wildcard *.md .github/*.md bufpool_workers/*.md bufpool_workers/*/*.md deploy/*.md deploy/*/*.md \
    tasks/*.md tests/*.md tests/*/*.md)

check: .venv/.check
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python .ci/types
	$(BIN)/python -m pytest -q tests/memory/test_stubs.py
	$(BIN)/codespell
	$(BIN)/proselint check --config .ci/proselint.json $(PAGES)
	@.ci/workflows

wheels: .venv/.wheels
	@.ci/wheels

check-deploy: .venv/.deploy .venv/checkov/bin/checkov
	@.ci/prometheus
	$(BIN)/python -m pytest -o python_files='test_*.py build_*.py' tests/deploy

# make bench ONLY="micro secure" for some sections, RECORD=folder to keep the figures elsewhere
RECORD ?= build/benchmarks

bench: .venv/.bench
	$(BIN)/python -m tests.benchmarks $(ONLY) --record $(RECORD)

bench-go: .venv/.bench-go
	$(BIN)/python -m tests.benchmarks go_original --record $(RECORD)/go

bench-metrics: .venv/.bench
	$(BIN)/python -m tests.benchmarks metrics scrape --record $(RECORD)/metrics

# needs valgrind
bench-instructions: .venv/.bench
	@mkdir -p $(RECORD)
	$(BIN)/python -m tests.benchmarks.instructions --record $(RECORD)

# the figures in the pages, from the recorded runs
figures: .venv/.bench
	$(BIN)/python -m tests.docs.figures

bench-pythons: .venv/.bench
	$(BIN)/python -m tests.benchmarks pythons --record $(RECORD)/pythons

SECONDS ?= 120

soak: .venv/.bench
	$(BIN)/python -m tests.soak --seconds $(SECONDS)

storm: .venv/.test
	$(BIN)/python -m tests.interrupts

storm-metrics: .venv/.test
	$(BIN)/python -m tests.counters.storm --writers 10000 --compactors 500

model: .venv/.test
	BUFPOOL_MODEL_STEPS=1000000 $(BIN)/python -m pytest -s --timeout 7200 \
	    tests/memory/test_state_machine.py

EXAMPLES ?= 20000

fuzz: .venv/.fuzz
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)
	BUFPOOL_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n 2 --timeout 1800 tests/fuzz \
	    tests/test_settings.py tests/sealing tests/counters/test_format.py \
	    tests/celery/test_published_secrets.py

leaks: .venv/.test
	$(BIN)/python -m tests.leaks
	$(BIN)/python -m pytest -q tests/leaks tests/celery/test_sealed_exposure.py

# in an environment of their own: installed, some of them act in each Celery worker and pytest
libraries: .venv/.libraries
	$(BIN)/python -m pytest tests/memory/test_libraries.py

# RQ's and Dramatiq's own tests; they know no Redis but one on port 6379
suites: .venv/.suites
	$(BIN)/python -m tests.suites $(ONLY)

neighbours: build/neighbours/.installed
	build/neighbours/bin/python -m pytest $(PARALLEL) -p no:ddtrace tests/neighbours \
	    tests/adapters/test_awaited.py tests/adapters/test_dashboards.py

build/neighbours/.installed: $(SOURCES) | .venv/.test
	$(PYTHON) -m venv build/neighbours
	build/neighbours/bin/pip install --quiet --disable-pip-version-check \
	    --editable ".[neighbours]"
# these ask for an older redis or Dramatiq than the others, and work with theirs
	build/neighbours/bin/pip install --quiet --disable-pip-version-check --no-deps \
	    "arq>=0.28" "dramatiq-dashboard>=0.4"
	@touch $@

faults: .venv/.bench
	$(BIN)/python -m pytest -m "" tests/faults
	$(BIN)/python -m tests.faults

# all that starts no worker and no server
UNITS := $(wildcard tests/test_*.py) tests/memory tests/sealing tests/diagnostics tests/console

debug: .venv/.test
	PYTHONMALLOC=debug PYTHONDEVMODE=1 $(BIN)/python -m pytest -n 2 $(UNITS)
	PYTHONMALLOC=debug $(BIN)/python -m pytest $(PARALLEL) \
	    $(addprefix --ignore ,$(UNITS))

ASAN := CFLAGS="-O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer"

# handle_segv: some tests want a process that such a signal ends
asan: .venv/.test
	rm -rf build/asan
	mkdir -p build/asan
	printf '[build]\nbuild_base = build/asan/build\n' > build/asan/setup.cfg
	$(ASAN) DIST_EXTRA_CONFIG=$(CURDIR)/build/asan/setup.cfg \
	    $(BIN)/pip install --quiet --no-deps --target build/asan/lib .
	cd build/asan && PYTHONPATH=lib PYTHONMALLOC=malloc UBSAN_OPTIONS=halt_on_error=1 \
	    ASAN_OPTIONS=detect_leaks=0:handle_segv=0 LD_PRELOAD="$$($${CC:-cc} -print-file-name=libasan.so)" \
	    ../../$(BIN)/pytest -c ../../pyproject.toml --rootdir ../.. -p no:cacheprovider \
	    --timeout 600 --import-mode=append ../../tests/memory

# a stamp for each set of extras; the last install wins and keeps what was there
.venv/.%: $(SOURCES)
	@command -v $(PYTHON) >/dev/null || .ci/packages $(PYTHON)
	@$(PYTHON) .ci/setup.py $*
	@touch $@

# its own pins leave no room for others in one environment
.venv/checkov/bin/checkov: | .venv/.deploy
	@echo "installing checkov into .venv/checkov"
	@$(BIN)/python -m venv --without-pip .venv/checkov
	@$(BIN)/pip --python .venv/checkov/bin/python install --quiet --disable-pip-version-check \
	    'checkov>=3.2,<4'

clean:
	rm -rf .venv build *.egg-info bufpool_workers/*/*.so bufpool_workers/*/_*.c
