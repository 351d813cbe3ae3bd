"""What the tests ask of the compiler, and where they keep what it compiled."""

import pathlib

import jax
import jax.numpy as jnp
from jax._src.interpreters import mlir

from tests import compiler, lowering


def test_flags_that_are_set_stay():
    flags = compiler.with_flags("--xla_backend_optimization_level=3 --other=1").split()
    assert flags[:2] == ["--xla_backend_optimization_level=3", "--other=1"]
    names = [flag.partition("=")[0] for flag in flags]
    assert len(set(names)) == len(names) and compiler.FLAGS.keys() <= set(names)
    assert compiler.with_flags(compiler.with_flags("")) == compiler.with_flags("")


def test_programs_are_kept_unless_they_are_elsewhere(monkeypatch):
    for name in compiler.kept_in(pathlib.Path()):
        # First set, so that what `set_up` does is undone as well.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("XLA_FLAGS", "")
    compiler.set_up()
    assert compiler.os.environ["JAX_COMPILATION_CACHE_DIR"] == str(compiler.folder())
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    compiler.set_up()
    assert compiler.os.environ["JAX_COMPILATION_CACHE_DIR"] == "elsewhere"


def test_versions_and_processors_have_folders_of_their_own(monkeypatch):
    folders = {compiler.folder()}
    assert compiler.folder() in folders and compiler.folder().parent == compiler.KEPT
    monkeypatch.setattr(compiler.platform, "machine", lambda: "another")
    folders.add(compiler.folder())
    monkeypatch.setattr(compiler.importlib.metadata, "version", lambda name: f"{name} 9.9")
    folders.add(compiler.folder())
    assert len(folders) == 3


def test_programs_share_a_context_unless_one_is_lowered_within_another():
    lowered = [jax.jit(f).lower(1.0).compiler_ir() for f in (jnp.sin, jnp.cos)]
    first, second = (getattr(module, "context", None) for module in lowered)
    assert first is not None and first is second
    with first:
        assert lowering.make_context() is not first
    assert mlir.make_ir_context is lowering.make_context
