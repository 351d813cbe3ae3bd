"""Families whose elements touch at the ends of what they take: no rows, nothing possible, half
precision, values that move."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax.nodes import Categorical, DenseGrid, Grid, LinearChain, SemiMarkov, Tree

KEY = jax.random.key(3)
_draw = np.random.default_rng(8)


def _normal(*shape: int) -> jax.Array:
    return jnp.asarray(_draw.normal(size=shape), jnp.float32)


STEPS = _normal(2, 2)
HOLES = jnp.array([True, False, True, True])
# A family, the shape of one of its nodes, and two values that differ by what one position takes.
EXACT: dict[str, tuple[Any, list[int], list[int]]] = {
    "chain": (LinearChain(_normal(3, 2, 2), _normal(2), mask=HOLES), [0, 0, 1, 0], [0, 0, 0, 0]),
    "steps alike": (LinearChain(STEPS, end=_normal(2)), [0, 1, 1, 0], [0, 1, 0, 0]),
    "tree": (Tree((-1, 0, 0, 1), STEPS), [0, 1, 1, 0], [0, 0, 1, 0]),
    "segments": (SemiMarkov(STEPS, 1, _normal(2)), [0, 1, 1, 0], [0, 1, 0, 0]),
    "grid": (Grid(STEPS, inference="exact"), [0, 1, 1, 0], [0, 1, 0, 0]),
}
SHAPES = {"segments": (4, 1, 2), "grid": (2, 2, 2)}
FIELDS = {"messages": Grid(STEPS), "dense": DenseGrid(None, 1 - jnp.eye(2))}
EVERY = {name: family for name, (family, *_) in EXACT.items()} | FIELDS


def shape_of(name: str) -> tuple[int, ...]:
    return (2, 2, 2) if name in FIELDS else SHAPES.get(name, (4, 2))


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_without_rows(name):
    family: Any = EVERY[name]
    e = jax.ShapeDtypeStruct((0, *shape_of(name)), jnp.float32)
    net = lambda e: cg.node(family, e, name="z")  # noqa: E731
    found: list[Any] = [lambda e: cg.forward_sample(net)(KEY, e)]
    if not isinstance(family, Grid | DenseGrid):
        found += [
            family.mode,
            jax.grad(lambda e: family.mean(e).sum()),
            jax.grad(lambda e: family.log_prob(jnp.zeros_like(e), e).sum()),
        ]
    if isinstance(family, LinearChain | SemiMarkov | Tree):
        found.append(lambda e: family.top(e, 2)[0][0])
    for function in found:  # shapes alone: nothing is compiled
        assert jax.eval_shape(function, e).shape == e.shape


@pytest.mark.parametrize("name", EXACT)
def test_the_score_is_linear_in_what_one_position_takes(name):
    """The derivative by a value, which straight-through estimators read."""
    family, *states = EXACT[name]
    shape = shape_of(name)
    one, other = (jnp.asarray(np.eye(2)[x].reshape(shape), jnp.float32) for x in states)
    e = _normal(*shape)
    log_prob = jax.jit(jax.value_and_grad(lambda x: family.log_prob(x, e).sum()))
    (value, slope), (moved, _) = log_prob(one), log_prob(other)
    np.testing.assert_allclose((slope * (other - one)).sum(), moved - value, rtol=1e-5, atol=1e-5)
    assert (slope != 0).sum() >= e.size - 2  # a masked position has none


def test_one_position_is_a_categorical_by_its_values_too():
    e, x = _normal(1, 3), jnp.array([[0.0, 1.0, 0.0]])
    slope = lambda family: jax.grad(lambda x: family.log_prob(x, e).sum())(x)  # noqa: E731
    gap = slope(LinearChain(jnp.zeros((3, 3)))) - slope(Categorical())
    np.testing.assert_allclose(gap, gap[0, 0], atol=1e-6)  # a constant: what x sums to is fixed


@pytest.mark.parametrize("name", ["dense", "grid"])
def test_a_pixel_without_a_possible_label(name):
    family, e = EVERY[name], jnp.stack([_normal(2, 2, 2)] * 2)
    never = e.at[0, 1, 0].set(-jnp.inf)
    with pytest.raises(ValueError, match=r"1 of 8 pixels .* \(the first: \(0, 1, 0\)\)"):
        family.mean(never)
    value = jnp.zeros_like(e).at[..., 0].set(1.0)

    @jax.jit
    def told(e: Any) -> Any:
        slope = jax.grad(lambda e: family.pseudo_log_prob(value, e)[0].sum())(e)
        pseudo = family.pseudo_log_prob(value, e)
        return family.mean(e), family.mode(e), pseudo, slope

    (means, mode, pseudo, slope), usual = told(never), told(e)
    assert not means[0].any() and not slope.any() and pseudo[0] == -jnp.inf
    assert np.isnan(mode[0]).all()
    for found, own in zip((means, mode, pseudo), usual, strict=False):
        np.testing.assert_array_equal(found[1], own[1])


def test_weights_are_not_swallowed_by_scores_in_half_precision():
    chain, weights = LinearChain(STEPS), 0.01 * _normal(4, 2)
    net = lambda e: cg.node(chain, e, name="z")  # noqa: E731
    e = (100 + 10 * _normal(4, 2)).astype(jnp.bfloat16)
    told = jax.jit(lambda e: cg.log_evidence(net)({"z": cg.SoftEvidence(weights)}, e))
    np.testing.assert_allclose(told(e), told(e.astype(jnp.float32)), atol=1e-4)  # float32, of 400
    given = cg.exact_marginals(cg.condition(net, {"z": cg.SoftEvidence(weights)}))
    assert jax.eval_shape(given, e).dtype == jnp.bfloat16


def test_the_entropy_of_a_small_grid():
    family, e = EXACT["grid"][0], _normal(4, 2)
    both = jax.jit(lambda e: (family.entropy(e[:, None]), LinearChain(STEPS).entropy(e)))
    entropy, of_line = both(e)
    np.testing.assert_allclose(entropy, of_line, rtol=1e-5)
    with pytest.raises(TypeError, match="entropy of an image .* inference='exact'"):
        FIELDS["messages"].entropy(e[:, None])
    with jax.enable_x64(True):  # whose random bits are of 64
        wide = jax.ShapeDtypeStruct((4, 1, 2), jnp.float64)
        assert jax.eval_shape(lambda e: family.sample(KEY, e), wide).dtype == jnp.float64
