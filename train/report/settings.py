"""Checks of settings."""

from typing import Any


def require(settings: Any, **conditions: tuple[bool, str]) -> None:
    """Raises unless settings make sense.

    Args:
        settings: the record that holds them.
        conditions: for a setting, whether it does, and what it should be.

    Raises:
        ValueError: naming the first that does not, its value, and what was expected.
    """
    for name, (fits, expected) in conditions.items():
        if not fits:
            raise ValueError(f"{name} is {getattr(settings, name)}; expected {expected}.")
