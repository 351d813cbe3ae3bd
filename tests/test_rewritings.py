"""Equal functions get equal treatment: one network in many equivalent forms, under each procedure.

A form is the network with identities (moves that cancel, masks that keep everything, calls,
barriers, branches, loops of one step) put in at random places. Each procedure has to give what it
gives for the network itself. All forms are evaluated in one program per procedure.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import cgjax as cg
from cgjax import Belief

Move = Callable[[jax.Array], jax.Array]


@jax.custom_jvp
def _with_derivative(x: jax.Array) -> jax.Array:
    return x


_with_derivative.defjvp(lambda primals, tangents: (primals[0], tangents[0]))


def _halves(x: jax.Array) -> jax.Array:
    return jnp.concatenate(jnp.split(x, [1], axis=-1), axis=-1)


def _stacked(x: jax.Array) -> jax.Array:
    return jnp.stack([x[..., k] for k in range(x.shape[-1])], axis=-1)


def _permuted(x: jax.Array) -> jax.Array:
    order = np.roll(np.arange(x.shape[-1]), 1)
    return jnp.take(jnp.take(x, order, axis=-1), np.argsort(order), axis=-1)


def _padded(x: jax.Array) -> jax.Array:
    return jnp.pad(x, [(1, 2)] * x.ndim)[(slice(1, -2),) * x.ndim]


def _beside_others(x: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.ones_like(x), x], axis=-1)[..., x.shape[-1] :]


def _written(x: jax.Array) -> jax.Array:
    return jnp.zeros(x.shape, x.dtype).at[..., : x.shape[-1]].set(x)


def _updated(x: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice(jnp.zeros(x.shape, x.dtype), x, (0,) * x.ndim)


def _repeated(x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(x[None], (2, *x.shape))[1]


def _tiled(x: jax.Array) -> jax.Array:
    return jnp.tile(x, (1,) * (x.ndim - 1) + (2,))[..., : x.shape[-1]]


def _of_one_step(x: jax.Array) -> jax.Array:
    return lax.scan(lambda _, row: (None, row), None, x[None])[1][0]


def _chosen(x: jax.Array) -> jax.Array:
    return lax.cond(True, lambda x: x, lambda x: jnp.zeros_like(x), x)


IDENTITIES: dict[str, Move] = {
    "nothing": lambda x: x,
    "split": _halves,
    "where": lambda x: jnp.where(np.ones(x.shape, bool), x, 0),
    "where by column": lambda x: jnp.where(np.ones((1,) * (x.ndim - 1) + x.shape[-1:], bool), x, 0),
    "take": _permuted,
    "roll": lambda x: jnp.roll(jnp.roll(x, 1, axis=-1), -1, axis=-1),
    "pad": _padded,
    "concatenate": _beside_others,
    "stack": _stacked,
    "reshape": lambda x: x.reshape(-1).reshape(x.shape),
    "transpose": lambda x: x.T.T,
    "flip": lambda x: x[..., ::-1][..., ::-1],
    "axis": lambda x: x[..., None].squeeze(-1),
    "set": _written,
    "update": _updated,
    "repeat": _repeated,
    "tile": _tiled,
    "jit": jax.jit(lambda x: x * 1),
    "checkpoint": jax.checkpoint(lambda x: x),
    "barrier": lambda x: lax.optimization_barrier(x),
    "precision": lambda x: lax.reduce_precision(x, 8, 23),
    "name": lambda x: checkpoint_name(x, "here"),
    "device": lambda x: jax.device_put(x),
    "derivative": _with_derivative,
    "vmap": lambda x: jax.vmap(lambda row: row)(x) if x.ndim else x,
    "scan": _of_one_step,
    "cond": _chosen,
    "one product": lambda x: x @ jnp.eye(x.shape[-1], dtype=x.dtype),
    "negative": lambda x: -jnp.negative(x),
    "halved": lambda x: 2 * (x / 2),
}  # fmt: skip
# Moves of elements alone, after which a result is still the node's own statistic.
MOVES = [name for name in IDENTITIES if name not in ("one product", "cond")]
PLACES = ("input", "weight", "before", "after", "result")


def forms(
    names: list[str], rounds: int = 1, places: tuple[str, ...] = PLACES
) -> list[dict[str, str]]:
    """Some identities at several places at once, so that each stands somewhere in every round."""
    random = np.random.default_rng(7)
    made = []
    for _ in range(rounds):
        order = [str(name) for name in random.permutation(names)]
        for first in range(0, len(order), len(places)):
            made.append(dict(zip(places, order[first : first + len(places)], strict=False)))
    return made


def network(form: dict[str, str], activation: Move, parameters: Any, x: jax.Array) -> jax.Array:
    """A dense layer, an activation and a linear readout, with a form's identities put in."""

    def put(place: str, value: jax.Array) -> jax.Array:
        return IDENTITIES[form.get(place, "nothing")](value)

    (w, b), readout = parameters
    e = put("input", x) @ put("weight", w) + b.reshape((1,) * (x.ndim - 1) + b.shape)
    return put("result", put("after", activation(put("before", e))) @ readout)


def classifier(form: dict[str, str], activation: Move, parameters: Any, x: jax.Array) -> jax.Array:
    """The same with the activation as its result."""

    def put(place: str, value: jax.Array) -> jax.Array:
        return IDENTITIES[form.get(place, "nothing")](value)

    (w, b), _ = parameters
    e = put("input", x) @ put("weight", w) + b.reshape((1,) * (x.ndim - 1) + b.shape)
    return put("result", put("after", activation(put("before", e))))


def marked(e: jax.Array) -> jax.Array:
    return cg.node(cg.nodes.Spin(), e, name="hidden")


