"""What several test files share: exact comparison, recorded random bits, small networks."""

import contextlib
import importlib
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from tests import compiler

BIT_SOURCE = importlib.import_module("cgjax.kernels.random_bits")


@contextlib.contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """A folder that may be read and not written. Root may write anywhere, so it becomes another
    user meanwhile, who must be able to reach the folder: see `reachable_folder`."""
    mode, user = folder.stat().st_mode, os.geteuid()
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)


_NOBODY = 65534


@pytest.fixture
def reachable_folder() -> Iterator[Path]:
    """A folder that every user can reach, which those of pytest's `tmp_path` are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def assert_identical(got: Any, expected: Any) -> None:
    """Same structure, shapes, dtypes and, bit for bit, the same values."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)


def as_users(function: Callable[..., Any]) -> Any:
    """A function compiled as users have it: with the tests' few optimisations (tests/compiler.py)
    the last bit of a value may differ between two programs that compute it."""
    return jax.jit(function, compiler_options=compiler.ALL_PASSES)


class RecordedBits:
    """Every consumption of random bits at run time, as (key data, number of counters from 0)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.consumed: list[tuple[bytes, int]] = []
        original = BIT_SOURCE.draw_words

        def draw_words(key: Any, shape: tuple[int, ...], rounds: int) -> Any:
            count = math.prod(shape)

            def record(data: Any) -> None:
                self.consumed.append((np.asarray(data).tobytes(), count))

            jax.debug.callback(record, jax.random.key_data(key))
            return original(key, shape, rounds)

        monkeypatch.setattr(BIT_SOURCE, "draw_words", draw_words)

    def take(self) -> list[tuple[bytes, int]]:
        """What was consumed since the last call."""
        jax.effects_barrier()
        taken, self.consumed[:] = list(self.consumed), []
        return taken

    def assert_disjoint(self, count: int) -> list[tuple[bytes, int]]:
        """`count` draws since the last call, no two of which share a counter.

        All draws of one key start at counter 0, so two with one key would overlap.
        """
        taken = self.take()
        assert len(taken) == count
        assert len({key for key, _ in taken}) == count
        return taken


def correlation(a: Any, b: Any) -> float:
    """The sample correlation of two arrays, standard error 1 / sqrt(size) if independent."""
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


def optimised_hlo(function: Any, *args: Any) -> str:
    """The compiled program without names and metadata."""
    text = jax.jit(function).lower(*args).compile().as_text() or ""
    text = text[text.index("\n%") if "\n%" in text else text.index("\nENTRY") :]
    text = re.sub(r", metadata=\{[^}]*\}", "", text)
    names: dict[str, str] = {}
    return re.sub(r"%[\w.\-]+", lambda m: names.setdefault(m[0], f"%{len(names)}"), text)


def weights(*sizes: int, seed: int = 0) -> list[jax.Array]:
    """Weight matrices of a small dense network."""
    keys = jax.random.split(jax.random.key(seed), len(sizes) - 1)
    shapes = zip(sizes, sizes[1:], strict=False)
    return [jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)]


def two_layers(parameters: Any, x: jax.Array) -> jax.Array:
    """Spin nodes "first", then ReLU nodes "second", then an affine map."""
    h = cg.node(cg.nodes.Spin(), x @ parameters[0], name="first")
    h = cg.node(cg.nodes.ReLU(), h @ parameters[1], name="second")
    return h @ parameters[2]


def spin(x: Any, name: str | None = None) -> jax.Array:
    """A Spin node."""
    return cg.node(cg.nodes.Spin(), jnp.asarray(x), name=name)


def relu(x: Any, name: str | None = None) -> jax.Array:
    """A ReLU node."""
    return cg.node(cg.nodes.ReLU(), jnp.asarray(x), name=name)


def filled(make: Any, seed: int = 0) -> Any:
    """A module with random values in all its variables, for which nothing is compiled.

    Kernels have a deviation of 1 / sqrt(inputs); all else, such as the scales, biases and running
    statistics of normalisations, is in [0.5, 1.5], not what it is at the start.
    """
    graphdef, variables = nnx.split(nnx.eval_shape(make))
    generator = np.random.default_rng(seed)

    def fill(array: Any) -> jax.Array:
        if len(array.shape) > 1:
            values = generator.normal(size=array.shape) * math.prod(array.shape[:-1]) ** -0.5
        else:
            values = generator.uniform(0.5, 1.5, array.shape)
        return jnp.asarray(values.astype(array.dtype))

    return nnx.merge(graphdef, jax.tree.map(fill, variables))


def weighted(factor, statistic, x):
    """A statistic times a number that a program computes from x, so that it is no output."""
    return factor * statistic * jnp.exp(0 * x)
