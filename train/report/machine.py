"""What a result depends on besides its settings: machine, threads, versions, commit."""

import contextlib
import ctypes
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any


def identity(
    mode: str, devices: int = 1, width: int | None = None, batch_devices: int = 1
) -> dict[str, Any]:
    """The facts under which the same command gives the same bits, on a CPU; on a GPU it was not yet
    tried. They are stored with a checkpoint and compared on the way back. How runs are computed is
    as in `train.engine.loop.programs`, over so many devices."""
    import jax

    setting = jax.config.values
    return {
        "mode": mode,
        "device kind": device_kind(),
        "devices": devices,
        "batch devices": batch_devices,
        "processes": jax.process_count(),
        "width": width,
        # XLA splits sums on CPU by the threads it may use.
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "compiler flags": os.environ.get("XLA_FLAGS", ""),
        "64 bit": setting["jax_enable_x64"],
        "matrix product precision": setting["jax_default_matmul_precision"],
        "random numbers": [setting["jax_default_prng_impl"], setting["jax_threefry_partitionable"]],
        "python": platform.python_version(),
        **{n: metadata.version(n) for n in ("jax", "jaxlib", "flax", "optax", "numpy")},
    }


def keep_memory() -> bool:
    """Lets the process keep the memory that it frees, where the C library is glibc, and tells
    whether it could.

    XLA allocates the intermediate results of a program for each of its calls. A block of more than
    32 MB glibc takes from the operating system each time and gives it back afterwards, and the
    first access to each page of it costs (`python -m benchmarks.kept_memory` measures how much).
    The same without this function, before a process starts:
    `MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483647`.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False  # another C library, or another operating system
    trim_threshold, mmap_threshold = -1, -3
    return all([mallopt(mmap_threshold, 2**30), mallopt(trim_threshold, 2**31 - 1)])


def device_kind() -> str:
    """The kind of device that JAX computes on; for a CPU its model, since code depends on it."""
    import jax

    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the source tree, with "+ changes" if files differ from it, results aside, which
    nothing that makes results reads; outside a repository the environment variable CGJAX_COMMIT, or
    else "unknown"."""
    here = Path(__file__).parent.parent.parent
    files = here.as_posix(), ":(exclude,top)results"

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", *command], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *files)
        return git("rev-parse", "HEAD") + " + changes" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("CGJAX_COMMIT") or "unknown"
