"""The log-probability of what was seen, summed over everything else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax

from cgjax import _static
from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Program, trace
from cgjax._static import Leaf, Tree
from cgjax.inference._condition import Conditioned, check_values, evidence, impossible, pairs
from cgjax.inference._evidence import flattened
from cgjax.inference._exact import check_size, problem
from cgjax.inference._exact_marginals import MAX_STATES, check_max_states


@method
class LogEvidence(Method):
    """Options of `log_evidence`."""

    max_states: int
    inline: bool
    lead = "values"

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        known = evidence(program, lead)
        flat = flattened(program, arrays, known, inline=self.inline, wanted="nothing")
        found = problem(flat)
        check_size(found, self.max_states)

        # Under one jit whoever calls, so that what a walk computes in vain is never run.
        @jax.jit
        def compute(arrays: Sequence[Leaf]) -> jax.Array:
            return found.log_evidence(arrays)

        return compute([*arrays, *known.all.values()]), {}


@dataclass(frozen=True, eq=False)
class _LogEvidence(Procedure):
    """Looks at the values where they are known: in what is compiled, they are not."""

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        if not args or not isinstance(args[0], Mapping):
            got = _static.described(args[0]) if args else "nothing"
            raise TypeError(
                f"log_evidence's first argument is a dict from node names to values, got {got}. "
                "Call it as `log_evidence(net)(values, *args)`."
            )
        values = dict(pairs(args[0]))
        check_values(trace(self.net, args[1:], kwargs), values)
        log = super().__call__(values, *args[1:], **kwargs)
        if not _static.is_traced(log) and log == -jax.numpy.inf:
            raise impossible(values)
        return log


def log_evidence(net: Network, *, max_states: int = MAX_STATES, inline: bool = False) -> Procedure:
    """The log-probability of what was seen of some nodes, exactly summed over all others.

        log P(evidence | input) = log sum_x P(x, evidence | input)

    of a network whose other nodes are discrete. Its gradient by the parameters of the network is
    that of the likelihood of the observed part, so that models with hidden nodes are learnt by it;
    its gradient by the log-weights of `SoftEvidence` is the posterior distribution of the nodes.

    Args:
        net: a network, as a function of the arrays of *one* example (`jax.vmap` for a batch).
        max_states: as in `exact_marginals`.
        inline: as in `forward_sample`.

    Returns:
        `procedure(values, *args)`, a scalar. `values` is what `condition` takes: values by node
        name, with a leading time axis inside `lax.scan`. Observed nodes of continuous families
        count with their log-density.

    Raises:
        ValueError: when called, for an unknown name, a value that does not broadcast, a graph that
            is too large, and evidence of probability 0 where values are known; -inf where they are
            traced.
        TypeError: for a node of a continuous family that was not seen.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> def net(e):
        ...     coin = cg.node(cg.nodes.Bernoulli(), e, name="coin")  # which of two coins
        ...     throws = jnp.full(3, 4 * coin - 2)
        ...     return cg.node(cg.nodes.Bernoulli(), throws, name="throws")
        >>> cg.log_evidence(net)({"throws": jnp.array([1.0, 1.0, 0.0])}, 0.0)
        Array(-2.947..., dtype=float32)

    Source: [A] Eq. 1-3, summed.
    """
    check_max_states(max_states)
    if isinstance(net, Conditioned):
        raise TypeError(
            "log_evidence takes a network and is given the evidence when it is called: "
            "`log_evidence(net)(values, *args)`."
        )
    return intern(_LogEvidence(net, LogEvidence(max_states, inline)))
