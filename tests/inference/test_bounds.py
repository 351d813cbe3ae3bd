"""Bounds on log-likelihoods, against closed forms and enumeration."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import cgjax as cg

KEY = jax.random.key(5)
# Orthogonal columns, so that the posterior of a linear-Gaussian model has independent nodes.
WEIGHTS = np.array([[1.0, 0.5], [1.0, -0.5], [0.5, 0.0]], np.float32)
WEIGHTS[2, 1] = 0.0
NOISE, OFFSET = 0.7, np.array([0.3, -0.2, 0.1], np.float32)
X = np.array([1.2, -0.4, 0.9], np.float32)


def linear(weights: Any = WEIGHTS):
    """Probabilistic principal components: x = W z + b + noise."""
    z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(2), name="z")
    return cg.node(cg.nodes.Gaussian(NOISE), jnp.asarray(weights @ z + OFFSET), name="x")


def posterior(observed, *_):
    precision = (WEIGHTS**2).sum(0) / NOISE**2 + 1
    mean = (observed["x"] - OFFSET) @ WEIGHTS / NOISE**2 / precision
    return cg.node(cg.nodes.Gaussian(precision**-0.5), mean, name="z")


def guide_of(observed, parameters):
    """A guide whose parameters are a mean and the logarithm of a scale."""
    mean, log_scale = parameters
    return cg.node(cg.nodes.Gaussian(jnp.exp(log_scale)), mean + 0 * observed["x"][:2], name="z")


def log_evidence(x=X, weights=WEIGHTS):
    covariance: Any = weights @ weights.T + NOISE**2 * np.eye(len(weights))
    return stats.multivariate_normal(OFFSET[: len(weights)], covariance).logpdf(x)


def averages(estimate, keys=2000, seed=1):
    """Mean and standard error of an estimate, whatever its structure, over keys."""
    drawn = jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(seed), keys))
    mean = jax.tree.map(lambda v: np.asarray(v, np.float64).mean(0), drawn)
    error = jax.tree.map(lambda v: np.asarray(v, np.float64).std(0) / keys**0.5, drawn)
    return mean, error


def assert_close(mean, error, expected):
    """Five standard errors, and rounding of float32."""
    for m, e, x in zip(*map(jax.tree.leaves, (mean, error, expected)), strict=True):
        assert np.all(np.abs(m - x) <= 5 * e + 2e-5), (m, e, x)


@pytest.mark.numerics
def test_the_exact_posterior_makes_every_bound_the_log_likelihood():
    expected = log_evidence()
    for build in (
        partial(cg.elbo, num_samples=1, kl="sampled"),
        partial(cg.importance_weighted, num_samples=7),
        partial(cg.importance_weighted, num_samples=7, gradient="doubly_reparameterised"),
    ):
        bound = build(linear, posterior)(KEY, {"x": X})
        # 1e-5: terms of size 5 in float32.
        np.testing.assert_allclose(bound.value, expected, atol=1e-5)
        np.testing.assert_allclose(bound.log_weights, bound.log_joint - bound.log_q)
        np.testing.assert_allclose(bound.log_weights, np.full(bound.log_q.shape, expected), 1e-5)
    estimate = cg.log_likelihood(linear, posterior, num_samples=250)(KEY, {"x": X})
    np.testing.assert_allclose(estimate.mean, expected, atol=1e-5)
    assert float(estimate.standard_error) < 1e-3  # rounding of the weights


@pytest.mark.numerics
def test_divergence_in_closed_form_is_the_sampled_one_in_mean_and_importance_weights_rise():
    parameters = jnp.array([0.4, -0.3]), jnp.array([-0.2, 0.1])

    def everything(key):
        keys = jax.random.split(key, 4)
        closed = cg.elbo(linear, as_guide)(keys[0], {"x": X})
        sampled = cg.elbo(linear, as_guide, kl="sampled", num_samples=2)(keys[1], {"x": X})
        more = [
            cg.importance_weighted(linear, as_guide, num_samples=k)(key, {"x": X}).value
            for k, key in zip((4, 40), keys[2:], strict=True)
        ]
        return closed.value, closed.kl, sampled.value, sampled.kl, *more

    as_guide = lambda observed: guide_of(observed, parameters)  # noqa: E731
    mean, error = averages(everything)
    m, scale = map(np.asarray, (parameters[0], np.exp(parameters[1])))
    kl = (scale**2 / 2 + m**2 / 2 - 0.5 - parameters[1]).sum()
    residual = ((X - OFFSET - WEIGHTS @ m) ** 2).sum() + (WEIGHTS**2 @ scale**2).sum()
    exact = -residual / 2 / NOISE**2 - 1.5 * np.log(2 * np.pi * NOISE**2) - kl
    assert_close(mean[:4], error[:4], (exact, kl, exact, kl))
    assert error[1] < 1e-6 < error[3]  # the closed form has no noise
    assert exact < mean[4] - 5 * error[4]  # one sample, four, forty, all
    assert mean[4] + 5 * error[4] < mean[5] < log_evidence() + 5 * error[5]
    assert log_evidence() - mean[5] < 0.05


@pytest.mark.numerics
def test_doubly_reparameterised_gradients_have_the_mean_and_less_variance():
    def gradients(gradient, at, samples):
        def value(parameters, weights, key):
            bound = cg.importance_weighted(
                linear, lambda o, w: guide_of(o, parameters), num_samples=samples, gradient=gradient
            )
            return bound(key, {"x": X}, weights).value

        return lambda key: jax.grad(value, (0, 1))(at, jnp.asarray(WEIGHTS), key)

    at = jnp.array([0.4, -0.3]), jnp.array([-0.2, 0.1])
    plain, plain_error = averages(gradients("pathwise", at, 20), 4000)
    double, double_error = averages(gradients("doubly_reparameterised", at, 20), 4000, seed=2)
    both = jax.tree.map(np.hypot, plain_error, double_error)
    assert_close(jax.tree.map(np.subtract, plain, double), both, jax.tree.map(np.zeros_like, plain))
    for ours, theirs in zip(
        jax.tree.leaves(double_error[0]), jax.tree.leaves(plain_error[0]), strict=True
    ):
        assert np.all(ours < 0.7 * theirs)
    # At the posterior all weights are equal: no sample tells the guide anything, in any draw.
    precision = (WEIGHTS**2).sum(0) / NOISE**2 + 1
    best = jnp.asarray((X - OFFSET) @ WEIGHTS / NOISE**2 / precision), jnp.log(precision) / -2
    mean, error = averages(gradients("doubly_reparameterised", best, 5), 50)
    for leaf in jax.tree.leaves((mean[0], error[0])):
        assert np.all(np.abs(leaf) < 1e-5)


@pytest.mark.numerics
def test_doubly_reparameterised_gradients_of_a_guide_in_two_steps():
    """What the second node's density says of the first one is a part of the derivative."""

    def model():
        first = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(()), name="first")
        second = cg.node(cg.nodes.Gaussian(1.0), first, name="second")
        return cg.node(cg.nodes.Gaussian(0.5), second, name="x")

    def guide(observed, p):
        first = cg.node(cg.nodes.Gaussian(0.9), p[0] * observed["x"], name="first")
        return cg.node(cg.nodes.Gaussian(0.5), p[1] * first + 0.3, name="second")

    def gradient(kind):
        def value(p, key):
            build = partial(cg.importance_weighted, num_samples=4, gradient=kind)
            return build(model, lambda o: guide(o, p))(key, {"x": jnp.array(1.3)}).value

        return lambda key: jax.grad(value)(jnp.array([0.3, 0.8]), key)

    plain, plain_error = averages(gradient("pathwise"), 10_000)
    double, double_error = averages(gradient("doubly_reparameterised"), 10_000, seed=2)
    assert_close(plain - double, np.hypot(plain_error, double_error), np.zeros(2))
    assert np.all(double_error < plain_error)


