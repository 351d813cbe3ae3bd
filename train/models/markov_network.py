"""A Markov network, a product of factors, as a network of categorical nodes with evidence.

    P(x) = prod_f F_f(x_f) / Z

is the distribution of independent uniform variables, given that of each factor a switch is on,
which is so with probability F_f(x_f) / max F_f: Pearl's virtual evidence, one for each factor.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

import cgjax as cg
from train.data.uai import MarkovNetwork


class WithSwitches(NamedTuple):
    """A Markov network as a directed one.

    Attributes:
        net: `net(tables) -> {name: one-hot statistic}`.
        tables: the parameters of the network: the factors, each divided by its largest entry.
        evidence: that all switches are on, for `cg.condition(net, evidence)`.
        log_scale: what the log-evidence is less than log Z.
    """

    net: Callable[..., dict[str, jax.Array]]
    tables: tuple[jax.Array, ...]
    evidence: Mapping[str, jax.Array]
    log_scale: float


def with_switches(network: MarkovNetwork) -> WithSwitches:
    """The network, and what has to be observed of it.

    Raises:
        ValueError: for a factor that is 0 everywhere.
    """
    largest = [float(factor.table.max(initial=0.0)) for factor in network.factors]
    for factor, top in zip(network.factors, largest, strict=True):
        if top == 0:
            raise ValueError(
                f"The factor of {', '.join(factor.scope) or 'nothing'} is 0 for all states: there "
                "is no such distribution."
            )

    def net(tables: tuple[jax.Array, ...]) -> dict[str, jax.Array]:
        values = {
            name: cg.node(cg.nodes.Categorical(), jnp.zeros(len(states)), name=name)
            for name, states in network.states.items()
        }
        for number, (factor, table) in enumerate(zip(network.factors, tables, strict=True)):
            p = table
            for name in factor.scope:
                p = (values[name].reshape(-1, *(1,) * (p.ndim - 1)) * p).sum(0)
            pair = jnp.stack([p, 1 - p])
            e = jnp.where(pair > 0, jnp.log(jnp.where(pair > 0, pair, 1)), -jnp.inf)
            cg.node(cg.nodes.Categorical(), e, name=f"switch{number}")
        return values

    tables = tuple(
        jnp.asarray(factor.table / top, jnp.float32)
        for factor, top in zip(network.factors, largest, strict=True)
    )
    evidence = {f"switch{k}": jnp.array([1.0, 0.0]) for k in range(len(tables))}
    log_scale = sum(map(math.log, largest))
    log_scale += sum(math.log(len(states)) for states in network.states.values())
    return WithSwitches(net, tables, evidence, log_scale)
