"""What every experiment does with its results: where they come from, the files, the terminal."""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from train.engine.checkpoint import CheckpointError
from train.report import machine
from train.report.files import DataFileError, held, refuse_other_result, write_atomic
from train.report.settings import differences

Result = dict[str, Any]


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


def read_json(path: Path, check: Callable[[Any], object], what: str) -> Result:
    """A result that a file holds. For what is none, `check(result)` raises a `KeyError`,
    `TypeError` or `ValueError`, and a DataFileError says what it should be, as "result of `python
    -m train.uci`"."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        check(result)
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "Delete it, and the command that made it makes it again."
        raise DataFileError(
            f"{path} is no {what} ({type(error).__name__}: {error}). {remedy}"
        ) from error
    return result


def write(path: Path, result: dict[str, Any]) -> None:
    """Writes a result as JSON, whole or not at all, see `write_atomic`; None stands for what is not
    a finite number, which raises ValueError."""
    write_atomic(path, json.dumps(result, indent=1, allow_nan=False).encode())


@contextlib.contextmanager
def leaving(
    out: Path, result: Result, console: Any, draw: Callable[[Sequence[Path], Path], None]
) -> Iterator[Callable[[str], None]]:
    """Holds a folder while a result, which begins as its `origin`, is completed, and then leaves it
    and its figure there; inside, a function that tells progress. DataFileError as in `held`, or if
    the result of another experiment, or of other settings, is there."""
    say, path, figure = said_on(console), out / "result.json", out / "figure.png"
    with held(out):
        refuse_other_result(path, result["experiment"], result["settings"])
        say(f"{result['data']}; results go to {out}")
        yield say
        write(path, result)
        draw([path], figure)
    say(f"{path}, {figure}")


def cells(
    out: Path,
    todo: Mapping[Any, dict[str, Any]],
    console: Any,
    *,
    make: Callable[[Any], Result],
    read: Callable[[Path], Result],
    line: Callable[[Result], str],
) -> dict[Any, Result]:
    """The results of cells, by their settings, each in a `cell.file` of the folder. Those that are
    not there yet are made, and written one by one; each is told in a line. CheckpointError if one
    there is of other settings."""
    found, began, made = {}, time.monotonic(), 0
    for number, (cell, settings) in enumerate(todo.items(), 1):
        path, left = out / cell.file, "was there"
        if path.exists():
            found[cell] = read(path)
            same_settings(path, found[cell], settings)
        else:
            with console.status(f"{number}/{len(todo)} {path.stem}"):
                found[cell] = make(cell)
            write(path, found[cell])
            made += 1
            minutes = (time.monotonic() - began) / made * (len(todo) - number) / 60
            left = f"about {minutes:.0f} min left"
        said_on(console)(f"{number}/{len(todo)} {line(found[cell])}; {left}")
    return found


def same_settings(path: Path, result: Result, settings: dict[str, Any]) -> None:
    """Raises CheckpointError if a result was not made with these settings."""
    if told := differences(result["settings"], settings):
        remedy = "Choose another --out, or delete the file."
        raise CheckpointError(f"{path} was made with other settings. {told}. {remedy}")


def said_on(console: Any) -> Callable[[str], None]:
    """A function that prints lines on a `rich.console.Console` as they are."""
    return functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