# -- discrete nodes: p(b) p(a | b) p(x | a, b), and a guide in the other direction


def tangled(parameters):
    b = cg.node(cg.nodes.Bernoulli(), parameters["prior"], name="b")
    a = cg.node(cg.nodes.Spin(), parameters["link"] * (b - 0.3), name="a")
    return cg.node(cg.nodes.Gaussian(1.0), a + 2 * b * parameters["out"], name="x")


def tangled_guide(observed, parameters):
    a = cg.node(cg.nodes.Spin(), parameters["a"] * observed["x"], name="a")
    b = cg.node(cg.nodes.Bernoulli(), parameters["b"] + 0.5 * a, name="b")
    return b


PARAMETERS = {
    "prior": jnp.array(0.4),
    "link": jnp.array(0.8),
    "out": jnp.array(0.5),
    "a": jnp.array(0.6),
    "b": jnp.array(-0.3),
}
SEEN = {"x": jnp.array(1.3)}
STATES = [{"a": jnp.array(a), "b": jnp.array(b)} for a in (-1.0, 1.0) for b in (0.0, 1.0)]


@partial(jax.jit, static_argnums=1)
@jax.value_and_grad
def exact_bound(parameters, samples):
    """The expected bound over all tuples of samples, and its derivative."""
    log_q = jnp.stack([cg.log_joint(tangled_guide)(s, SEEN, parameters) for s in STATES])
    log_p = jnp.stack([cg.log_joint(tangled)({**s, **SEEN}, parameters) for s in STATES])
    tuples = np.array(list(itertools.product(range(4), repeat=samples)))
    log_weights = (log_p - log_q)[tuples]
    inner = jax.nn.logsumexp(log_weights, 1) - np.log(samples)
    return jnp.sum(jnp.exp(log_q[tuples].sum(1)) * inner)


