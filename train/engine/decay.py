"""Which parameters weight decay shrinks ([A] section 3: it keeps the weights small, which
feed-forward inference assumes)."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax


def decayed(params: Any, *, but: Sequence[str] = ()) -> Any:
    """The mask of the parameters that are decayed, for `optax.add_decayed_weights`: of a tree such
    as `cgjax.functional` returns all `but` those of names like these glob patterns.

    The recipe of the residual networks decays everything, scales and biases of normalisations too.
    That of the independently recurrent networks decays all but biases and the recurrent weights, so
    scales as well: `functools.partial(decayed, but=("*bias", "*recurrent"))`. ValueError if a
    pattern matches nothing.

    Example:
        >>> import jax.numpy as jnp
        >>> decayed({"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, but=("*bias",))
        {'bias': False, 'kernel': True}
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    texts = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    names = [text.removesuffix("/value") for text in texts]  # the array inside a Flax variable
    for pattern in but:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"{pattern!r} matches no parameter; there are {', '.join(names)}.")
    keep = [any(fnmatchcase(name, pattern) for pattern in but) for name in names]
    return jax.tree.unflatten(structure, [not kept for kept in keep])
