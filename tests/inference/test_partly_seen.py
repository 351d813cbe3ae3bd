"""Evidence about positions of components whose nodes touch, against the sum over all values."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax.nodes import Bernoulli, Grid, LinearChain, SemiMarkov

_draw = np.random.default_rng(6)


def _normal(*shape: int) -> jax.Array:
    return jnp.asarray(_draw.normal(size=shape), jnp.float32)


STEPS = _normal(2, 2)
HOLES = jnp.array([True, False, True])
FAMILIES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "chain": (LinearChain(STEPS, _normal(2), mask=HOLES), (3, 2)),
    "segments": (SemiMarkov(STEPS, 2, lengths=jnp.array(2)), (3, 2, 2)),
    "grid": (Grid(STEPS, inference="exact"), (2, 2, 2)),
}


def listed(family: Any, shape: tuple[int, ...]) -> list[np.ndarray]:
    """All values of the statistic, each once."""
    numbers = jnp.arange(family.num_states(shape))
    ones = family.mask_shape(shape)
    every = jax.jit(jax.vmap(lambda n: family.in_states(jnp.full(ones, n), shape)))(numbers)
    return list({x.tobytes(): x for x in np.asarray(every, np.float32)}.values())


@pytest.mark.numerics
@pytest.mark.parametrize("name", FAMILIES)
def test_positions_that_were_seen_tell_of_parents_children_and_the_rest(name):
    family, shape = FAMILIES[name]
    size = int(np.prod(shape))
    above, below, e = _normal(2, size), _normal(size), _normal(2)

    def net(e: Any) -> Any:
        h = cg.node(Bernoulli(), e, name="h")
        z = cg.node(family, (h @ above).reshape(shape), name="z")
        return h, z, cg.node(Bernoulli(), z.reshape(-1) @ below, name="y")

    @jax.jit
    def joint(h: Any, z: Any) -> Any:
        known = {"h": h, "z": z, "y": jnp.ones(())}
        return cg.log_joint(net)(known, e)

    values = np.stack(listed(family, shape))
    # The second position of the chain is masked, so that what is said of it is not read.
    known = np.zeros(shape[:-1], bool)
    known.reshape(-1)[:2] = True
    read = known & np.asarray(HOLES) if name == "chain" else known
    seen = values[len(values) // 2].copy()
    seen[known & ~read] = 0, 1
    fits = (values[:, read] == seen[read]).all((1, 2)) if read.any() else np.ones(len(values), bool)
    pairs = [
        (h, z)
        for h in itertools.product((0.0, 1.0), repeat=2)
        for z, one in zip(values, fits, strict=True)
        if one
    ]
    heads, zs = (jnp.asarray(np.array(x), jnp.float32) for x in zip(*pairs, strict=True))
    weights = np.exp(np.asarray(jax.vmap(joint)(heads, zs), np.float64))

    @jax.jit
    def posterior(seen: Any, known: Any) -> Any:
        evidence = {"z": cg.PartlyKnown(seen, known), "y": 1.0}
        means = cg.exact_marginals(cg.condition(net, evidence))(e)
        return cg.log_evidence(net)(evidence, e), means

    log_evidence, (h, z, _) = posterior(seen, known)
    np.testing.assert_allclose(log_evidence, np.log(weights.sum()), atol=1e-5)  # float32
    p = weights / weights.sum()
    np.testing.assert_allclose(h, p @ np.asarray(heads), atol=1e-5)
    np.testing.assert_allclose(z, np.tensordot(p, np.asarray(zs), 1), atol=1e-5)


@pytest.mark.numerics
def test_partial_labels_of_long_chains():
    """No list of paths is needed where nothing follows from them; in each step of a loop."""
    chain, e = LinearChain(_normal(3, 3)), _normal(50, 3)
    known = np.arange(50) % 7 == 3
    tags = np.eye(3, dtype=np.float32)[_draw.integers(0, 3, 50)]
    part = cg.PartlyKnown(jnp.asarray(tags), jnp.asarray(known))
    net = lambda e: cg.node(chain, e, name="z")  # noqa: E731

    @jax.jit
    def found(e: Any) -> Any:
        given = cg.exact_marginals(cg.condition(net, {"z": part}))(e)
        value, slope = jax.value_and_grad(lambda e: cg.log_evidence(net)({"z": part}, e))(e)
        return value, slope, given, net(e), cg.clamp(net, {"z": part})(e)

    value, slope, given, free, clamped = found(e)
    np.testing.assert_allclose(given, clamped, atol=1e-6)
    np.testing.assert_allclose(slope, given - free, atol=2e-6)  # Fisher's identity
    allowed = jnp.where(jnp.asarray(known)[:, None] & (tags == 0), -jnp.inf, e)
    log_partition = jax.jit(chain.log_partition)
    np.testing.assert_allclose(value, log_partition(allowed) - log_partition(e), atol=2e-5)

    def steps(x: Any) -> Any:
        def step(last: Any, _: None) -> Any:
            z = cg.node(LinearChain(STEPS), last + x, name="z")
            return z, z

        return jax.lax.scan(step, jnp.zeros((2, 2)), None, length=2)[1]

    x = _normal(2, 2)
    parts = cg.PartlyKnown(jnp.eye(2)[jnp.array([[0, 0], [1, 1]])], jnp.array([[True, False]] * 2))
    log_joint = jax.jit(lambda z: cg.log_joint(steps)({"z": z}, x))
    every = np.eye(2, dtype=np.float32)[np.array(list(itertools.product(range(2), repeat=2)))]
    total = [
        log_joint(jnp.stack([a, b])) for a in every for b in every if a[0, 0] == 1 and b[0, 1] == 1
    ]
    expected = jax.nn.logsumexp(jnp.stack(total))
    np.testing.assert_allclose(cg.log_evidence(steps)({"z": parts}, x), expected, atol=1e-5)


def test_what_cannot_be_seen():
    never = LinearChain(jnp.array([[0.0, 0.0], [0.0, -jnp.inf]]))
    net = lambda e: cg.node(never, jnp.zeros((3, 2)) + e, name="z")  # noqa: E731
    twice = jnp.broadcast_to(jnp.array([0.0, 1.0]), (3, 2))
    part = cg.PartlyKnown(twice, jnp.array([True, True, False]))
    run = cg.log_evidence(net)
    with pytest.raises(ValueError, match="about 'z' has probability 0"):
        run({"z": part}, 0.0)
    value, slope = jax.jit(jax.value_and_grad(lambda e: run({"z": part}, e)))(0.0)
    assert value == -jnp.inf and slope == 0
    with pytest.raises(ValueError, match="one-hot along the last axis"):
        run({"z": cg.PartlyKnown(0 * twice, jnp.array([True, False, False]))}, 0.0)
    with pytest.raises(ValueError, match="booleans, one for each position"):
        run({"z": cg.PartlyKnown(twice, twice > 0)}, 0.0)
    field = lambda e: cg.node(Grid(jnp.eye(2)), jnp.zeros((2, 2, 2)) + e, name="z")  # noqa: E731
    unseen = cg.PartlyKnown(jnp.zeros((2, 2, 2)), jnp.zeros((2, 2), bool))
    with pytest.raises(TypeError, match="normalising sum over all images"):
        cg.log_evidence(field)({"z": unseen}, 0.0)