@pytest.mark.numerics
@pytest.mark.parametrize(
    "samples, build",
    [
        (1, partial(cg.elbo, num_samples=2)),
        (1, partial(cg.elbo, num_samples=1, kl="sampled")),
        (3, partial(cg.importance_weighted, num_samples=3, gradient="vimco")),
    ],
    ids=["elbo", "elbo_sampled", "vimco"],
)
def test_gradients_through_discrete_nodes_are_those_of_the_expected_bound(samples, build):
    """Of two nodes whose order differs in model and guide, one divergence alone is closed."""
    expected = exact_bound(PARAMETERS, samples)
    one = jax.value_and_grad(lambda p, key: build(tangled, tangled_guide)(key, SEEN, p).value)
    assert_close(*averages(lambda key: one(PARAMETERS, key), 20_000), expected)


def test_straight_through_is_the_activations_derivative():
    def model():
        state = cg.node(cg.nodes.Spin(), jnp.zeros(()), name="s")
        return cg.node(cg.nodes.Gaussian(1.0), 0.5 * state, name="x")

    def guide(observed, e):
        return cg.node(cg.nodes.Spin(), observed["x"] * 0 + e, name="s")

    def likelihood(e, key):
        found = cg.elbo(model, lambda o: guide(o, e), gradient="straight_through")(key, SEEN)
        return found.value + found.kl

    e = 0.3
    keys = jax.random.split(KEY, 50)
    got = jax.jit(jax.vmap(jax.grad(likelihood), (None, 0)))(e, keys)
    slopes = [0.5 * (1.3 - 0.5 * s) * (1 - np.tanh(e) ** 2) for s in (1, -1)]
    assert {round(float(g), 5) for g in got} == {round(s, 5) for s in slopes}


@pytest.mark.numerics
@pytest.mark.parametrize(
    "family, e",
    [
        (cg.nodes.Bernoulli(), jnp.array([0.7])),
        (cg.nodes.Spin(), jnp.array([-0.4])),
        (cg.nodes.Binary(-1.0, 3.0), jnp.array([0.3])),
        (cg.nodes.HardTanh(), jnp.array([0.3])),
        (cg.nodes.Categorical(), jnp.array([0.7, -0.2, 0.1])),
    ],
    ids=lambda x: type(x).__name__,
)
def test_straight_through_of_a_sampled_divergence_is_that_of_the_divergence(family, e):
    """For one node it has no bias: a log-probability is linear in which state it is."""

    def model():
        return cg.node(family, 0.5 * jnp.arange(1.0, 1 + len(e)) - 0.8, name="s")

    def guide(observed, e):
        return cg.node(family, e, name="s")

    def cost(e, key):
        bound = cg.elbo(model, lambda o: guide(o, e), kl="sampled", gradient="straight_through")
        return bound(key, {}).value

    def exact(e):
        states = jnp.eye(3) if len(e) > 1 else family.states()
        prior = 0.5 * jnp.arange(1.0, 1 + len(e)) - 0.8
        log_q, log_p = (
            jnp.stack([family.log_prob(s, at).sum() for s in states]) for at in (e, prior)
        )
        return jnp.sum(jnp.exp(log_q) * (log_p - log_q))

    got, error = averages(lambda key: jax.grad(cost)(e, key), 20_000)
    expected = jax.jit(jax.grad(exact))(e)
    assert_close(got, error, expected)
    assert np.abs(expected).max() > 0.05


