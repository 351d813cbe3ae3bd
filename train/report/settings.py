"""Settings that are checked where they are declared. Nothing here imports JAX.

A setting is a field of a frozen dataclass below `Checked`: its type, annotated with its checks, its
default, and the sentence that `--help` shows.

Example:
    >>> from typing import Annotated
    >>> @dataclasses.dataclass(frozen=True)
    ... class Training(Checked):
    ...     rate: Annotated[float, more_than(0)] = 0.1
    ...     '''The learning rate.'''
    ...     seeds: Annotated[tuple[int, ...], SEEDS] = (0, 1)
    >>> Training(seeds=(3, 3))
    Traceback (most recent call last):
    ...
    ValueError: seeds is (3, 3); expected at least one in [0, 2^32), and none twice: ...
"""

import dataclasses
import json
import math
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple


class Check(NamedTuple):
    """What a setting has to be; one that is None is not checked."""

    fits: Callable[[Any], bool]
    expected: str


def at_least(least: float) -> Check:
    """A number that may not be smaller."""
    return Check(lambda value: value >= least, "0 or more" if least == 0 else f"at least {least:g}")


def more_than(bound: float) -> Check:
    """A number that has to be larger, and finite."""
    return Check(lambda value: bound < value < math.inf, f"more than {bound:g}, and finite")


def each(check: Check) -> Check:
    """Several values that are all like this."""
    return Check(lambda values: all(map(check.fits, values)), f"{check.expected} each")


def _distinct(values: Sequence[Any]) -> bool:
    return len(values) > 0 and len(set(values)) == len(values)


PROBABILITY = Check(lambda value: 0 <= value <= 1, "a probability in [0, 1]")
SOME = Check(_distinct, "at least one, and none twice")
SEED = Check(lambda seed: 0 <= seed < 2**32, "in [0, 2^32)")
SEEDS = Check(
    # Larger ones would be cut off to 32 bits: two of them could be one run.
    lambda values: _distinct(values) and all(map(SEED.fits, values)),
    "at least one in [0, 2^32), and none twice: a run counts once in a mean",
)


class Checked:
    """Settings whose checks stand in their annotations."""

    # From where the same command goes on after an interruption; none: it begins anew.
    continues: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            for check in getattr(hints[field.name], "__metadata__", ()):
                if isinstance(check, Check) and value is not None:
                    require(self, **{field.name: (bool(check.fits(value)), check.expected)})


def require(settings: Any, **conditions: tuple[bool, str]) -> None:
    """Raises ValueError unless settings make sense, for conditions between several of them: for a
    setting, whether it does, and what it should be. The error names the first that does not, its
    value, and what was expected."""
    for name, (fits, expected) in conditions.items():
        if not fits:
            raise ValueError(f"{name} is {getattr(settings, name)}; expected {expected}.")


def facts(settings: Any, *but: str) -> dict[str, Any]:
    """What a result depends on, in the form that JSON gives back: the fields of a dataclass `but`
    some, which need not be there.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Training(Checked):
        ...     seeds: tuple[int, ...] = (0, 1)
        ...     out: str = "runs"
        >>> facts(Training(), "out", "data_dir")
        {'seeds': [0, 1]}
    """
    chosen = dataclasses.asdict(settings)  # pyright: ignore[reportArgumentType]
    return json.loads(json.dumps({k: v for k, v in chosen.items() if k not in but}))


# Data that need no files, and what is said to who gives a folder with them.
EMBEDDED = {
    "digits": "None for digits, which are part of scikit-learn: choose --data mnist or "
    "fashion_mnist with a folder",
    "ring": "None for ring, which is drawn: choose --data mnist with a folder",
    "diabetes": "None for diabetes, which is part of scikit-learn",
    "python": "None for python, a text that Python ships: choose --data tinyshakespeare or kjv "
    "with a folder",
    "grammar": "None for grammar, which is generated: choose --data wnut17 or ewt with a folder",
}


@dataclasses.dataclass(frozen=True)
class Common(Checked):
    """What most experiments are told: which data, and where they and the results are."""

    default_out: ClassVar[str] = "runs/{experiment}/{data}"  # of the package, and of settings
    # Settings on which results do not depend, or which are told as the machine's.
    not_facts: ClassVar[tuple[str, ...]] = ("data_dir", "out")

    data: str
    data_dir: Path | None = None
    """The folder with the files of the data, see docs/data.md; digits, diabetes, grammar, python
    and ring need none."""
    out: Path | None = None
    """The folder for results; without it one under `runs/`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.data_dir is None or self.data not in EMBEDDED
        require(self, data_dir=(fits, EMBEDDED.get(self.data, "")))

    @property
    def folder(self) -> Path:
        """The folder for results."""
        experiment = self.__module__.rpartition(".")[0].rpartition(".")[2]
        return self.out or Path(self.default_out.format(experiment=experiment, **vars(self)))

    def facts(self, *but: str) -> dict[str, Any]:
        """What the results depend on, but for some, in the form that JSON gives back."""
        return facts(self, *self.not_facts, *but)


def but_epochs(facts: dict[str, Any]) -> dict[str, Any]:
    """Without the last epoch, on which those before it do not depend."""
    return {
        name: {k: v for k, v in fact.items() if k != "epochs"} if isinstance(fact, dict) else fact
        for name, fact in facts.items()
        if name != "epochs"
    }


def differences(then: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between two records, in words; "" if nothing does."""
    return "; ".join(
        f"{name}: {then.get(name)!r} there, {now.get(name)!r} now"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    )
