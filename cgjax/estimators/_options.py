"""Checks of constructors' arguments, and the rows that are held out."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def is_count(value: Any) -> bool:
    """Whether it is a whole number from 1."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and int(value) >= 1


def check_counts(optional: bool, **values: Any) -> None:
    """Raises for what is no count; None is one where it is optional."""
    for name, value in values.items():
        if not (is_count(value) or (optional and value is None)):
            none = " or None" if optional else ""
            raise ValueError(f"{name} is a whole number from 1{none}, got {value!r}.")


def number(name: str, value: Any, low: float, high: float) -> float:
    """A number between two others.

    Example:
        >>> number("validation_fraction", 0.2, 0.0, 1.0)
        0.2
    """
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not real or not low < float(value) < high:
        wanted = "positive and finite" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"{name} is {wanted}, got {value!r}.")
    return float(value)


def numbers(name: str, value: Any, low: float = -math.inf) -> tuple[float, ...]:
    """What an argument lists to be tried, or the one number that it is."""
    listed = value if isinstance(value, Sequence | np.ndarray) else (value,)
    real = [isinstance(v, int | float | np.number) and low < float(v) < math.inf for v in listed]
    if not real or not all(real):
        kind = "positive number" if low == 0 else "number"
        raise ValueError(f"{name} is a {kind} or a tuple of such to try, got {value!r}.")
    return tuple(map(float, listed))


def seed_of(random_state: Any) -> int:
    """An integer is its own seed; otherwise one is drawn, as scikit-learn does: from the generator
    that is given, or for None from NumPy's global one."""
    from sklearn.utils import check_random_state

    generator = check_random_state(random_state)
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(generator.randint(2**31 - 1))


def held_out(rows: int, fraction: float, random: np.random.Generator) -> np.ndarray:
    """Numbers of validation rows, drawn from all: that share, at least one, and not all.

    Example:
        >>> len(held_out(50, 0.2, np.random.default_rng(0)))
        10
    """
    return random.permutation(rows)[: min(max(round(fraction * rows), 1), rows - 1)]


def held_out_of_each(
    labels: np.ndarray, fraction: float, random: np.random.Generator
) -> np.ndarray:
    """That share of the rows of each class, rounded down: every class stays in the training.

    Example:
        >>> labels = np.array([0] * 10 + [1] * 4)
        >>> chosen = held_out_of_each(labels, 0.2, np.random.default_rng(0))
        >>> labels[chosen]
        array([0, 0])
    """
    each = (np.flatnonzero(labels == label) for label in np.unique(labels))
    chosen = [random.permutation(rows)[: int(fraction * len(rows))] for rows in each]
    return np.concatenate(chosen)
