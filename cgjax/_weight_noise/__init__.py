"""Walks with noisy weights: local reparameterisation and flipout."""

from cgjax._weight_noise.weight_noise import flipout, local_noise

__all__ = ["flipout", "local_noise"]
