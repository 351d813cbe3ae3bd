"""Splitting trees into arrays and a hashable rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgjax import _static
from cgjax.nodes import Binary, RectifiedGaussian

TREES = {
    "empty": (),
    "arrays": {"a": jnp.ones(2), "b": [np.float32(3), np.arange(3)]},
    "settings": ("mode", True, None, len),
    "mixed": {"x": jnp.ones(2), "flag": False, "n": 3, "name": "h", "key": jax.random.key(0)},
    "family": (Binary(-1.0, jnp.ones(3)), RectifiedGaussian(jnp.tanh, 0.1)),
}


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("name", TREES)
def test_join_undoes_split(name, numbers):
    tree = TREES[name]
    structure, arrays = _static.split(tree, numbers=numbers)
    assert structure.num_arrays == len(arrays)
    hash(structure)
    back = _static.join(structure, arrays)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(tree), strict=True):
        assert a is b


def test_numbers_count_as_arrays_only_when_asked_and_settings_never():
    tree = {"number": 2.0, "int": 3, "complex": 1j, "flag": True, "name": "s"}
    assert _static.split(tree)[1] == []
    assert sorted(map(abs, _static.split(tree, numbers=True)[1])) == [1, 2.0, 3]


def test_structures_differ_with_their_settings_and_not_with_their_arrays():
    one = _static.split((jnp.ones(2), "a", True))[0]
    assert one == _static.split((jnp.zeros(3), "a", True))[0]
    assert one != _static.split((jnp.ones(2), "a", False))[0]
    assert one != _static.split([jnp.ones(2), "a", True])[0]
    assert one != _static.split((jnp.ones(2), jnp.ones(2), True))[0]


def test_tracers_are_found_inside_trees():
    found = []
    jax.jit(lambda x: found.append(_static.is_traced({"a": (x, 1)})))(1.0)
    assert found == [True]
    assert not _static.is_traced({"a": (jnp.ones(2), 1, "s")})
