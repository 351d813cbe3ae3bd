"""Generators against critics: bounds on divergences by quadrature, and whose gradient is whose."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats
from scipy.special import expit

import cgjax as cg

KEY = jax.random.key(3)
# p = N(0, 1) against q = N(1, 1.3), on a grid whose sums are exact to 1e-10.
GRID = np.linspace(-14.0, 16.0, 3001)
STEP, MIDDLE = GRID[1] - GRID[0], 1400
REAL: Any = stats.norm(0, 1)
MADE: Any = stats.norm(1, 1.3)
P, Q = REAL.pdf(GRID), MADE.pdf(GRID)
LOG_U = REAL.logpdf(GRID) - MADE.logpdf(GRID)
U = np.exp(LOG_U)

# f(u), f'(u), the best critic g^-1(f'(u)), and the divergence as it is known to six digits.
_GAN = (U * LOG_U - (U + 1) * np.log(U + 1), LOG_U - np.log(U + 1), LOG_U)
DIVERGENCES: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, float]] = {
    "kl": (U * LOG_U, LOG_U + 1, LOG_U + 1, 0.354080),
    "reverse_kl": (-LOG_U, -1 / U, LOG_U, 0.582636),
    "pearson": ((U - 1) ** 2, 2 * (U - 1), 2 * (U - 1), 0.667535),
    "hellinger": ((np.sqrt(U) - 1) ** 2, 1 - 1 / np.sqrt(U), LOG_U / 2, 0.208245),
    "jensen_shannon": (_GAN[0] + (U + 1) * np.log(2), _GAN[1] + np.log(2), LOG_U, 0.192744),
    "gan": (*_GAN, -1.193551),
}


@functools.cache
def on_grid(divergence: Any) -> Any:
    """The losses of each real example beside one generated one, and of each generated one beside
    one that is real, of a critic with given values on the grid."""

    def critic(x, y, values):
        return values[jnp.round((x - GRID[0]) / STEP).astype(int)]

    def generator(y, values):
        return cg.node(cg.nodes.Gaussian(0.0), y, name="y")  # y itself

    losses = cg.adversarial(generator, critic, divergence)

    @jax.jit
    def both(at, middle, values):
        real = jax.vmap(lambda x: losses(KEY, x, middle, values))(at)
        return real, jax.vmap(lambda y: losses(KEY, middle, y, values))(at)

    return both


def expected(divergence: Any, v: np.ndarray) -> tuple[float, float]:
    """The expected bound and generator's loss, of a critic with these values on the grid."""
    real, made = on_grid(divergence)(*map(jnp.asarray, (GRID, GRID[MIDDLE], v)))
    # The bound is a function of the real example plus one of the generated one.
    bound = (P * real.bound).sum() + (Q * made.bound).sum() - real.bound[MIDDLE] / STEP
    return float(bound * STEP), float((Q * made.generator).sum() * STEP)


@pytest.mark.numerics
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_best_critic_reaches_the_divergence_and_another_does_not(divergence):
    f, slope, best, known = DIVERGENCES[divergence]
    exact = (Q * f).sum() * STEP
    assert abs(exact - known) < 1e-6
    with jax.enable_x64(True):
        bound, generator = expected(divergence, best)
        other, _ = expected(divergence, 0.8 * best + 0.1)
    np.testing.assert_allclose(bound, exact, rtol=1e-8)
    # All of the bound but the real examples' part, in which g(v) = f'(u).
    np.testing.assert_allclose(generator, bound - (P * slope).sum() * STEP, rtol=1e-8)
    assert other < bound - 1e-3


