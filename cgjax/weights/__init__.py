"""Weights as random variables: posteriors, and procedures for networks that have them ([B])."""

from cgjax.nodes._belief import Normal
from cgjax.weights._kl import empirical_bayes, kl
from cgjax.weights._posterior import beliefs, mean_field, means, sample
from cgjax.weights._procedures import (
    deterministic,
    ensemble,
    flipout,
    local_reparameterization,
    weight_sample,
)

__all__ = [
    "Normal",
    "beliefs",
    "deterministic",
    "empirical_bayes",
    "ensemble",
    "flipout",
    "kl",
    "local_reparameterization",
    "mean_field",
    "means",
    "sample",
    "weight_sample",
]