# -- what is missing, loops, and how bounds are called


def row(weights):
    """One latent number, so that the posterior given a part is a Gaussian node."""
    z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(1), name="z")
    x = cg.node(cg.nodes.Gaussian(NOISE), weights @ z + OFFSET, name="x")
    return cg.node(cg.nodes.Gaussian(0.1), 2 * x[0], name="later")


def row_posterior(observed, weights):
    part = observed["x"]
    seen = jnp.where(part.known, part.values - OFFSET, 0)
    column = jnp.where(part.known, weights[:, 0], 0)
    precision = (column**2).sum() / NOISE**2 + 1
    mean = (seen * column).sum() / NOISE**2 / precision
    return cg.node(cg.nodes.Gaussian(precision**-0.5), mean[None], name="z")


def test_missing_elements_and_nodes_that_nobody_sees_are_summed_out():
    weights = jnp.asarray(WEIGHTS[:, :1] * 1.5)

    def plain(weights):
        z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(1), name="z")
        x = cg.node(cg.nodes.Gaussian(NOISE), weights @ z + OFFSET, name="x")
        unseen = cg.node(cg.nodes.Spin(), z, name="unseen")
        return x, cg.node(cg.nodes.Spin(), 3 * unseen, name="unseen too")

    known = jnp.array([True, False, True])
    seen = {"x": cg.PartlyKnown(jnp.where(known, X, jnp.nan), known)}
    kept = np.asarray(known)
    law: Any = np.asarray(weights)[kept] @ np.asarray(weights)[kept].T + NOISE**2 * np.eye(2)
    expected = stats.multivariate_normal(OFFSET[kept], law).logpdf(X[kept])
    bound = cg.elbo(plain, row_posterior, kl="sampled")(KEY, seen, weights)
    np.testing.assert_allclose(bound.value, expected, atol=1e-5)
    estimate = cg.log_likelihood(plain, num_samples=3001, chunk=500)(KEY, seen, weights)
    assert abs(estimate.mean - expected) < 5 * estimate.standard_error < 0.5
    with pytest.raises(ValueError, match="a part of 'x' is observed, and other nodes depend"):
        cg.elbo(row, row_posterior)(KEY, {**seen, "later": jnp.array(0.0)}, weights)


def test_of_a_class_a_part_is_known_by_slices_and_of_a_chain_by_positions():
    logits = jnp.log(jnp.array([[0.2, 0.8], [0.6, 0.4]]))

    def model():
        z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(()), name="z")
        return cg.node(cg.nodes.Categorical(), logits + 0 * z, name="label")

    guide = lambda observed: cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(()), name="z")  # noqa: E731
    part = cg.PartlyKnown(jnp.eye(2)[::-1], jnp.array([True, False]))
    bound = cg.elbo(model, guide)(KEY, {"label": part})
    np.testing.assert_allclose(bound.value, np.log(0.8), rtol=1e-5)
    chain = lambda: cg.node(cg.nodes.LinearChain(jnp.zeros((2, 2))), logits, name="c")  # noqa: E731
    nobody = lambda observed: jnp.zeros(())  # noqa: E731
    first = cg.elbo(chain, nobody)(KEY, {"c": part._replace(values=jnp.eye(2))})
    np.testing.assert_allclose(first.value, np.log(0.2), rtol=1e-5)
    whole = cg.elbo(chain, nobody, num_samples=3)(KEY, {"c": jnp.eye(2)})
    np.testing.assert_allclose(whole.value, np.log(0.2 * 0.4 / 1.0), rtol=1e-5)
    assert whole.log_weights.shape == (3,) and whole.kl == 0


