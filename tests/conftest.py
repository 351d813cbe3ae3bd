"""Strict JAX settings for every test: four virtual CPU devices, no implicit rank promotion."""

import gc
import os
import pathlib
from collections.abc import Iterator

# Set before JAX is imported, and inherited by the processes that tests start. Most of the time goes
# into compiling, which takes three quarters as long with few optimisations; `make newest` has all.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
for _flag, _value in (
    ("--xla_force_host_platform_device_count", 4),
    ("--xla_backend_optimization_level", 1),
):
    if _flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}={_value}".strip()

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiling makes the first example slow, and a test must not depend on the day it runs.
hypothesis.settings.register_profile("cgjax", deadline=None, derandomize=True)
hypothesis.settings.load_profile("cgjax")


_MAPS = pathlib.Path("/proc/self/maps")
# Linux allows a process 65,530. A compiled program takes several: half of the tests come to more.
_MANY_MAPS = 25_000


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps() -> Iterator[None]:
    """Gives compiled programs back after a file, if there are many: out of memory maps, the
    compiler crashes."""
    yield
    if _MAPS.exists() and len(_MAPS.read_bytes().splitlines()) > _MANY_MAPS:
        jax.clear_caches()
        gc.collect()
