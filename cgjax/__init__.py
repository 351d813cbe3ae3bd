"""cgjax: neural networks as chain graphs.

Write a network once, as a plain JAX function or a Flax module whose activations are marked as
random variables. Every inference procedure is a transformation of that function.
"""

from cgjax import layers, nodes, weights
from cgjax._chain_graph import ChainGraph
from cgjax._component import component
from cgjax._functional import (
    belief_propagation,
    chain_graph,
    clamp,
    collapse,
    condition,
    exact_marginals,
    feed_forward,
    forward_sample,
    functional,
    lift,
    log_evidence,
    log_joint,
    mode,
    moments,
    monte_carlo,
    pcff,
    pseudo_likelihood,
)
from cgjax._node import node, noise, observe, scope
from cgjax._of_modules import (
    adversarial,
    deterministic_elbo,
    elbo,
    importance_weighted,
    log_likelihood,
    with_log_prob,
)
from cgjax.inference import (
    AdversarialLosses,
    Bound,
    Estimate,
    LoopyMarginals,
    PartlyKnown,
    SoftEvidence,
    moment_rule,
    with_nodes,
)
from cgjax.nodes import Belief

__version__ = "0.2.0"

__all__ = [
    "AdversarialLosses",
    "Belief",
    "Bound",
    "ChainGraph",
    "Estimate",
    "LoopyMarginals",
    "PartlyKnown",
    "SoftEvidence",
    "adversarial",
    "belief_propagation",
    "chain_graph",
    "clamp",
    "collapse",
    "component",
    "condition",
    "deterministic_elbo",
    "elbo",
    "exact_marginals",
    "feed_forward",
    "forward_sample",
    "functional",
    "importance_weighted",
    "layers",
    "lift",
    "log_evidence",
    "log_joint",
    "log_likelihood",
    "mode",
    "moment_rule",
    "moments",
    "monte_carlo",
    "node",
    "nodes",
    "noise",
    "observe",
    "pcff",
    "pseudo_likelihood",
    "scope",
    "weights",
    "with_log_prob",
    "with_nodes",
]
