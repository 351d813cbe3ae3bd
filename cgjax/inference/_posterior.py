"""Procedures on networks with evidence: what is known of it is looked at before it is traced."""

from dataclasses import dataclass

import jax.numpy as jnp

from cgjax import _static
from cgjax._procedure import Procedure
from cgjax._program import trace
from cgjax._static import Leaf, Tree
from cgjax.inference._condition import check_values, impossible


@dataclass(frozen=True, eq=False)
class Posterior(Procedure):
    """Looks at the evidence where it is known: in what is compiled, it is not.

    Its method has the option `evidence`, pairs of a node's name and what is known of it, and
    returns a pair: a number that is -inf where the evidence is impossible, and the result.
    """

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        options: Leaf = self.method
        values = dict(options.evidence)
        check_values(trace(self.net, args, kwargs), values)
        found = super().__call__(*args, **kwargs)
        (log, out), *nodes = found if self.capture else (found,)
        if not _static.is_traced(log) and log == -jnp.inf:
            raise impossible(values)
        return (out, *nodes) if self.capture else out
