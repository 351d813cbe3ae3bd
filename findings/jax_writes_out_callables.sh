#!/bin/sh
# Tracing a callable object that has no `__name__` writes out its `repr`.
#
# Package: jax and jaxlib 0.10.2, on Python 3.11 to 3.13.
# Seen: `jax.make_jaxpr`, `jax.vmap` and `jax.jit` call `repr` of such an object once for each trace
# (`jax.jvp` does not). For a frozen dataclass of functions, whose generated `repr` holds those of its
# fields, the text doubles with each level at which two fields share one object: 20 levels are a text
# of a million parts, however little there is to compute. Declared with `repr=False`, the parts are not
# written out.
#
# Fails (exit status 1) if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

asked = []


class Squared:
    def __call__(self, x):
        return x * x

    def __repr__(self):
        asked.append(1)
        return "Squared()"


def times_asked(transform):
    asked.clear()
    transform(Squared())
    return len(asked)


counts = {
    "make_jaxpr": times_asked(lambda f: jax.make_jaxpr(f)(1.0)),
    "vmap": times_asked(lambda f: jax.vmap(f)(jnp.ones(2))),
    "jit": times_asked(lambda f: jax.jit(f)(1.0)),
    "jvp": times_asked(lambda f: jax.jvp(f, (1.0,), (1.0,))),
}
print("jax", jax.__version__, "repr asked for:", counts)
assert counts == {"make_jaxpr": 1, "vmap": 1, "jit": 1, "jvp": 0}


@dataclasses.dataclass(frozen=True)
class Sum:
    one: Callable
    other: Callable

    def __call__(self, x):
        return self.one(x) + self.other(x)


def twice(f, levels):
    for _ in range(levels):
        f = Sum(f, f)
    return f


for levels in (2, 4, 8):
    asked.clear()
    jax.eval_shape(jax.vmap(lambda x: x), jnp.ones(1))  # nothing of ours
    assert not asked
    jax.make_jaxpr(twice(Squared(), levels))(1.0)
    print(levels, "levels of sharing:", len(asked), "parts written out")
    assert len(asked) == 2**levels
PYTHON
echo "As described."
