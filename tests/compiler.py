"""How the tests have programs compiled: quickly, and those of earlier runs not again.

Most of the time of the tests goes into compiling programs that run for a moment. Imported before
JAX is used, and inherited by the processes that tests start:

- Few optimisations, and the older emitters of fused loops, whose code LLVM compiles in half of the
  time. `make newest` compiles as users do, with all of the compiler.
- Compiled programs are kept in `.compiled/`, in a folder for each version of JAX and each
  processor. In a fresh clone too: a sixth of them is compiled more than once.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import platform

FLAGS = {
    "--xla_force_host_platform_device_count": "4",
    "--xla_backend_optimization_level": "0",
    "--xla_llvm_disable_expensive_passes": "true",
    "--xla_cpu_parallel_codegen_split_count": "1",
}
# Options of `jax.jit`, for tests of how exact users' programs are.
ALL_PASSES: dict[str, bool | int] = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
}
# Later ones have no other emitters, and a flag that is unknown ends the process.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FLAGS["--xla_cpu_use_fusion_emitters"] = "false"
    ALL_PASSES["xla_cpu_use_fusion_emitters"] = True
KEPT = pathlib.Path(__file__).parent.parent / ".compiled"


def with_flags(flags: str) -> str:
    """The flags, and each of FLAGS that they do not set."""
    more = [f"{name}={value}" for name, value in FLAGS.items() if name not in flags]
    return " ".join([*flags.split(), *more])


def folder() -> pathlib.Path:
    """Where programs are kept, of this JAX and for this processor: another may lack what it has."""
    information = pathlib.Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    facts = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    processor = f"{platform.machine()} {platform.processor()} {sorted(facts)}"
    digest = hashlib.sha256(processor.encode()).hexdigest()[:12]
    return KEPT / f"{importlib.metadata.version('jaxlib')}-{digest}"


def kept_in(programs: pathlib.Path) -> dict[str, str]:
    """What in the environment has JAX keep all compiled programs in a folder."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def set_up() -> None:
    """Writes all of this into the environment, unless it says otherwise already."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ["XLA_FLAGS"] = with_flags(os.environ.get("XLA_FLAGS", ""))
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ.update(kept_in(folder()))
