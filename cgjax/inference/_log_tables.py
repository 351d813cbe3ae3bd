"""The logarithms of conditionals, with what is known of each node's states."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cgjax.inference._conditionals import Conditionals
from cgjax.inference._factors import Model, Scope
from cgjax.inference._states import WEIGHTED


class LogTables(Conditionals):
    """Log-probabilities of the factors of a model, as they are traced.

    Of nodes whose states are not listed, those of their modes.

    Args:
        model: the factors.
        arrays: the flat arguments of the network.
    """

    best = True

    def __init__(self, model: Model, arrays: Sequence[jax.Array]):
        super().__init__(model, arrays, logs=True)
        self._listed |= {i for i in model.kinds if model.sites[i].kind == WEIGHTED}

    def rows(self, node: int, parents: Scope, elements: Sequence[int], absent: float) -> jax.Array:
        """The log-probabilities of some nodes of a component.

        Args:
            node: the component.
            parents: the pieces that they depend on.
            elements: the nodes.
            absent: what stands for those in a branch that was not taken.

        Returns:
            (configurations of the parents, states, nodes), with 1 for the states where the nodes
            are observed or not listed.
        """
        found = self.of_node(node)[parents]
        assert found.log is not None  # it is asked for
        kind = self.model.kinds.get(node)
        if kind is not None and node in self._listed:
            log = found.log.reshape(-1, kind.states, kind.num_nodes) + self.weights(node)[None]
        else:
            log = found.log.reshape(len(found.log), 1, -1)
        log = jnp.where((found.present <= 0)[:, None, None], absent, log)
        whole = len(elements) == log.shape[2]
        return log if whole else log[:, :, np.array(elements, int)]

    def weights(self, node: int) -> jax.Array:
        """The log-weights of evidence about a component: (states, nodes)."""
        kind = self.model.kinds[node]
        if self.model.sites[node].kind != WEIGHTED:
            return jnp.zeros((kind.states, kind.num_nodes))
        weights = self.model.parts.handed(node, self.fixed)
        return weights.reshape(kind.num_nodes, kind.states).T
