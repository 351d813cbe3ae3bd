"""The ELBO by moments: exact for linear Gaussian models, integrals of one natural parameter."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import integrate, stats

import cgjax as cg

KEY = jax.random.key(7)
WEIGHTS = np.array([[1.0, 0.5], [0.8, -0.5], [0.5, 0.3]])
LINK = np.array([[0.9, -0.4], [0.2, 0.7]])
SCALES = {"a": 0.8, "b": 1.1, "x": 0.7}
X = np.array([1.2, -0.4, 0.9])
PARAMETERS = {
    "a": (jnp.array([0.4, -0.3]), jnp.array([-0.2, 0.1])),
    "b": (jnp.array([0.1, 0.6]), jnp.array([0.3, -0.5])),
}


def normal(scale: Any, mean: Any, name: str) -> Any:
    return cg.node(cg.nodes.Gaussian(scale), mean, name=name)


def chain():
    """a, then b given a, then x given b."""
    a = normal(SCALES["a"], jnp.zeros(2), "a")
    b = normal(SCALES["b"], jnp.asarray(LINK, jnp.float32) @ a, "b")
    return normal(SCALES["x"], jnp.asarray(WEIGHTS, jnp.float32) @ b, "x")


def guide(observed, parameters):
    for name, (mean, log_scale) in parameters.items():
        normal(jnp.exp(log_scale), mean + 0 * observed["x"][:2], name)
    return jnp.zeros(())


def quadratic(residual, covariance, scale):
    """E[log N(r; 0, scale^2)], summed, of r with a mean and a covariance."""
    square = (residual**2).sum() + jnp.trace(covariance)
    return -square / 2 / scale**2 - len(residual) * np.log(scale * np.sqrt(2 * np.pi))


def by_hand(parameters):
    """The ELBO of the chain, which is quadratic."""
    (a, log_a), (b, log_b) = parameters["a"], parameters["b"]
    of_a, of_b = jnp.diag(jnp.exp(2 * log_a)), jnp.diag(jnp.exp(2 * log_b))
    expected = quadratic(a, of_a, SCALES["a"])
    expected += quadratic(b - LINK @ a, of_b + LINK @ of_a @ LINK.T, SCALES["b"])
    likelihood = quadratic(X - WEIGHTS @ b, WEIGHTS @ of_b @ WEIGHTS.T, SCALES["x"])
    entropy = sum(log.sum() + len(log) * np.log(2 * np.pi * np.e) / 2 for log in (log_a, log_b))
    return expected + likelihood + entropy, likelihood


@pytest.mark.numerics
def test_of_linear_gaussian_nodes_that_depend_on_each_other_it_is_exact():
    bound = cg.deterministic_elbo(chain, guide)

    @jax.jit
    def both(parameters):
        def value(p):
            found = cg.deterministic_elbo(chain, lambda o: guide(o, p))({"x": X})
            return found.value, found

        return jax.value_and_grad(value, has_aux=True)(parameters), jax.grad(
            lambda p: by_hand(p)[0]
        )(parameters)

    ((value, found), slopes), expected = both(PARAMETERS)
    total, likelihood = by_hand(PARAMETERS)
    # 1e-5: sums of twelve terms in float32.
    np.testing.assert_allclose([value, value + found.kl], [total, likelihood], rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(slopes), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    entropy = sum(log.sum() + np.log(2 * np.pi * np.e) for _, log in PARAMETERS.values())
    np.testing.assert_allclose(found.log_q, [-entropy], rtol=1e-6)
    np.testing.assert_allclose(found.log_weights, [total], rtol=1e-5)
    assert bound is cg.deterministic_elbo(chain, guide) and bound != cg.elbo(chain, guide)


def one_number(family, e_of):
    """A model of one latent number and a guide N(0.4, 0.6^2) for it."""
    model = lambda: cg.node(family, e_of(normal(1.0, jnp.zeros(()), "z")), name="x")  # noqa: E731
    return model, lambda observed: normal(0.6, jnp.array(0.4), "z")


def test_what_hidden_units_have_in_common_counts():
    """The average of eight equal units, which is as uncertain as each of them."""

    def model():
        z = normal(1.0, jnp.zeros(1), "z")
        return normal(0.2, jnp.tanh(z @ jnp.ones((1, 8))).mean(), "x")

    proposal = lambda observed: normal(0.3, jnp.array([0.2]), "z")  # noqa: E731
    seen = {"x": jnp.array(0.1)}
    found = cg.deterministic_elbo(model, proposal)(seen)
    without = cg.deterministic_elbo(model, proposal, covariance="none")(seen)
    at = np.linspace(-2, 2.4, 2001)
    laws: Any = stats.norm(0.2, 0.3), stats.norm(np.tanh(at), 0.2)
    exact = integrate.trapezoid(laws[0].pdf(at) * laws[1].logpdf(0.1), at)
    gap, other = (abs(bound.value + bound.kl - exact) for bound in (found, without))
    assert gap < 0.02 and other > 0.5  # an eighth of the variance


@pytest.mark.numerics
@pytest.mark.parametrize(
    "family, x",
    [(cg.nodes.Bernoulli(), 1.0), (cg.nodes.Spin(), -1.0), (cg.nodes.ContinuousBernoulli(), 0.3)],
    ids=lambda value: type(value).__name__,
)
def test_log_probabilities_are_integrated_over_the_natural_parameter(family, x):
    model, proposal = one_number(family, lambda z: 1.5 * z - 0.7)
    found = cg.deterministic_elbo(model, proposal)({"x": jnp.array(x)})
    at = np.linspace(-6, 6, 2001)
    log_prob = np.asarray(family.log_prob(jnp.full(at.shape, x), jnp.asarray(1.5 * at - 0.7)))
    weight: Any = stats.norm(0.4, 0.6)
    expected = integrate.trapezoid(weight.pdf(at) * log_prob, at)
    # 1e-4, which the families' own integrals promise.
    np.testing.assert_allclose(found.value + found.kl, expected, atol=1e-4)


@pytest.mark.numerics
def test_of_categories_the_normaliser_is_matched():
    labels, weights = jnp.array([0.0, 1.0, 0.0]), jnp.array([1.0, -0.5, 0.2])

    def model():
        z = normal(1.0, jnp.zeros(3), "z")
        return cg.node(cg.nodes.Categorical(), z * weights, name="x")

    proposal = lambda observed: normal(0.7, jnp.array([0.5, 0.0, -0.3]), "z")  # noqa: E731
    found = cg.deterministic_elbo(model, proposal)({"x": labels})
    points, mass = np.polynomial.hermite_e.hermegauss(20)
    z = np.stack(np.meshgrid(points, points, points), -1) * 0.7 + np.array([0.5, 0.0, -0.3])
    mass = np.einsum("i,j,k->ijk", mass, mass, mass) / mass.sum() ** 3
    logits = z * np.asarray(weights)
    expected = (mass * (logits[..., 1] - np.log(np.exp(logits).sum(-1)))).sum()
    np.testing.assert_allclose(found.value + found.kl, expected, atol=2e-3)  # an expansion


def hidden_states(weight):
    def step(state, _):
        state = normal(0.5, jnp.tanh(weight * state), "state")
        return state, normal(0.3, 2 * state, "x")

    return jax.lax.scan(step, jnp.zeros(()), None, length=3)[1]


def states(observed, weight):
    step = lambda _, x: (_, normal(0.2, 0.4 * x + 0.1, "state"))  # noqa: E731
    return jax.lax.scan(step, None, observed["x"])[1]


def test_states_of_a_loop_whose_prior_depends_on_earlier_ones():
    weight, seen = jnp.array(0.9), {"x": jnp.array([0.5, -1.2, 0.8])}

    @jax.jit
    def both(weight):
        exactly = cg.deterministic_elbo(hidden_states, states, covariance="none")
        linear = cg.deterministic_elbo(hidden_states, states)(seen, weight).value
        return *jax.value_and_grad(lambda w: exactly(seen, w).value)(weight), linear

    value, by_weight, linear = both(weight)
    means, points = 0.4 * np.asarray(seen["x"]) + 0.1, np.linspace(-1.6, 1.6, 4001)

    def exact(w):
        total = 3 * (np.log(0.2) + 0.5 * np.log(2 * np.pi * np.e))
        for t, m in enumerate(means):
            law: Any = stats.norm(means[t - 1], 0.2)
            before = np.tanh(w * points) if t else 0 * points
            mass = law.pdf(points) * (points[1] - points[0])
            square = (mass * ((m - before) ** 2 + 0.2**2)).sum()
            total += -square / 2 / 0.5**2 - np.log(0.5 * np.sqrt(2 * np.pi))
            square = (float(seen["x"][t]) - 2 * m) ** 2 + (2 * 0.2) ** 2
            total += -square / 2 / 0.3**2 - np.log(0.3 * np.sqrt(2 * np.pi))
        return total

    np.testing.assert_allclose(value, exact(0.9), rtol=1e-4)  # integrals of tanh
    difference = (exact(0.9 + 1e-4) - exact(0.9 - 1e-4)) / 2e-4
    np.testing.assert_allclose(by_weight, difference, rtol=1e-3)
    # tanh has other parts than the linear one, whose variance counts against the model.
    assert value < linear < value + 0.01


class Decoder(nnx.Module):
    def __init__(self, rngs):
        self.inner, self.outer = nnx.Linear(2, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self):
        hidden = jnp.tanh(self.inner(normal(1.0, jnp.zeros(2), "z")))
        return cg.node(cg.nodes.Bernoulli(), self.outer(hidden), name="x")


class Encoder(nnx.Module):
    def __init__(self, rngs):
        self.mean = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, observed):
        return normal(0.3, self.mean(observed["x"]), "z")


def test_it_is_near_the_sampled_bound_and_knows_batches_modules_and_what_is_missing():
    decoder, encoder = Decoder(nnx.Rngs(0)), Encoder(nnx.Rngs(1))
    xs = jnp.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])

    @nnx.jit
    def run(decoder, encoder):
        bound = cg.deterministic_elbo(decoder, encoder)
        known = cg.PartlyKnown(xs[0], jnp.array([False, True, True]))
        sampled = cg.elbo(decoder, encoder, num_samples=4000)(KEY, {"x": xs[0]})
        looks = lambda observed: encoder({"x": observed["x"].values})  # noqa: E731
        part = cg.deterministic_elbo(decoder, looks)({"x": known})
        single = [bound({"x": x}).value for x in xs]
        return jax.vmap(bound)({"x": xs}).value, single, sampled, part

    mapped, single, sampled, part = run(decoder, encoder)
    np.testing.assert_allclose(mapped, single, rtol=1e-6)
    error = float(jnp.std(sampled.log_joint)) / 4000**0.5
    assert abs(mapped[0] - sampled.value) < 5 * error + 0.01  # and the bias
    np.testing.assert_allclose(part.kl, sampled.kl, rtol=1e-4)  # an average of 4,000
    assert part.value > mapped[0]


def test_what_it_cannot_do_is_named():
    x: Any = jnp.asarray(X, jnp.float32)

    def message(model, guide, error: Any = TypeError, observed: Any = None):
        with pytest.raises(error) as caught:
            cg.deterministic_elbo(model, guide)(*([] if observed == () else [{"x": x}]))
        return str(caught.value)

    def dependent(observed):
        return normal(0.5, LINK.astype(np.float32) @ normal(0.5, jnp.zeros(2), "a"), "b")

    assert "in the guide, b depends on a" in message(chain, dependent, ValueError)

    def spins():
        first = cg.node(cg.nodes.Spin(), jnp.zeros(3), name="first")
        return normal(1.0, cg.node(cg.nodes.Spin(), 2 * first, name="second"), "x")

    def flips(observed):
        return [cg.node(cg.nodes.Spin(), 0.1 * observed["x"], name=n) for n in ("first", "second")]

    said = message(spins, flips)
    assert "the latent node 'second', a Spin" in said and "depends on other latent ones" in said

    def path(e):
        return cg.node(cg.nodes.LinearChain(jnp.zeros((2, 2))), e, name="path")

    def tagged():
        return normal(1.0, path(jnp.zeros((3, 2)))[:, 0], "x")

    assert "'path' is a LinearChain" in message(tagged, lambda observed: path(jnp.zeros((3, 2))))
    rectified = lambda *_: cg.node(cg.nodes.ReLU(), jnp.ones(3), name="z")  # noqa: E731
    assert "no closed form of its entropy" in message(
        lambda: normal(1.0, rectified(), "x"), rectified
    )
    sorted_states = lambda: normal(1.0, jnp.sort(normal(1.0, jnp.zeros(3), "z")), "x")  # noqa: E731
    assert "sort" in message(sorted_states, lambda observed: normal(1.0, observed["x"], "z"))
    assert "called as `procedure(observed, *args)`" in message(chain, guide, observed=())
    with pytest.raises(ValueError, match='covariance of deterministic_elbo is "linear" or "none"'):
        cg.deterministic_elbo(chain, guide, covariance="full")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="order is 1"):
        cg.deterministic_elbo(chain, guide, order=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'x' is a Bernoulli.* 0.3"):
        model, proposal = one_number(cg.nodes.Bernoulli(), lambda z: z)
        cg.deterministic_elbo(model, proposal)({"x": jnp.array(0.3)})
