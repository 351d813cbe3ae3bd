"""What the command lines of all experiments share: settings as options, errors as messages.

An experiment `train/NAME/` has `settings.py`, with a frozen dataclass `Config` below
`train.report.settings.Checked`, that imports no JAX; `experiment.py`, with
`main(config, command, console)`; and `__main__.py`, whose `cli` is `of(Config)`.
"""

import contextlib
import functools
import importlib
import inspect
import io
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from train.engine.checkpoint import CheckpointError
from train.report import machine
from train.report.files import DataFileError
from train.report.settings import Checked


class Terminated(KeyboardInterrupt):
    """SIGTERM came, by which clusters take machines back. It ends what Ctrl-C ends."""


def of(config: type[Checked]) -> Callable[..., int]:
    """`run` of the experiment that a type of settings is of, and that goes on after an interruption
    from where these say."""
    module = config.__module__.removesuffix(".settings")
    return functools.partial(run, module, config, continues=config.continues)


def run(
    module: str,
    config: type,
    arguments: Sequence[str] | None = None,
    *,
    main: Callable[[Any, str, Any], Any] | None = None,
    continues: str | None = "from its last checkpoint",
) -> int:
    """Runs an experiment with settings from the command line; its exit status: 0, 1 after an error
    that the user can mend, 130 after Ctrl-C, 143 after SIGTERM.

    The experiment, and with it JAX, is imported after the options are read, so that a mistyped one
    is refused at once.

    Args:
        module: what is typed, as in `python -m train.dense`.
        config: the type of the settings, a dataclass whose fields become options, and whose
            docstring is what `--help` says of the experiment: a sentence and examples.
        arguments: the words of the command line; none: those of the process.
        main: takes the settings, what was typed, and the `rich.console.Console` to tell progress
            on; without it that of the module's `experiment`.
        continues: from where the same command goes on after an interruption; none: it begins anew.
    """
    import tyro
    from rich.console import Console

    arguments = sys.argv[1:] if arguments is None else list(arguments)
    with interrupted_by_sigterm():
        told: Any = {"prog": f"python -m {module}", "description": inspect.getdoc(config) or ""}
        chosen = tyro.cli(config, args=arguments, config=(tyro.conf.OmitArgPrefixes,), **told)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A locale without "±" must not end a training.
            sys.stdout.reconfigure(errors="replace")
        machine.keep_memory()
        try:
            experiment = main or importlib.import_module(f"{module}.experiment").main
            experiment(chosen, shlex.join(["python", "-m", module, *arguments]), Console())
        except (DataFileError, CheckpointError, ValueError, ImportError) as error:
            remedy = ": `pip install cgjax[train]`" * isinstance(error, ImportError)
            print(f"error: {error}{remedy}", file=sys.stderr)
            return 1
        except KeyboardInterrupt as interruption:
            terminated = isinstance(interruption, Terminated)
            end = f"; the same command continues {continues}" if continues else ""
            print(f"{'ended by SIGTERM' if terminated else 'interrupted'}{end}", file=sys.stderr)
            return 143 if terminated else 130
    return 0


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Raises `Terminated` when SIGTERM comes."""

    def raised(*_: Any) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, raised)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
