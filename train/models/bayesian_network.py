"""A Bayesian network of tables as a network of categorical nodes."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax

import cgjax as cg
from train.data.bayesian_networks import Variable


def tables(variables: Sequence[Variable]) -> dict[str, jax.Array]:
    """The tables of probabilities, which are the parameters of `network(variables)`."""
    return {v.name: jnp.asarray(v.table, jnp.float32) for v in variables}


def network(variables: Sequence[Variable]) -> Callable[..., dict[str, jax.Array]]:
    """The network, whose nodes are called as the variables.

    Args:
        variables: each after its parents.

    Returns:
        `net(tables) -> {name: one-hot statistic}`, where `tables` are `tables(variables)`.
        Collapsed, each node has the mean distribution over its parents, were they independent.
    """

    def net(tables: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        values: dict[str, jax.Array] = {}
        for v in variables:
            p = tables[v.name]
            for parent in v.parents:
                # No matrix product: those of a few numbers each take longest to compile. Two axes:
                # with an axis for each of seven parents, XLA's programs for CPUs crash.
                weights = values[parent]
                rows = lax.reshape(p, (len(weights), p.size // len(weights)))
                p = lax.reduce_sum(lax.broadcast_in_dim(weights, rows.shape, (0,)) * rows, (0,))
            # Of `lax`: to trace functions of `jnp` takes several times as long.
            possible = lax.gt(p, lax.full_like(p, 0))
            log = lax.log(lax.select(possible, p, lax.full_like(p, 1)))
            e = lax.select(possible, log, lax.full_like(p, -jnp.inf))
            values[v.name] = cg.node(cg.nodes.Categorical(), e, name=v.name)
        return values

    return net


def observed(variables: Sequence[Variable], states: Mapping[str, str]) -> dict[str, jax.Array]:
    """States by name as evidence for `cg.condition`."""
    known = {v.name: v.states for v in variables}
    return {
        name: jax.nn.one_hot(known[name].index(state), len(known[name]))
        for name, state in states.items()
    }