KEY = jax.random.key(3)
PARAMETERS = (
    (jnp.linspace(-1, 1, 12).reshape(3, 4), jnp.array([0.1, -0.2, 0.3, 0.0])),
    jnp.linspace(1, -1, 8).reshape(4, 2),
)
ROWS = jnp.linspace(-0.8, 0.9, 6).reshape(2, 3)
FORMS = forms(list(IDENTITIES))


def assert_all_as_first(results: list[Any], names: list[Any], rtol: float = 2e-6) -> None:
    """Every form's result is that of the first, which is the network itself."""
    for name, result in zip(names, results, strict=True):
        for got, expected in zip(jax.tree.leaves(result), jax.tree.leaves(results[0]), strict=True):
            np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol, err_msg=str(name))


def under(
    procedure: Callable[[Any], Callable[..., Any]], activation: Move, *args: Any
) -> list[Any]:
    """The results of a procedure for all forms, in one program."""
    nets = [functools.partial(network, form, activation) for form in [{}, *FORMS]]
    return jax.jit(lambda *args: [procedure(net)(*args) for net in nets])(*args)


NAMES = [{}, *FORMS]


@pytest.mark.parametrize(
    "procedure",
    [
        cg.feed_forward,
        lambda net: lambda p, x: cg.forward_sample(net)(KEY, p, x),
        lambda net: lambda p, x: cg.with_nodes(cg.pcff(net, 0.5))(KEY, p, x),
        lambda net: lambda p, x: jax.grad(lambda p: cg.pcff(net, 0.5)(KEY, p, x).sum())(p),
    ],
    ids=["feed_forward", "forward_sample", "pcff", "gradient of pcff"],
)
def test_sampling_and_feed_forward(procedure):
    assert_all_as_first(under(procedure, marked, PARAMETERS, ROWS), NAMES, 1e-5)


def test_exact_marginals():
    def procedure(net):
        return lambda p, x: cg.with_nodes(cg.exact_marginals(net))(p, x)

    assert_all_as_first(under(procedure, marked, PARAMETERS, ROWS[0]), NAMES, 1e-5)


def test_log_joint():
    values = {"hidden": jnp.array([1.0, -1.0, -1.0, 1.0])}
    results = under(
        lambda net: lambda p, x: cg.log_joint(net)(values, p, x), marked, PARAMETERS, ROWS[0]
    )
    assert_all_as_first(results, NAMES, 1e-5)


@pytest.mark.parametrize("nodes", ["collapsed", "random"])
@pytest.mark.parametrize("uncertain", ["input", "weights"])
def test_moments(nodes, uncertain):
    (w, b), readout = PARAMETERS
    beliefs = {
        "input": (PARAMETERS, Belief(ROWS, jnp.full(ROWS.shape, 0.04) * (1 + ROWS**2))),
        "weights": (((Belief(w, 0.02 + 0.1 * w**2), b), readout), ROWS),
    }
    results = under(
        lambda net: cg.moments(net, nodes=nodes, positions=False), marked, *beliefs[uncertain]
    )
    # "one product" mixes elements, so that a belief about an activation is settled before.
    assert_all_as_first(results, NAMES, 1e-5)


@pytest.mark.parametrize("name", ["local_reparameterization", "flipout"])
def test_noise_of_weights(name):
    """Equal rows see independent weights, whatever stands between the weights and the data.

    The variance over rows is that of one draw of the weights with flipout's signs, so it is
    averaged over draws: 256 give it to about 8 %, of which four times are allowed.
    """
    (w, b), readout = PARAMETERS
    posterior = ((Belief(w, jnp.full(w.shape, 0.25)), b), readout)
    x = jnp.broadcast_to(ROWS[0], (16, 3))
    procedure = getattr(cg.weights, name)

    def spread_over_rows(net):
        def of_one_draw(key, p, x):
            return procedure(net)(key, p, x).mean.var(0)

        draws = jax.vmap(of_one_draw, (0, None, None))
        return lambda p, x: draws(jax.random.split(KEY, 256), p, x).mean(0)

    spread = np.stack(under(spread_over_rows, marked, posterior, x))
    assert np.all(np.abs(np.log(spread / spread.mean(0))) < 0.32), spread


def description(net: Any) -> Any:
    graph = cg.chain_graph(functools.partial(net, PARAMETERS))(ROWS[0])
    return [
        (c.name, c.family, c.shape, c.output, tuple(map(str, c.parents))) for c in graph.components
    ]


def test_chain_graph():
    expected = description(functools.partial(network, {}, marked))
    for form in FORMS:
        assert description(functools.partial(network, form, marked)) == expected, form


ACTIVATIONS: dict[str, Move] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "leaky_relu": jax.nn.leaky_relu,
    "softmax": jax.nn.softmax,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lift(activation, dtype):
    """The same activations are lifted, and the same of them are output nodes."""
    arguments = jax.tree.map(lambda a: a.astype(dtype), (PARAMETERS, ROWS))
    for places in (network, classifier):
        if places is network and activation == "softmax":
            continue  # attention, lifted on request only
        names = MOVES if places is classifier else list(IDENTITIES)
        known = None
        for form in [{}, *forms(names)[:: 1 if dtype == "float32" else 3]]:
            net = functools.partial(places, form, ACTIVATIONS[activation])
            lifted = cg.lift(net)
            found = [(e.function, e.family) for e in lifted.report(*arguments).lifted]
            outputs = [c.output for c in cg.chain_graph(lifted)(*arguments).components]
            known = known or (found, outputs)
            assert len(found) == 1 and (found, outputs) == known, form
            assert outputs == [places is classifier], form
