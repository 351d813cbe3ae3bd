"""Flax NNX modules: thin containers around cgjax's functions."""

from cgjax.layers._dropout import Dropout
from cgjax.layers._node import Node
from cgjax.layers._refinement import Refinement

__all__ = ["Dropout", "Node", "Refinement"]
