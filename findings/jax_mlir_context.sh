#!/bin/sh
# JAX makes a new context of MLIR, with all its dialects, for each program that it lowers, which takes
# most of the time of lowering a small one.
#
# Package: jax and jaxlib 0.10.2, on Python 3.11, CPU. (0.12.0.1 has the same function, called in
# the same place.)
# Seen: 40 programs of a few operations are lowered in 40 contexts. In one context, by a wrapper of the
# function that makes them, the same text comes out, two to four times as fast. A test suite that compiles
# some ten thousand small programs spent a sixth of its time there. It concerns eager operations too, each
# of which is a program once for each shape.
#
# Fails (exit status 1) if any of this changes: the contexts are counted, and the time has to be at least
# a third less.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import time

import jax
import jax.numpy as jnp
from jax._src.interpreters import mlir

print("jax", jax.__version__)
PROGRAMS = 40
x = jnp.arange(7.0)
made, new_context = [], mlir.make_ir_context


def counted():
    made.append(new_context())
    return made[-1]


def lowered():
    """The programs as text, and the seconds that lowering them took; they are traced before."""
    traced = [jax.jit(lambda x, k=k: jnp.tanh(x * k) + k).trace(x) for k in range(PROGRAMS)]
    start = time.perf_counter()
    modules = [t.lower() for t in traced]
    seconds = time.perf_counter() - start
    return [module.as_text() for module in modules], seconds


mlir.make_ir_context = counted
apart, _ = lowered()
assert len(made) == PROGRAMS, len(made)
made.clear()

shared = new_context()
times = {"each": [], "shared": []}
for _ in range(5):
    for name, make in (("each", new_context), ("shared", lambda: shared)):
        mlir.make_ir_context = make
        text, seconds = lowered()
        assert text == apart
        times[name].append(seconds)
each, one = (1e3 * min(times[name]) / PROGRAMS for name in ("each", "shared"))
print(f"milliseconds to lower a program: {each:.1f}, in one context {one:.1f}")
assert one < each * 2 / 3
PYTHON
echo "As described."
