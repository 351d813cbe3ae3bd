"""Inference procedures: each a transformation of the network, in a file of its own."""

from cgjax._procedure import Procedure, with_nodes
from cgjax.inference._adversarial import AdversarialLosses, adversarial
from cgjax.inference._belief_propagation import LoopyMarginals, belief_propagation
from cgjax.inference._bounds import elbo, importance_weighted
from cgjax.inference._clamp import PartlyKnown, clamp
from cgjax.inference._collapse import collapse
from cgjax.inference._condition import Conditioned, SoftEvidence, condition
from cgjax.inference._deterministic_elbo import deterministic_elbo
from cgjax.inference._drawing import with_log_prob
from cgjax.inference._estimators import Bound
from cgjax.inference._exact_marginals import exact_marginals
from cgjax.inference._feed_forward import feed_forward
from cgjax.inference._log_evidence import log_evidence
from cgjax.inference._log_joint import log_joint, pseudo_likelihood
from cgjax.inference._log_likelihood import log_likelihood
from cgjax.inference._mode import mode
from cgjax.inference._moments import moment_rule, moments
from cgjax.inference._monte_carlo import Estimate, monte_carlo
from cgjax.inference._sampling import forward_sample, pcff

__all__ = [
    "AdversarialLosses",
    "Bound",
    "Conditioned",
    "Estimate",
    "LoopyMarginals",
    "PartlyKnown",
    "Procedure",
    "SoftEvidence",
    "adversarial",
    "belief_propagation",
    "clamp",
    "collapse",
    "condition",
    "deterministic_elbo",
    "elbo",
    "exact_marginals",
    "feed_forward",
    "forward_sample",
    "importance_weighted",
    "log_evidence",
    "log_joint",
    "log_likelihood",
    "mode",
    "moment_rule",
    "moments",
    "monte_carlo",
    "pcff",
    "pseudo_likelihood",
    "with_log_prob",
    "with_nodes",
]
