"""Integrals of functions of Gaussian variables, and what is believed about a value. Only JAX."""
