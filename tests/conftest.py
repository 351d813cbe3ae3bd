"""Strict JAX settings for every test: several virtual devices, no implicit rank promotion."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
