"""The logarithms of conditionals, with what is known of each node's states."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cgjax import _static
from cgjax.inference._conditionals import Conditionals
from cgjax.inference._factor_tables import outer_sum, target
from cgjax.inference._factors import Factor, Model
from cgjax.inference._scaled import Table
from cgjax.inference._states import EVIDENCE, WEIGHTED, Parameter, law_of


class LogTables(Conditionals):
    """The tables of a model as logarithms, which stand in the place of the mantissas.

    Factors without a piece of their own are those of observed nodes, or of nodes at their most
    probable states.

    Args:
        model: the factors.
        arrays: the flat arguments of the network.
        absent: what a node in a branch that was not taken is: a uniform distribution, so that all
            its states together count as 1, or nothing, so that each of them does.
    """

    def __init__(
        self, model: Model, arrays: Sequence[jax.Array], absent: Literal["uniform", "nothing"]
    ):
        super().__init__(model, arrays, logs=True)
        self.absent = absent
        weighted = {i for i in model.kinds if model.sites[i].kind == WEIGHTED}
        self._listed = self._listed | weighted

    def _hidden(self, nodes: Sequence[int]) -> Callable[[Parameter], tuple[Array | None, ...]]:
        """The log-probabilities of a component of a family by its parameter: (nodes, states), with
        that of the mode alone where they are not listed."""
        site, kind = self.model.sites[nodes[0]], self.model.kinds[nodes[0]]
        listing = not self._listed.isdisjoint(nodes)
        fill = -math.log(kind.states) if listing and self.absent == "uniform" else 0.0

        def law(found: Parameter) -> tuple[None, Array, None]:
            family = _static.join(site.family, found.of_family)
            if listing:
                log = law_of(family, kind, found.e, logs=True)[1]
                assert log is not None  # it is asked for
                log = log.reshape(kind.states, kind.num_nodes).T
            else:
                log = family.log_prob(family.mode(found.e), found.e).reshape(-1, 1)
            if nodes[0] not in self.model.parts.mark:
                log = jnp.where(found.present > 0, log, fill)
            return None, log.astype(jnp.promote_types(log.dtype, jnp.float32)), None

        return law

    def tables(self) -> list[Table]:
        """The tables of all factors; the axis of a factor's own piece comes first."""
        found: dict[int, Table] = {}
        for walk in (w for one in self.forms for w in one.walks):
            node = target(walk)
            law = self.laws_of[node]
            assert law.log is not None  # it is asked for
            for number in self.factors.get(node, ()):
                factor = self.model.factors[number]
                place = list(self.scopes[node]).index(factor.parents)
                start = law.rows[node] + sum(map(self.size, walk.scopes[:place]))
                log = self._row(factor, law.log[start : start + self.size(factor.parents)])
                parents = walk.scopes[place]
                axes = parents if factor.own is None else (factor.own, *parents)
                found[number] = Table(axes, log.reshape([self.sizes[p] for p in axes]))
        return [found[k] for k in range(len(found))]

    def _row(self, factor: Factor, log: Array) -> Array:
        """The logarithms of a table's entries, given those of its component."""
        site = self.model.sites[factor.node]
        elements = np.array(factor.elements, int)
        if site.kind == EVIDENCE:
            return log[:, elements].sum(1)
        if site.kind == WEIGHTED:
            kind = self.model.kinds[factor.node]
            weights = self.model.parts.handed(factor.node, self.fixed)
            log = log + weights.reshape(kind.num_nodes, kind.states)[None]
        log = log[:, elements]  # (configurations, nodes, states)
        return log.max(2).sum(1) if factor.own is None else outer_sum(log.transpose(2, 1, 0))
