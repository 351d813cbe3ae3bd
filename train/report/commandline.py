"""What the command lines of all experiments share: settings as options, errors as messages."""

import contextlib
import io
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from train.engine.checkpoint import CheckpointError
from train.report import machine
from train.report.files import DataFileError


def run(
    main: Callable[[Any, str, Any], Any],
    config: type,
    module: str,
    description: str,
    arguments: Sequence[str] | None,
    *,
    continues: str | None,
) -> int:
    """Runs an experiment with settings from the command line.

    Args:
        main: `main(config, command, console)`, with the settings, what was typed, and the
            `rich.console.Console` to tell progress on.
        config: the type of the settings, a dataclass whose fields become options.
        module: the experiment's module, as in `python -m train.dense`.
        description: what `--help` says of it.
        arguments: the words of the command line; none: those of the process.
        continues: from where the same command goes on after an interruption; none: it begins anew.

    Returns:
        The exit status: 0, 1 after an error that the user can mend, 130 after an interruption.
    """
    import tyro
    from rich.console import Console

    arguments = sys.argv[1:] if arguments is None else list(arguments)
    chosen = tyro.cli(
        config,
        args=arguments,
        prog=f"python -m {module}",
        description=description,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A locale without "±" must not end a training.
        sys.stdout.reconfigure(errors="replace")
    machine.keep_memory()
    try:
        main(chosen, shlex.join(["python", "-m", module, *arguments]), Console())
    except (DataFileError, CheckpointError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"error: {error}: `pip install cgjax[train]`", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        end = f"; the same command continues {continues}" if continues else ""
        print(f"interrupted{end}", file=sys.stderr)
        return 130
    return 0


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Ends the process with a message where results cannot be read or drawn."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        what = error if isinstance(error, OSError) else repr(error)
        print(f"error: these results cannot be drawn: {what}", file=sys.stderr)
        sys.exit(1)