@pytest.mark.numerics
def test_losses_that_are_no_bounds_of_the_table():
    """Hinge is twice the total variation less 2; a critic of slope 1 finds Wasserstein's."""
    variation = np.abs(P - Q).sum() * STEP / 2
    below = MADE.cdf(GRID) - REAL.cdf(GRID)  # W1 = integral |F_q - F_p|, and v' = its sign
    steepest = np.cumsum(np.sign(below)) * STEP
    with jax.enable_x64(True):
        hinge, by_hinge = expected("hinge", np.sign(LOG_U))
        weaker, _ = expected("hinge", 0.8 * np.sign(LOG_U))
        wasserstein, by_critic = expected("wasserstein", steepest)
        gan, unsaturated = expected("non_saturating", LOG_U)
    # 1e-3: v jumps, or bends, between two points of the grid.
    np.testing.assert_allclose(hinge, 2 * variation - 2, atol=1e-3)
    np.testing.assert_allclose(by_hinge, -(Q * np.sign(LOG_U)).sum() * STEP, rtol=1e-8)
    assert weaker < hinge - 0.1
    np.testing.assert_allclose(wasserstein, np.abs(below).sum() * STEP, atol=1e-2)
    np.testing.assert_allclose(by_critic, -(Q * steepest).sum() * STEP, rtol=1e-8)
    np.testing.assert_allclose(gan, DIVERGENCES["gan"][3], atol=1e-6)
    np.testing.assert_allclose(unsaturated, -(Q * np.log(expit(LOG_U))).sum() * STEP, rtol=1e-8)


# -- whose gradient is whose


def line(p):
    z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(2), name="z")
    return p["shift"] + p["shared"] * z


def slope(x, p):
    return jnp.tanh(x @ p["slope"]) * p["shared"]


P0 = {"shift": jnp.array([0.5, -1.0]), "slope": jnp.array([0.3, 0.7]), "shared": jnp.array(1.2)}
X = jnp.array([0.2, 0.4])


def by_hand(p):
    """Both gradients of the KL's losses, with the two uses of what is shared kept apart."""
    z = cg.forward_sample(lambda: cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(2)))(KEY)

    def made(p):
        return p["shift"] + p["shared"] * z

    critic = jax.grad(lambda q: jnp.exp(slope(made(p), q) - 1) - slope(X, q))(p)
    generator = jax.grad(lambda q: -jnp.exp(slope(made(q), p) - 1))(p)
    return critic, generator


def test_each_loss_has_the_derivative_of_its_own_network_alone():
    losses = cg.adversarial(line, slope, "kl")
    inside = lambda p: cg.adversarial(lambda: line(p), lambda x: slope(x, p), "kl")(KEY, X)  # noqa: E731

    @jax.jit
    def gradients(p):
        passed = [jax.grad(lambda p, k=k: losses(KEY, X, p)[k])(p) for k in (0, 1)]
        closed = [jax.grad(lambda p, k=k: inside(p)[k])(p) for k in (0, 1)]
        return passed, closed, jax.grad(lambda p: sum(losses(KEY, X, p)[:2]))(p)

    expected = jax.jit(by_hand)(P0)
    passed, closed, both = gradients(P0)
    for found in (passed, closed):
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    assert not passed[0]["shift"].any() and not passed[1]["slope"].any()
    for ours, *parts in zip(*map(jax.tree.leaves, (both, *expected)), strict=True):
        np.testing.assert_allclose(ours, sum(parts), rtol=1e-5)


def judge(x, p):
    """As `slope`, by the log-odds of a node."""
    hidden = cg.node(cg.nodes.Spin(), x @ p["slope"], name="hidden")
    return cg.node(cg.nodes.Bernoulli(), hidden * p["shared"], name="real")


def test_a_node_named_real_and_batches_of_one_kind_or_the_other():
    def lines(p):
        z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros((5, 2)), name="z")
        return p["shift"][None, :] + p["shared"] * z

    @jax.jit
    def found(p):
        one = cg.adversarial(line, slope)
        whole = cg.adversarial(lines, slope)(KEY, jnp.stack([X, 2 * X, 3 * X]), p)
        keys = jax.random.split(KEY, 3)
        each = jax.vmap(one, (0, 0, None))(keys, jnp.stack([X, X, 2 * X]), p)
        drawn = slope(cg.forward_sample(line)(KEY, p), p), slope(X, p)
        return one(KEY, X, p), cg.adversarial(line, judge)(KEY, X, p), drawn, whole, each

    plain, by_node, (of_generated, of_real), whole, each = found(P0)
    for ours, theirs in zip(by_node, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_allclose(plain.of_generated, of_generated, rtol=1e-6)
    np.testing.assert_allclose(plain.of_real, of_real, rtol=1e-6)
    assert whole.of_real.shape == (3,) and whole.of_generated.shape == (5,)
    likelier = np.log(2) - np.logaddexp(0, -whole.of_real)
    other = np.logaddexp(0, whole.of_generated) - np.log(2)
    np.testing.assert_allclose(whole.bound, likelier.mean() - other.mean(), rtol=1e-5)
    assert each.critic.shape == (3,) and len(set(each.of_generated.tolist())) == 3


class Generator(nnx.Module):
    def __init__(self, rngs):
        self.out = nnx.Linear(2, 3, rngs=rngs)

    def __call__(self):
        return self.out(cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(2), name="z"))


