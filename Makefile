# Needs Python 3.11 or later with its headers, and a C compiler; makes .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml $(wildcard bufpool_workers/memory/*.p[yx]*)

.PHONY: help demo test check bench bench-go bench-metrics soak faults leaks debug asan clean

help:
	@echo "make demo   a real worker with warm pools at work on real files (under two minutes)"
	@echo "make test   the tests"
	@echo "make check  lint and types"
	@echo "make bench  what it costs and what it gains, as ratios measured here"
	@echo "make leaks  where secrets show: in memory, cores, the broker; plain, wiped, sealed"
	@echo "make soak   10,000 writers and 500 compactors killed; the totals have to be exact"
	@echo "make faults everything that can die, fill up or misbehave; 2,000 recycled children, plotted"
	@echo "make debug  the core's tests under the allocator's and the interpreter's debug modes"
	@echo "make asan   the core's tests under the address and undefined-behaviour sanitizers"

demo: .venv/.demo
	$(BIN)/python -m tasks.demo

test: .venv/.test
	@.ci/prometheus
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/.check
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

bench: .venv/.bench
	$(BIN)/python -m tests.benchmarks

bench-go: .venv/.bench-go
	$(BIN)/python -m tests.benchmarks go_original

bench-metrics: .venv/.bench
	$(BIN)/python -m tests.benchmarks metrics

soak: .venv/.test
	$(BIN)/python tests/metrics/storm.py --writers 10000 --compactors 500

leaks: .venv/.test
	$(BIN)/python -m tests.leaks
	$(BIN)/python -m pytest -q tests/leaks tests/worker/test_sealed_exposure.py

faults: .venv/.bench
	$(BIN)/python -m pytest -m "" tests/faults
	$(BIN)/python -m tests.faults

debug: .venv/.test
	PYTHONMALLOC=debug PYTHONDEVMODE=1 $(BIN)/python -m pytest tests/core tests/unit

ASAN := CFLAGS="-O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer"

asan: .venv/.test
	rm -rf build/asan
	mkdir -p build/asan
	printf '[build]\nbuild_base = build/asan/build\n' > build/asan/setup.cfg
	$(ASAN) DIST_EXTRA_CONFIG=$(CURDIR)/build/asan/setup.cfg \
	    $(BIN)/pip install --quiet --no-deps --target build/asan/lib .
	cd build/asan && PYTHONPATH=lib PYTHONMALLOC=malloc UBSAN_OPTIONS=halt_on_error=1 \
	    ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$($${CC:-cc} -print-file-name=libasan.so)" \
	    ../../$(BIN)/pytest -c ../../pyproject.toml --rootdir ../.. -p no:cacheprovider \
	    --timeout 600 ../../tests/core

# a stamp for each set of extras; the last install wins and keeps what was there
.venv/.%: .venv/bin/python $(SOURCES)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

.venv/bin/python:
	@PYTHON=$(PYTHON) sh .ci/host
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build *.egg-info bufpool_workers/memory/*.so bufpool_workers/memory/_*.c
