"""Flax NNX modules: thin containers around cgjax's functions."""

from cgjax.layers._dropout import Dropout
from cgjax.layers._recurrent import (
    IndependentRecurrent,
    SimpleRecurrent,
    clip_recurrent_weights,
    recurrent_weight_bound,
)

__all__ = [
    "Dropout",
    "IndependentRecurrent",
    "SimpleRecurrent",
    "clip_recurrent_weights",
    "recurrent_weight_bound",
]
