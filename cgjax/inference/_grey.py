"""Grey levels under nodes that are 0 or 1: a mistake that is named where values are known."""

from collections.abc import Mapping

import numpy as np

from cgjax import _static
from cgjax._procedure import Network
from cgjax._program import trace
from cgjax._static import Leaf, Tree
from cgjax.nodes import Bernoulli


def check_grey(net: Network, values: Leaf, args: Tree, kwargs: Mapping[str, Tree]) -> None:
    """Raises for a value between 0 and 1 of a Bernoulli node, whose probability is 0.

    Under it every loss is infinite and has no gradient: nothing is learnt. Traced values and those
    of other kinds are not looked at.

    Raises:
        ValueError: the message says how to binarise.
    """
    if not isinstance(values, Mapping):
        return
    numbers = {n: v for n, v in values.items() if _static.is_array(v) and not _static.is_traced(v)}
    grey = {n: found[0] for n, v in numbers.items() if (found := _between(np.asarray(v))).size}
    if not grey:
        return
    by_name = trace(net, args, kwargs).by_name
    for name, value in grey.items():
        if name in by_name and by_name[name].family_type is Bernoulli:
            raise ValueError(
                f"The node {name!r} is a Bernoulli, which is 0 or 1, and its value is {value:.4g}: "
                "a grey level has the probability 0, whatever the parameters. Make data binary, "
                "`jax.random.bernoulli(key, x).astype(float)` with another key each time, or "
                "`x > 0.5`; or model grey levels, by `cgjax.nodes.ContinuousBernoulli()`."
            )


def _between(values: np.ndarray) -> np.ndarray:
    if not np.issubdtype(values.dtype, np.floating):
        return values[:0].ravel()
    return values[(values > 0) & (values < 1)]