def test_modules():
    generator, critic = Generator(nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(1))

    @nnx.jit
    def gradients(generator, critic):
        def total(generator, critic):
            losses = cg.adversarial(generator, critic=critic, divergence="wasserstein")
            found = losses(KEY, jnp.ones(3))
            return found.critic + found.generator, found

        slopes, found = nnx.grad(total, argnums=(0, 1), has_aux=True)(generator, critic)
        return *map(nnx.to_pure_dict, slopes), found

    of_generator, of_critic, found = gradients(generator, critic)
    drawn = cg.forward_sample(generator)(KEY)
    np.testing.assert_allclose(of_critic["kernel"][:, 0], drawn - 1, rtol=1e-5)
    np.testing.assert_allclose(of_generator["out"]["bias"], -critic.kernel[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found.of_generated, critic(drawn), rtol=1e-5)


def test_what_does_not_fit_is_named():
    def message(generator=line, critic: Any = slope, real=X, error: Any = ValueError, **options):
        with pytest.raises(error) as caught:
            cg.adversarial(generator, critic, **options)(KEY, real, P0)
        return str(caught.value)

    assert "one of kl, reverse_kl" in message(divergence="kullback")
    assert "estimator is" in message(estimator="score")
    assert "takes a network" in message(critic=None, error=TypeError)
    assert "shape (4, 2), the generated one (2,)" in message(real=jnp.ones((4, 2)))
    assert "'real' is a Gaussian" in message(
        critic=lambda x, p: cg.node(cg.nodes.Gaussian(1.0), x @ p["slope"], name="real")
    )
    assert 'of the family Bernoulli that is named "real"' in message(
        critic=lambda x, p: cg.node(cg.nodes.Bernoulli(), x @ p["slope"], name="d")
    )
    assert "returns one number for an example" in message(
        critic=lambda x, p: (x, x), error=TypeError
    )
    spins = lambda p: cg.node(cg.nodes.Spin(), p["shift"], name="s")  # noqa: E731
    assert "sample of s, which has no derivative" in message(spins)
    with pytest.raises(TypeError, match="an example that was not generated, is missing"):
        cg.adversarial(line, slope)(KEY)
    with pytest.raises(TypeError, match="of a generator and a critic"):
        cg.with_nodes(cg.adversarial(line, slope))
    same = cg.adversarial(line, slope)
    assert same is cg.adversarial(line, slope) and same != cg.adversarial(line, slope, "kl")
    straight = cg.adversarial(spins, slope, "wasserstein", estimator="straight_through")
    gradient = jax.grad(lambda p: straight(KEY, X, p).generator)(P0)
    slopes = (1 - np.tanh(P0["shift"]) ** 2) * jax.grad(lambda x: -slope(x, P0))(
        cg.forward_sample(spins)(KEY, P0)
    )
    np.testing.assert_allclose(gradient["shift"], slopes, rtol=1e-5)


# -- a variational autoencoder as a model with a critic: Hu et al., "On unifying deep generative
# models", 2017. y is 1 for an example of the data and 0 for a generated one, each with probability
# 1/2; q(y | x) is the critic's, and q^r(y | x) = q(1 - y | x).


def densities(theta: Any) -> tuple[Any, Any]:
    """p_theta(x | y = 0), by a generator shift + scale z, and p(x | y = 1), on the grid."""
    shift, scale = theta
    at = jnp.asarray(GRID)
    made = jnp.exp(-(((at - shift) / scale) ** 2) / 2) / scale / np.sqrt(2 * np.pi)
    return made, jnp.asarray(P)


def xlogy(p: Any, q: Any) -> Any:
    """The integral of p log q, where q may be 0 beside p."""
    return jnp.sum(p * jnp.log(jnp.maximum(q, 1e-30))) * STEP


@pytest.mark.numerics
def test_the_generators_gradient_is_that_of_a_divergence_less_jensen_shannons():
    """Of E_p(y)[KL(p_theta(x | y) || q^r(x | y))] - JSD(p_theta(x | 0), p(x | 1)), at theta_0."""

    def generator(z, theta):
        return theta[0] + theta[1] * cg.node(cg.nodes.Gaussian(0.0), z, name="z")

    def critic(x, *_):  # any critic, not the best one
        return 0.7 - 0.4 * x + 0.1 * x**2

    losses = cg.adversarial(generator, critic, "non_saturating")

    def objective(theta, before):
        made, real = densities(theta)
        mixture, now = sum(densities(before)) / 2, (made + real) / 2
        says = jax.nn.sigmoid(critic(jnp.asarray(GRID)))
        divergence = jensen = 0.0
        for law, reversed_says in ((made, says), (real, 1 - says)):  # q^r(0 | x) = q(1 | x)
            reverse = reversed_says * mixture
            reverse /= reverse.sum() * STEP  # q^r(x | y)
            divergence += (xlogy(law, law) - xlogy(law, reverse)) / 2
            jensen += (xlogy(law, law) - xlogy(law, now)) / 2
        return divergence - jensen

    start = jnp.array([1.0, 1.3])
    z = jnp.linspace(-9.0, 9.0, 2001)
    mass = jnp.exp(-(z**2) / 2) * (z[1] - z[0]) / np.sqrt(2 * np.pi)

    def loss(theta):
        each = jax.vmap(lambda z: losses(KEY, jnp.array(0.0), z, theta).generator)(z)
        return (mass * each).sum()

    ours = jax.jit(jax.grad(loss))(start)
    theirs = jax.jit(jax.grad(objective))(start, start)
    # The generator's loss is of generated examples alone, which are half of all.
    np.testing.assert_allclose(ours / 2, theirs, rtol=1e-3)  # sums of float32
    assert np.abs(ours).min() > 0.01


@pytest.mark.numerics
def test_with_a_perfect_critic_the_same_objective_is_the_elbo_of_the_data():
    """-2 E_x KL(q(z | x, y) q*^r(y | x) || p_theta(z, y | x)) has the ELBO's gradient at theta_0.

    x is of the data or generated. The critic knows which: of data q*^r says y = 0, so that the
    generator has to explain them; of generated examples y = 1, and nothing is learnt from these.
    """
    noise, slope, spread = 0.6, 0.5, 0.7  # of p(x | z), and of q(z | x)

    def model(theta):
        z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(()), name="z")
        return cg.node(cg.nodes.Gaussian(noise), theta * z, name="x")

    def guide(observed, theta):
        return cg.node(cg.nodes.Gaussian(spread), slope * observed["x"], name="z")

    bound = cg.deterministic_elbo(model, guide)

    def log_normal(x, mean, scale):
        return -(((x - mean) / scale) ** 2) / 2 - np.log(scale * np.sqrt(2 * np.pi))

    x, z = np.linspace(-8.0, 8.0, 401), np.linspace(-7.0, 7.0, 351)
    dx, dz, start = x[1] - x[0], z[1] - z[0], jnp.array(0.9)
    data, log_prior = np.exp(log_normal(x, 0.3, 0.8)), log_normal(z, 0.0, 1.0)[None, :]
    log_q = log_normal(z[None, :], slope * x[:, None], spread)

    def objective(theta, before):
        log_joint = log_normal(x[:, None], theta * z[None, :], noise) + log_prior
        made = jnp.exp(log_joint).sum(1) * dz
        known = jax.lax.stop_gradient(made)
        evidence = (made + data) / 2  # p_theta(x)
        # Of data y is 0, and q(z | x) against p(x | z) p(z) / 2; of others the prior.
        of_data = np.exp(log_q) * (log_q + jnp.log(2 * evidence)[:, None] - log_joint)
        of_made = jnp.log(evidence / (data / 2))
        return -((data * of_data.sum(1) * dz + known * of_made).sum() * dx)

    theirs = jax.jit(jax.grad(objective))(start, start)
    each = jax.vmap(lambda x, theta: bound({"x": x}, theta).value, (0, None))
    ours = jax.jit(jax.grad(lambda theta: (data * each(x, theta)).sum() * dx))(start)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)  # sums of float32
    assert abs(ours) > 0.01
