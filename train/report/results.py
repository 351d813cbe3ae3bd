"""What every experiment does with its result: where it comes from, the file, the terminal."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from train.report import machine
from train.report.files import DataFileError, write_atomic


def origin(
    title: str,
    source: str,
    *,
    command: str,
    identity: dict[str, Any],
    data: str,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """What a result begins with: a number without it is not one.

    The source is where the paper has it, as "[B] 4.1, Figure 1", the identity
    `train.report.machine.identity`, data where these came from, and settings
    `train.report.settings.facts`.
    """
    return {
        "experiment": title,
        "source": source,
        "command": command,
        "commit": machine.commit(),
        "machine": identity,
        "data": data,
        "settings": settings,
    }


def read_json(path: Path, check: Callable[[Any], None], what: str, remedy: str) -> dict[str, Any]:
    """A result that a file holds. For what is none, `check(result)` raises a `KeyError`,
    `TypeError` or `ValueError`, and a DataFileError says what it should be, as "result of `python
    -m train.uci`", and a remedy."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        check(result)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFileError(
            f"{path} is no {what} ({type(error).__name__}: {error}). {remedy}"
        ) from error
    return result


def write(path: Path, result: dict[str, Any]) -> None:
    """Writes a result as JSON, whole or not at all, see `write_atomic`; None stands for what is not
    a finite number, which raises ValueError."""
    write_atomic(path, json.dumps(result, indent=1, allow_nan=False).encode())


def said_on(console: Any) -> Callable[[str], None]:
    """A function that prints lines on a `rich.console.Console` as they are."""
    return functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
