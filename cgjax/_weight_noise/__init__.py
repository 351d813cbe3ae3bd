"""Walks with noisy weights: local reparameterisation and flipout."""

from cgjax._weight_noise.flipout import flipout
from cgjax._weight_noise.local import local_noise

__all__ = ["flipout", "local_noise"]
