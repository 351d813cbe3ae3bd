"""The networks: one with a Gaussian posterior, and independent ones, all by the same recipe."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Key

import cgjax as cg
from cgjax import metrics, weights
from train.data import uci
from train.models.classifiers import Perceptron, kernel_deviations
from train.observation_density import settings
from train.observation_density.settings import Config


class Parameters(NamedTuple):
    """Of a network with its noise; `network` may be a posterior."""

    network: Any
    log_noise: Float[Array, "..."]  # logarithm of the variance of a label


class Model(NamedTuple):
    """A distribution q over networks: members of equal weight, with known weights or posteriors."""

    # output(network, x): the belief about the output of each example
    output: Callable[[Any, Array], cg.Belief]
    members: Parameters  # arrays with a leading axis of members
    # How many of them, from the first, q is of. All are computed, as one product: of one alone the
    # last bit is another, and so are all that chains make of it.
    number: int

    def _each(self, function: Callable[[Any, cg.Belief], Array], x: Array) -> Array:
        """`function(head, output)` of every member at many inputs."""

        def of(member: Parameters) -> Array:
            return function(weights.GaussianHead(member.log_noise), self.output(member.network, x))

        return jax.vmap(of)(self.members)[: self.number]

    def expected_loss(self, x: Float[Array, " features"], y: Array) -> Float[Array, ""]:
        """E_q[-log p(y | x)] of one example."""
        return self._each(lambda head, out: head.expected_nll(out, y[None])[0], x[None]).mean()

    def predictions(self, x: Float[Array, "many features"]) -> Float[Array, " many"]:
        """The expected label of each input."""
        return self._each(lambda head, output: output.mean, x).mean(0)

    @property
    def noise(self) -> Float[Array, ""]:
        """The learnt standard deviation of a label around its network's output."""
        return jnp.sqrt(jnp.exp(self.members.log_noise[: self.number]).mean())

    def test(self, examples: uci.Scaled) -> dict[str, float]:
        """Root mean square error and negative log-likelihood of test rows, in original units."""
        x, y = jnp.asarray(examples.test_x), jnp.asarray(examples.test_y)
        each = self._each(lambda head, output: -head.marginal_nll(output, y), x)
        nll = -(jax.nn.logsumexp(each, axis=0) - np.log(len(each))).mean()
        return {
            "rmse": float(examples.scale * metrics.rmse(self.predictions(x), y)),
            "nll": float(nll + np.log(examples.scale)),
        }


class Trained(NamedTuple):
    """Everything that was trained."""

    f: Callable[..., Any]  # f(params, x) -> one output per example
    posterior: Parameters
    members: Parameters  # arrays with a leading axis of members

    def model(self, name: settings.Model) -> Model:
        """The model of that name; "network" is the first of the members alone."""
        if name == "moments":
            moments = weights.deterministic(self.f)
            posterior = jax.tree.map(lambda a: a[None], self.posterior)
            return Model(lambda network, x: moments(None, network, x), posterior, 1)
        number = len(self.members.log_noise) if name == "ensemble" else 1
        return Model(lambda network, x: _known(self.f(network, x)), self.members, number)


def _known(output: Array) -> cg.Belief:
    return cg.Belief(output, jnp.zeros_like(output))


def train(config: Config, examples: uci.Scaled) -> Trained:
    """Trains a posterior by moments, and independent networks, by the same recipe."""
    features = examples.train_x.shape[1]

    def build(key: Any) -> nnx.Module:
        return Perceptron((features, config.hidden, 1), nnx.Rngs(key))

    net, params, state = cg.functional(nnx.eval_shape(lambda: build(0)))
    prior = kernel_deviations(params)
    variance = {name: config.initial_variance * scale**2 for name, scale in prior.items()}

    def f(params: Any, x: Array) -> Array:
        return net(params, state, x)[0][:, 0]

    def member(key: Any) -> Parameters:
        return Parameters(cg.functional(build(key))[1], jnp.zeros(()))

    def bayesian(key: Any) -> Parameters:
        params, noise = member(key)
        return Parameters(weights.mean_field(params, variance), noise)

    def elbo(params: Parameters, x: Array, y: Array) -> Array:
        output = weights.deterministic(f)(None, params.network, x)
        head = weights.GaussianHead(params.log_noise)
        loss = weights.elbo(head, output, y, params.network, prior)
        return loss.per_example(len(examples.train_y))

    def likelihood(params: Parameters, x: Array, y: Array) -> Array:
        output = _known(f(params.network, x))
        return weights.GaussianHead(params.log_noise).expected_nll(output, y).mean()

    keys = jax.random.split(jax.random.key(config.seed), config.members)
    descend = functools.partial(_descend, config, examples)
    posterior = jax.jit(functools.partial(descend, elbo, bayesian))(keys[0])
    members = jax.jit(jax.vmap(functools.partial(descend, likelihood, member)))(keys)
    return Trained(f, posterior, members)


def _descend(
    config: Config,
    examples: uci.Scaled,
    loss: Callable[..., Array],
    init: Callable[[Any], Parameters],
    key: Key[Array, ""],
) -> Parameters:
    """Adam on batches, every epoch with its own order, and the last examples of it left out."""
    params = init(key)
    count = len(examples.train_y)
    size = min(config.batch_size, count)
    adam = optax.adam(config.learning_rate)
    train_x, train_y = jnp.asarray(examples.train_x), jnp.asarray(examples.train_y)

    def step(carry: Any, rows: Array) -> Any:
        params, state = carry
        gradient = jax.grad(loss)(params, train_x[rows], train_y[rows])
        change, state = adam.update(gradient, state, params)
        return (optax.apply_updates(params, change), state), None

    def epoch(carry: Any, key: Any) -> Any:
        order = jax.random.permutation(key, count)[: count // size * size]
        return jax.lax.scan(step, carry, order.reshape(-1, size))

    keys = jax.random.split(jax.random.fold_in(key, 1), config.epochs)
    ((params, _), _) = jax.lax.scan(epoch, (params, adam.init(params)), keys)
    return params
