"""Flax NNX modules: thin containers around cgjax's functions."""

from cgjax.layers._dropout import Dropout

__all__ = ["Dropout"]
