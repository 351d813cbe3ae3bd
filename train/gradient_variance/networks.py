"""The networks, the procedures for their weights, and what each procedure minimises."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array

import cgjax as cg
from cgjax import weights
from train.engine import loop
from train.engine.testing import logarithm
from train.gradient_variance.settings import Config, Name
from train.models.perceptron import Perceptron, kernel_deviations
from train.models.vgg import SMALL, VGG, VGG16

CLASSES = 10
HEAD = weights.CategoricalHead()


class Procedure(NamedTuple):
    """A way to compute outputs of a network with uncertain weights."""

    transform: Callable[..., Any] | None  # none: the network at the means of its weights
    random: bool


PROCEDURES = {
    "moments": Procedure(weights.deterministic, random=False),
    "local": Procedure(weights.local_reparameterization, random=True),
    "flipout": Procedure(weights.flipout, random=True),
    "weights": Procedure(weights.weight_sample, random=True),
    "plain": Procedure(None, random=False),
}


def uncertain(posterior: Any) -> list[Any]:
    """The distributions among the leaves of a posterior."""
    leaves = jax.tree.leaves(posterior, is_leaf=lambda x: isinstance(x, weights.Normal))
    return [leaf for leaf in leaves if isinstance(leaf, weights.Normal)]


class Learning(NamedTuple):
    """A network as a function, and its prior."""

    f: Callable[..., Any]  # f(params, state, x) -> (logits, state)
    state: Any
    prior: dict[str, float]  # standard deviation by the name of each kernel

    def output(self, procedure: Name, key: Any, posterior: Any, x: Array) -> cg.Belief:
        """The belief about the logits."""
        transform = PROCEDURES[procedure].transform
        if transform is None:
            logits = self.f(weights.means(posterior), self.state, x)[0]
            return cg.Belief(logits, jnp.zeros_like(logits))
        return transform(self.f)(key, posterior, self.state, x)[0]

    def predict(self, procedure: Name, posterior: Any, x: Array) -> Array:
        """Logarithms of probabilities of classes, for all posteriors by moments."""
        way = "plain" if procedure == "plain" else "moments"
        return logarithm(HEAD.predict(self.output(way, None, posterior, x)))

    def gradient(
        self, procedure: Name, key: Any, posterior: Any, x: Array, y: Array
    ) -> dict[str, Any]:
        """The gradient of the expected negative log-likelihood of a batch, by means and by
        log-variances of the kernels. The divergence has no noise, and is left out."""

        def loss(posterior: Any) -> Array:
            return HEAD.expected_nll(self.output(procedure, key, posterior, x), y).mean()

        kernels = uncertain(jax.grad(loss)(posterior))
        return {
            "means": [kernel.mean for kernel in kernels],
            "log variances": [kernel.log_variance for kernel in kernels],
        }


@functools.lru_cache
def learning(config: Config, features: int) -> Learning:
    """The network of a configuration, without its weights, for so many inputs."""
    f, params, state = cg.functional(nnx.eval_shape(lambda: _build(config, features, 0)))
    deviations = kernel_deviations(params).items()
    return Learning(f, state, {name: config.prior_scale * scale for name, scale in deviations})


def _build(config: Config, features: int, key: Any) -> nnx.Module:
    network, hidden, rngs = config.scale.network, config.scale.hidden, nnx.Rngs(key)
    if hidden is not None:
        return Perceptron((features, hidden, hidden, CLASSES), rngs)
    side = math.isqrt(features // 3)
    return VGG(VGG16 if network == "vgg16" else SMALL, side, 3, CLASSES, rngs)


@functools.lru_cache
def learner(config: Config, procedure: Name, features: int, examples: int) -> loop.Learner:
    """What is trained by a procedure.

    Args:
        config: the settings.
        procedure: by which.
        features: the number of inputs.
        examples: the number of training images.
    """
    net = learning(config, features)
    variance = {name: config.initial_variance * scale**2 for name, scale in net.prior.items()}

    def init(key: Any) -> Any:
        params = cg.functional(_build(config, features, key))[1]
        posterior = weights.mean_field(params, variance)
        return weights.means(posterior) if procedure == "plain" else posterior

    def loss(posterior: Any, key: Any, hyper: Any, x: Array, y: Array) -> tuple[Array, Array]:
        output = net.output(procedure, key, posterior, x)
        wrong = (output.mean.argmax(-1) != y).sum(dtype=jnp.int32)
        if procedure == "plain":
            return HEAD.expected_nll(output, y).mean(), wrong
        parts = weights.elbo(HEAD, output, y, posterior, net.prior)
        return parts.per_example(examples, config.temperature), wrong

    # At learning rate 1: the loop multiplies by the recipe's.
    return loop.stateless(init, loss, functools.partial(net.predict, procedure), optax.adam(1.0))
