"""The logarithms of conditionals, with what is known of each node's states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from cgjax.inference._conditionals import Conditionals
from cgjax.inference._conditionals import _outer_sum as outer_sum
from cgjax.inference._factors import Factor, Model
from cgjax.inference._states import WEIGHTED, Conditional


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

    best = True

    def __init__(
        self, model: Model, arrays: Sequence[jax.Array], absent: Literal["uniform", "nothing"]
    ):
        super().__init__(model, arrays, logs=True)
        self.absent = absent
        self._listed |= {i for i in model.kinds if model.sites[i].kind == WEIGHTED}

    def _entries(
        self, factor: Factor, found: Conditional, weights: jax.Array | None
    ) -> tuple[jax.Array, None]:
        """The logarithms of a table's entries, in one row."""
        assert found.log is not None  # it is asked for
        kind, fill = self.model.kinds.get(factor.node), 0.0
        if kind is None or factor.node not in self._listed:
            log = found.log.reshape(len(found.log), 1, -1)
        else:
            log = found.log.reshape(-1, kind.states, kind.num_nodes)
            if weights is not None:
                log = log + weights.reshape(kind.num_nodes, kind.states).T[None]
            fill = -math.log(kind.states) if self.absent == "uniform" else 0.0
        log = jnp.where((found.present <= 0)[:, None, None], fill, log)
        log = log.astype(jnp.promote_types(log.dtype, jnp.float32))
        log = log[:, :, np.array(factor.elements, int)]  # (configurations, states, nodes)
        if factor.own is None:
            return log.max(1).sum(1), None
        return outer_sum(jnp.moveaxis(log, 0, -1)).reshape(-1), None
