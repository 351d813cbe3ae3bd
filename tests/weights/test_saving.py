"""A posterior and its optimiser's state survive being written to disk, bit for bit."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization

import cgjax as cg
from cgjax import weights
from train.engine.checkpoint import Checkpoints


def nested():
    """Plain trees: None where a parameter is absent, known parameters, several dtypes."""
    params = {
        "layer": {"kernel": jnp.ones((2, 3)), "bias": None},
        "heads": [jnp.full(2, -0.1), (jnp.zeros((1, 4)), jnp.ones((), jnp.bfloat16))],
        "scale": jnp.ones(2, jnp.bfloat16),
    }
    return weights.mean_field(params, {"*kernel": 0.1, "heads/*": 0.2})


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(2, 3, rngs=rngs)
        self.second = nnx.Linear(3, 1, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


def flax_module():
    return weights.mean_field(cg.functional(Net(nnx.Rngs(0)))[1], {"*kernel": 0.1})


def beliefs():
    return weights.beliefs(nested())


OPTIMISER = optax.partition(
    {
        "uncertain": weights.natural_gradient(0.1, momentum=0.9),
        "certain": optax.adam(0.01),
    },
    weights.partition_labels,
)


@jax.jit
def step(tree):
    """Some training: every leaf gets a gradient that depends on it."""
    gradient = jax.tree.map(lambda x: jnp.sin(3 * x + 1), tree["posterior"])
    updates, state = OPTIMISER.update(gradient, tree["state"], tree["posterior"])
    return {"posterior": optax.apply_updates(tree["posterior"], updates), "state": state}


def start(make):
    posterior = make()
    return {"posterior": posterior, "state": OPTIMISER.init(posterior)}


@functools.cache
def trained(make):
    """Bits that no initialiser would make by chance."""
    return step(step(start(make)))


def orbax(tree, like, folder):
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(folder / "step", tree)
    checkpointer.wait_until_finished()
    return checkpointer.restore(folder / "step", like)


def flax_leaves(tree, like, folder):
    (folder / "file").write_bytes(serialization.to_bytes(jax.tree.leaves(tree)))
    leaves, structure = jax.tree.flatten(like)
    saved = serialization.from_bytes(leaves, (folder / "file").read_bytes())
    return jax.tree.unflatten(structure, saved)


def flax_tree(tree, like, folder):
    (folder / "file").write_bytes(serialization.to_bytes(tree))
    return serialization.from_bytes(like, (folder / "file").read_bytes())


def pickled(tree, like, folder):
    (folder / "file").write_bytes(pickle.dumps(jax.device_get(tree)))
    return pickle.loads((folder / "file").read_bytes())


def by_names(tree):
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found}


def experiment(tree, like, folder):
    """How the experiments under train/ save."""
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save(1, by_names(tree), {})
    saved = checkpoints.latest()
    checkpoints.close()
    assert saved is not None
    names = by_names(like)
    assert saved.arrays.keys() == names.keys()
    return jax.tree.unflatten(jax.tree.structure(like), [saved.arrays[name] for name in names])


WAYS = (orbax, flax_leaves, flax_tree, pickled, experiment)
# All but flax.serialization of an nnx.State, which it does not know; its leaves it writes.
CASES = [(way, make) for way in WAYS for make in (nested, flax_module) if way is not flax_tree]
CASES.append((flax_tree, nested))


def assert_same_bits(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize(("way", "make"), CASES)
def test_training_goes_on_as_if_it_had_not_stopped(way, make, tmp_path):
    tree = trained(make)
    like = start(make)
    restored = way(tree, like, tmp_path)
    assert_same_bits(restored, tree)
    assert_same_bits(step(jax.tree.map(jnp.asarray, restored)), step(tree))


def test_beliefs(tmp_path):
    posterior = beliefs()
    for way in WAYS:
        like = jax.tree.map(jnp.zeros_like, posterior)
        (tmp_path / way.__name__).mkdir()
        restored = way(posterior, like, tmp_path / way.__name__)
        assert_same_bits(restored, posterior)
        assert isinstance(restored["layer"]["kernel"], cg.Belief)
