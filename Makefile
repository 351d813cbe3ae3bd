# make train     trains tanh and ReLU networks on scikit-learn's digits, and says
#                what was learnt: a table, a figure, a JSON; about a minute
#     EXPERIMENT=NAME    another one of train/, such as uci, vae or resnet
#     ARGS="--help"      what an experiment can be told
#
# make test      the test suite; a part of it: make test ARGS="-k moments"
# make test-changed      the test files that a change touches
# make doctest   the examples in docstrings
# make pages     the code on the pages of the documentation
# make newest    the core tests on the newest JAX, in .venv-newest
# make smoke     the experiment in a tiny setting, into a temporary folder
# make lint      ruff
# make types     pyright
# make format    let ruff rewrite the files
# make docs      the documentation site, into site/
# make notebooks the notebooks of the site, executed into build/notebooks/
# make browser   opens each page of the site in Chromium, wide and narrow
# make bench     the cost of PCFF and of moments, and the speed of training
# make clean     remove the environments and what was built
#
# The first time, a target sets up what it needs in .venv, with the versions of
# constraints.txt. With another Python: make train PYTHON=/path/to/python3.12

ARGS ?=
# Of `make train`: one of EXPERIMENTS, which are the packages in train/ that can be run.
EXPERIMENT ?= dense
EXPERIMENTS = $(filter-out report,$(patsubst train/%/__main__.py,%,$(sort $(wildcard train/*/__main__.py))))
# Names to look for, in this order. PYTHON_NEWEST is the one for `make newest`.
PYTHON ?= python3 python3.13 python3.12 python3.11 python
PYTHON_NEWEST ?= python3.13 python3.12

VENV = .venv
VENV_NEWEST = .venv-newest
RUN = $(VENV)/bin/python -m

# Two processes. The one that ends first takes tests of the other's, from the end.
PYTEST = pytest -n 2 --dist worksteal
# The tests of what can differ from one JAX to the next: whatever reads programs, whose form JAX
# changes; random bits that are to be JAX's; Flax's modules. Neither the mathematics of families and
# weights nor experiments, nor, of the rest, what only compares figures at length.
NEWEST_TESTS = $(wildcard tests/_program tests/_walk tests/_beliefs tests/_weight_noise tests/_lift) \
    tests/inference tests/layers tests/kernels/test_random_bits.py tests/weights/test_procedures.py \
    $(addprefix tests/test_, component.py functional.py node.py structure.py)
# Every family and every procedure with all of the compiler, of which the other tests have little
# (tests/compiler.py); the examples in docstrings have all of the pinned version's.
COMPILED_TESTS = tests/nodes/test_battery.py tests/inference/test_procedures.py
# With jaxlib 0.12, LLVM's vectoriser takes a minute for some programs (docs/semantics.md).
NO_VECTORS = --xla_backend_extra_options=-vectorize-loops=false
ALL_PASSES = $(NO_VECTORS) --xla_backend_optimization_level=3 \
    --xla_llvm_disable_expensive_passes=false

# All annotations are checked while examples run, not only those of the packages in pyproject.toml.
CHECK_ALL = -p tests.strict --jaxtyping-packages=cgjax,tests.strict.beartype
# On the newest JAX none: they are the same as with the pinned one, whose tests check them.
CHECK_NONE = --jaxtyping-packages=none,beartype.beartype

# Byte code is kept whatever the environment says: without it, each process that a test starts
# compiles the sources of all that it imports, which takes as long as to import it.
export PYTHONDONTWRITEBYTECODE =

# Two targets must not install into one environment at the same time.
.NOTPARALLEL:
.PHONY: help train known-experiment test test-changed bench docs notebooks browser lint types \
    doctest pages smoke newest newest-environment format clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

train: known-experiment $(VENV)/installed-train
	$(RUN) train.$(EXPERIMENT) $(ARGS)

# Before anything is installed, which takes minutes.
known-experiment:
	@test -n "$(filter $(EXPERIMENT),$(EXPERIMENTS))$(wildcard train/$(subst .,/,$(EXPERIMENT)).py)" || \
	    { echo "There is no experiment '$(EXPERIMENT)'. Choose one of: $(EXPERIMENTS)."; \
	    echo "For example: make train EXPERIMENT=uci ARGS=--help"; exit 2; }

# Each core has a process with tests: threads of numpy's products, or of XLA's programs, would wait
# for each other.
test test-changed pages newest: export OPENBLAS_NUM_THREADS = 1
test test-changed pages newest: export NPROC = 1

test: $(VENV)/installed-test
	$(RUN) $(PYTEST) $(ARGS)

test-changed: $(VENV)/installed-test
	files=$$($(RUN) tests.changed) && if test -n "$$files"; then $(RUN) $(PYTEST) $$files $(ARGS); \
	    else echo "Nothing has changed."; fi

bench: $(VENV)/installed-train
	$(RUN) benchmarks.pcff_overhead $(ARGS)
	$(RUN) benchmarks.training_throughput $(ARGS)
	$(RUN) benchmarks.moments $(ARGS)

docs: $(VENV)/installed-docs notebooks
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict $(ARGS)

browser: docs
	$(RUN) docs.browser_check site

# Executed where a notebook, or the library, has changed since.
NOTEBOOKS = $(patsubst docs/%.py,build/%.ipynb,$(wildcard docs/notebooks/*.py))
notebooks: $(NOTEBOOKS)

build/notebooks/%.ipynb: docs/notebooks/%.py docs/notebooks/matplotlibrc docs/execute_notebooks.py \
    $(shell find cgjax train -name '*.py') | $(VENV)/installed-train $(VENV)/installed-docs
	JAX_PLATFORMS=cpu $(RUN) docs.execute_notebooks $<

lint: $(VENV)/installed-test
	$(RUN) ruff check .
	$(RUN) ruff format --check .

format: $(VENV)/installed-test
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

types: $(VENV)/installed-test $(VENV)/installed-docs
	$(RUN) pyright --pythonpath $(VENV)/bin/python

doctest: $(VENV)/installed-test
	JAX_PLATFORMS=cpu $(RUN) pytest -p tests.lowering --doctest-modules cgjax $(CHECK_ALL) $(ARGS)

pages: $(VENV)/installed-test
	JAX_PLATFORMS=cpu $(RUN) $(PYTEST) tests/pages.py $(ARGS)

# The newest versions on purpose: constraints.txt is not used, and pip looks for updates each time.
newest-environment: $(VENV_NEWEST)/created
	$(VENV_NEWEST)/bin/python -m pip install --quiet --no-compile --upgrade \
	    --upgrade-strategy eager \
	    --editable '.[test]'
	$(VENV_NEWEST)/bin/python -c 'import sys, jax, flax; \
	    print("Python", sys.version.split()[0], "JAX", jax.__version__, "Flax", flax.__version__)'

newest: newest-environment
	XLA_FLAGS="$(NO_VECTORS)" $(VENV_NEWEST)/bin/python -m $(PYTEST) -m "not numerics" $(CHECK_NONE) \
	    $(NEWEST_TESTS) $(addprefix --ignore=,$(COMPILED_TESTS)) $(ARGS)
	XLA_FLAGS="$(ALL_PASSES)" $(VENV_NEWEST)/bin/python -m $(PYTEST) -m "not numerics" $(CHECK_NONE) \
	    $(COMPILED_TESTS) $(ARGS)

# Every regulariser and both node families, for two epochs of a tiny network; then the plot alone.
# (The tests run the commands of the other experiments.)
smoke: $(VENV)/installed-train
	folder=$$(mktemp -d) && \
	JAX_PLATFORMS=cpu $(RUN) train.dense --regularisers none dropout pcff both --seeds 0 \
	    --hidden 8 --epochs 2 --samples 2 --out "$$folder" && \
	$(RUN) train.figure "$$folder/result.json" --out "$$folder/figure.svg" && \
	test -s "$$folder/figure.png" && test -s "$$folder/figure.svg" && rm -rf "$$folder"

clean:
	rm -rf $(VENV) $(VENV_NEWEST) .compiled site dist build .pytest_cache .ruff_cache .hypothesis

# --- environments ---------------------------------------------------------------------------------
# A person sees pip's progress; a log does not need it.
# Byte code is made of what is imported, when it is: to make it of all takes longer.
PIP_INSTALL = pip install --disable-pip-version-check --no-compile $(if $(CI),--quiet)

$(VENV)/created:
	@.ci/make-environment $(VENV) 3.11 $(PYTHON)

$(VENV_NEWEST)/created:
	@.ci/make-environment $(VENV_NEWEST) 3.12 $(PYTHON_NEWEST)

# What tests need is installed at once with what experiments need, which the tests run, and with the
# libraries whose networks they try.
$(VENV)/installed-test: pyproject.toml constraints.txt | $(VENV)/created
	$(RUN) $(PIP_INSTALL) --constraint constraints.txt --editable '.[train,test,zoo]'
	@touch $@ $(VENV)/installed-train

$(VENV)/installed-%: pyproject.toml constraints.txt | $(VENV)/created
	$(RUN) $(PIP_INSTALL) --constraint constraints.txt --editable '.[$*]'
	@touch $@