STEPS = jnp.array([0.5, -1.2, 0.8])


def hidden_states(weight):
    def step(state, _):
        state = cg.node(cg.nodes.Spin(), weight * state, name="state")
        return state, cg.node(cg.nodes.Gaussian(1.0), state, name="x")

    return jax.lax.scan(step, jnp.zeros(()), None, length=3)[1]


def backwards(observed, weight):
    """A guide whose states depend on later ones: no divergence of one step is closed."""

    def step(state, x):
        state = cg.node(cg.nodes.Spin(), x + 0.5 * state, name="state")
        return state, state

    return jax.lax.scan(step, jnp.zeros(()), observed["x"], reverse=True)[1]


def test_states_of_a_loop():
    weight, seen = jnp.array(0.7), {"x": STEPS}
    paths = [{"state": jnp.array(p)} for p in itertools.product([-1.0, 1.0], repeat=3)]
    score = jax.jit(lambda p: cg.log_joint(hidden_states)({**p, **seen}, weight))
    log_p = np.array([score(p) for p in paths])
    propose = jax.jit(lambda p: cg.log_joint(backwards)(p, seen, weight))
    log_q = np.array([propose(p) for p in paths])
    bound = cg.elbo(hidden_states, backwards, num_samples=20_000)(KEY, seen, weight)
    exact = (np.exp(log_q) * (log_p - log_q)).sum()
    spread = np.std(bound.log_weights) / 20_000**0.5
    assert abs(bound.value - exact) < 5 * spread < 0.1
    for guide in (None, backwards):
        found = cg.log_likelihood(hidden_states, guide, num_samples=4000)(KEY, seen, weight)
        expected = np.logaddexp.reduce(log_p)
        assert abs(found.mean - expected) < 5 * found.standard_error < 0.25


def test_batches_are_vmaps_and_nothing_is_traced_twice():
    traces = 0

    def model(weights):
        nonlocal traces
        traces += 1
        z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(2), name="z")
        return cg.node(cg.nodes.Gaussian(NOISE), weights @ z, name="x")

    def guide(observed, weights):
        return cg.node(cg.nodes.Gaussian(0.5), observed["x"] @ weights, name="z")

    build = lambda: cg.elbo(model, guide, num_samples=2)  # noqa: E731
    weights, keys = jnp.asarray(WEIGHTS), jax.random.split(KEY, 3)
    xs = jnp.stack([2 * X, -3 * X, 3 * X])  # no number between 0 and 1, which would be looked into
    alone = [build()(key, {"x": x}, weights) for key, x in zip(keys, xs, strict=True)]
    assert traces == 1 and build() is build()
    mapped = jax.jit(jax.vmap(build(), (0, 0, None)))(keys, {"x": xs}, weights)
    for k, bound in enumerate(alone):
        for ours, theirs in zip(mapped, bound, strict=True):
            np.testing.assert_allclose(ours[k], theirs, 1e-5, 1e-5)
    # Two samples of one bound, and of two keys, are different.
    assert len(set(np.ravel(mapped.log_q).tolist())) == 6
    assert hash(cg.elbo(model, guide)) == hash(cg.elbo(model, guide))
    assert cg.elbo(model, guide) != cg.elbo(model, guide, kl="sampled")
    with pytest.raises(TypeError, match="of a model and a guide"):
        cg.with_nodes(build())


