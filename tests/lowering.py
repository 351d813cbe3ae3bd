"""Many programs lowered in one context of MLIR: JAX makes one for each.

To make a context, to load its dialects, and to give it back takes longer than to lower most of the
programs that tests have: two thirds of the time of lowering. Imported by `conftest.py`, or as
pytest's plugin, `-p tests.lowering`.
"""

from typing import Any

from jax._src.interpreters import mlir
from jaxlib.mlir import ir

# A context keeps the constants of its programs.
PROGRAMS = 200

# Inside of JAX: where a later version has it no longer, programs are lowered as that does.
_new_context: Any = getattr(mlir, "make_ir_context", None)


class _Shared:
    """The context in use, and how many programs may still be lowered in it."""

    context: Any = None
    left = 0


def make_context() -> Any:
    """The shared context, or one of its own for what is lowered while something else is."""
    if ir.Context.current is not None:
        return _new_context()
    if _Shared.context is None or _Shared.left == 0:
        _Shared.context, _Shared.left = _new_context(), PROGRAMS
    _Shared.left -= 1
    return _Shared.context


if _new_context is not None:
    mlir.make_ir_context = make_context
