"""Strict JAX settings for every test: four virtual CPU devices, no implicit rank promotion."""

import gc
import pathlib
import signal
from collections.abc import Iterator

from tests import compiler

compiler.set_up()

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

from tests import lowering  # noqa: E402, F401

jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiling makes the first example slow, and a test must not depend on the day it runs.
hypothesis.settings.register_profile("cgjax", deadline=None, derandomize=True)
hypothesis.settings.load_profile("cgjax")


# Tracing makes many small objects that live, so the collector looks for garbage less often: it took
# 6 % of the time, much of it for what was imported, which `pytest_collection_finish` sets aside.
gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish() -> None:
    """Everything so far is there to stay."""
    gc.collect()
    gc.freeze()


_MAPS = pathlib.Path("/proc/self/maps")
# Linux allows a process 65,530. A compiled program takes several: half of the tests come to more.
_MANY_MAPS = 40_000


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps() -> Iterator[None]:
    """Gives compiled programs back after a file, if there are many: out of memory maps, the
    compiler crashes. It takes seconds, so not after each."""
    yield
    if _MAPS.exists() and len(_MAPS.read_bytes().splitlines()) > _MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Lets SIGINT interrupt, which processes in the background of a shell are told to ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