def test_what_does_not_fit_is_named():
    seen, weights = {"x": X}, jnp.asarray(WEIGHTS)

    def message(model, guide, observed: Any = seen, error: Any = ValueError, build=cg.elbo):
        with pytest.raises(error) as caught:
            build(model, guide)(KEY, observed, weights)
        return str(caught.value)

    def helped(observed, weights):
        h = cg.node(cg.nodes.ReLU(), observed["x"][:2], name="h")
        return cg.node(cg.nodes.Gaussian(1.0), h, name="z")

    def of(family, shape=(2,), name="z"):
        return lambda observed, weights: cg.node(family, jnp.zeros(shape), name=name)

    normal = cg.nodes.Gaussian(1.0)
    said = message(linear, helped)
    assert "nodes that the model lacks: h" in said and 'cgjax.collapse(guide, "h")' in said
    cg.elbo(linear, cg.collapse(helped, "h"))(KEY, seen, weights)
    assert "missing: z" in message(linear, lambda observed, weights: jnp.zeros(2))
    assert "x is observed, and the guide proposes it too" in message(linear, of(normal, (3,), "x"))
    assert "shape (5,)" in message(linear, of(normal, (5,)))
    assert "values of one can be listed" in message(linear, of(cg.nodes.Spin()))
    implicit = lambda weights: weights @ cg.node(normal, jnp.zeros(2), name="z")  # noqa: E731
    said = message(implicit, of(normal))
    assert "'x' is observed, and the model has no such node" in said and "implicit model" in said
    assert "a dict from node names" in message(linear, of(normal), X, TypeError)
    assert "must be a number" in message(linear, of(normal), {"x": "X"}, TypeError)
    discrete = lambda w: cg.node(normal, cg.node(cg.nodes.Spin(), w[:, 0], name="z"), name="x")  # noqa: E731
    weighted = partial(cg.importance_weighted, num_samples=2)
    assert 'Use gradient="vimco"' in message(
        discrete, lambda o, w: cg.node(cg.nodes.Spin(), o["x"], name="z"), build=weighted
    )

    def many(rows):
        z = cg.node(normal, rows, name="z")
        return cg.node(normal, 2 * z, name="x")

    with pytest.warns(UserWarning, match="3 rows.*inside the sum over examples"):
        guide = lambda observed, rows: cg.node(normal, rows, name="z")  # noqa: E731
        cg.elbo(many, guide)(KEY, {"x": jnp.ones((3, 2))}, jnp.zeros((3, 2)))
    wrong_options: list[Any] = [
        ({"kl": "exact"}, "kl of elbo is"),
        ({"gradient": "reinforce"}, 'gradient of elbo is "pathwise" or'),
        ({"num_samples": 0}, "at least 1 sample"),
    ]
    for options, wrong in wrong_options:
        with pytest.raises(ValueError, match=wrong):
            cg.elbo(linear, posterior, **options)
    with pytest.raises(ValueError, match="compares samples"):
        cg.importance_weighted(linear, posterior, num_samples=1, gradient="vimco")
    with pytest.raises(TypeError, match="takes a network"):
        cg.elbo(linear, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="what is observed, a dict"):
        cg.elbo(linear, posterior)(KEY)
    with pytest.raises(ValueError, match="at least 2 samples"):
        cg.log_likelihood(linear, num_samples=1)


def test_impossible_observations_are_minus_infinity_without_gradient_and_grey_levels_are_named():
    def model(w):
        z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(2), name="z")
        return cg.node(cg.nodes.Bernoulli(), w * z, name="x")

    guide = lambda o, w: cg.node(cg.nodes.Gaussian(1.0), w * o["x"], name="z")  # noqa: E731
    grey, w = {"x": jnp.array([0.3, 1.0])}, jnp.ones(2)
    for build in (cg.elbo, partial(cg.importance_weighted, num_samples=3)):
        bound = build(model, guide)

        def value_of(x, w, bound=bound):
            return bound(KEY, x, w).value

        value, slope = jax.jit(jax.value_and_grad(value_of, 1))(grey, w)
        assert value == -np.inf and np.isfinite(slope).all()
        with pytest.raises(ValueError, match=r"'x' is a Bernoulli.* 0.3: .*jax.random.bernoulli"):
            bound(KEY, grey, w)
    with pytest.raises(ValueError, match="ContinuousBernoulli"):
        cg.log_likelihood(model)(KEY, grey, w)
    estimate = cg.log_likelihood(model, num_samples=3)(KEY, {"x": jnp.array([2.0, 1.0])}, w)
    assert (estimate.mean, estimate.standard_error) == (-np.inf, np.inf)
