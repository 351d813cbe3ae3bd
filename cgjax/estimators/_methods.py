"""Moments, sampling, ensembles: what is trained, what it costs, and what it predicts.

All minimise  average NLL + share * cost / number of examples  by Adam. The cost is the divergence
of a posterior from the prior N(0, prior^2), or, of an ensemble's members, minus the logarithm of
that prior's density at their weights.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from cgjax import weights
from cgjax._static import Function, Tree
from cgjax.estimators._likelihoods import Likelihood
from cgjax.nodes import Belief

MethodName = Literal["moments", "sampling", "ensemble"]
METHODS: tuple[MethodName, ...] = ("moments", "sampling", "ensemble")
FIRST_VARIANCE = 1e-3  # of each weight: small, so that the means are found first
AT_ONCE = 10  # draws, for the sake of memory


@dataclass(frozen=True)
class Model:
    """What programs are compiled for: a network, what it predicts, and how it is trained.

    Attributes:
        apply: the network, see `Built`.
        has_state: whether it takes a state and returns it.
        draws: networks whose predictions are mixed, where they are sampled.
        batch: rows of a step.
    """

    apply: Function
    has_state: bool
    likelihood: Likelihood
    method: MethodName
    draws: int
    batch: int


def initial(model: Model, params: Tree, level: ArrayLike) -> dict[str, Tree]:
    """What is trained: the weights, or a posterior, and the level of the noise. The parameters of
    an ensemble have a leading axis of members."""
    if model.method != "ensemble":
        return {"weights": weights.mean_field(params, FIRST_VARIANCE), "level": level}
    members = len(jax.tree.leaves(params)[0])
    levels = jnp.broadcast_to(jnp.asarray(level), (members, *jnp.shape(level)))
    return {"weights": params, "level": levels}


def loss(
    model: Model,
    trained: dict[str, Tree],
    state: Tree,
    key: Array,
    rows: tuple[Array, Array],
    cost: tuple[Array, Array],
) -> Array:
    """The loss of a batch; `cost` is the share of it that counts per row, and the prior."""
    (x, y), (share, prior) = rows, cost

    def of_member(trained: dict[str, Tree], state: Tree) -> Array:
        output = _known(model, trained["weights"], state, x)
        square = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(trained["weights"]))
        return model.likelihood.loss(trained["level"], output, y) + share * square / prior**2 / 2

    if model.method == "ensemble":  # members have nothing to do with each other
        return jax.vmap(of_member)(trained, state).sum()
    procedure = {
        "moments": weights.deterministic,
        "sampling": weights.local_reparameterization,
    }[model.method]
    output = _output(model, procedure(model.apply)(key, trained["weights"], *state, x))
    divergence = weights.kl(trained["weights"], prior)
    return model.likelihood.loss(trained["level"], output, y) + share * divergence


def predicted(model: Model, trained: dict[str, Tree], state: Tree, key: Array, x: Array) -> Any:
    """Predictions with a leading axis of components: beliefs about targets, or probabilities."""
    predict = model.likelihood.predict
    if model.method == "ensemble":

        def of_member(trained: dict[str, Tree], state: Tree) -> Any:
            return predict(trained["level"], _known(model, trained["weights"], state, x))

        return jax.vmap(of_member)(trained, state)
    if model.method == "moments":
        output = weights.deterministic(model.apply)(None, trained["weights"], *state, x)
        one = predict(trained["level"], _output(model, output))
        return jax.tree.map(lambda array: array[None], one)

    def drawn(key: Array) -> Any:
        output = weights.weight_sample(model.apply)(key, trained["weights"], *state, x)
        return predict(trained["level"], _output(model, output))

    keys = jax.random.split(key, model.draws)
    return jax.lax.map(drawn, keys, batch_size=min(AT_ONCE, model.draws))


def _output(model: Model, out: Any) -> Any:
    return out[0] if model.has_state else out


def _known(model: Model, params: Tree, state: Tree, x: Array) -> Belief:
    output: Any = _output(model, model.apply(params, *state, x))
    return Belief(output, jnp.zeros_like(output))


@functools.partial(jax.jit, static_argnums=0)
def predict_block(model: Model, trained: Tree, state: Tree, seed: ArrayLike, x: ArrayLike) -> Any:
    """`predicted` for a block of rows."""
    return predicted(model, trained, state, jax.random.key(jnp.asarray(seed)), jnp.asarray(x))
