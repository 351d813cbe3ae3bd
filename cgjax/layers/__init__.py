"""Flax NNX modules: thin containers around cgjax's functions."""

from cgjax.layers._bayesian_recurrent import BayesianRecurrent
from cgjax.layers._dropout import Dropout
from cgjax.layers._gated_recurrent import GatedRecurrent
from cgjax.layers._independent import IndependentRecurrent
from cgjax.layers._linear_chain import LinearChain
from cgjax.layers._node import Node
from cgjax.layers._recurrent import SimpleRecurrent
from cgjax.layers._recurrent_weights import clip_recurrent_weights, recurrent_weight_bound
from cgjax.layers._refinement import Refinement
from cgjax.layers._semi_markov import SemiMarkov
from cgjax.layers._stochastic_norm import StochasticNorm
from cgjax.layers._tree import Tree

__all__ = [
    "BayesianRecurrent",
    "Dropout",
    "GatedRecurrent",
    "IndependentRecurrent",
    "LinearChain",
    "Node",
    "Refinement",
    "SemiMarkov",
    "SimpleRecurrent",
    "StochasticNorm",
    "Tree",
    "clip_recurrent_weights",
    "recurrent_weight_bound",
]
