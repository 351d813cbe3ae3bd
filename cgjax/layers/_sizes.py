"""Sizes of layers, checked before anything is made of them."""

import numbers

from cgjax._static import described


def check_sizes(**sizes: object) -> None:
    """Raise unless each size is an integer of at least 1.

    Args:
        sizes: by the name of the argument; one that is None was not given.

    Raises:
        TypeError: a size is no integer.
        ValueError: a size is below 1.

    Example:
        >>> check_sizes(in_features=None, features=0)
        Traceback (most recent call last):
        ValueError: features is at least 1, got 0.
    """
    for name, size in sizes.items():
        if size is None:
            continue
        if not isinstance(size, numbers.Integral) or isinstance(size, bool):
            raise TypeError(f"{name} is an integer, got {described(size)}.")
        if size < 1:
            raise ValueError(f"{name} is at least 1, got {size}.")
