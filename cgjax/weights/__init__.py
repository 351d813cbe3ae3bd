"""Weights as random variables: posteriors, and procedures for networks that have them ([B])."""

from cgjax._gaussian.belief import Normal
from cgjax.weights._balance import balance, layer_variances
from cgjax.weights._deterministic import deterministic
from cgjax.weights._ensemble import ensemble
from cgjax.weights._heads import (
    CategoricalHead,
    GaussianHead,
    HeteroscedasticHead,
    jensen,
    matched,
    second_order,
    tilted,
)
from cgjax.weights._kl import empirical_bayes, kl
from cgjax.weights._linear_gaussian import LinearGaussian, Moments, Smoothed
from cgjax.weights._objectives import Loss, elbo, marginal
from cgjax.weights._optimisers import (
    NaturalGradientState,
    assumed_density,
    natural_gradient,
    partition_labels,
)
from cgjax.weights._posterior import beliefs, mean_field, means, sample
from cgjax.weights._sampled import flipout, local_reparameterization, weight_sample
from cgjax.weights._smooth import SmoothedNodes, smooth

__all__ = [
    "CategoricalHead",
    "GaussianHead",
    "HeteroscedasticHead",
    "jensen",
    "matched",
    "second_order",
    "tilted",
    "LinearGaussian",
    "Loss",
    "Moments",
    "Smoothed",
    "elbo",
    "marginal",
    "NaturalGradientState",
    "assumed_density",
    "natural_gradient",
    "partition_labels",
    "Normal",
    "balance",
    "beliefs",
    "deterministic",
    "empirical_bayes",
    "ensemble",
    "flipout",
    "kl",
    "layer_variances",
    "local_reparameterization",
    "mean_field",
    "means",
    "sample",
    "smooth",
    "SmoothedNodes",
    "weight_sample",
]
