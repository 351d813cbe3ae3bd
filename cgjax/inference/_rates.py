"""Rates: the probability of each node that it is sampled, by its name or for all."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from cgjax._program import Program
from cgjax._rate import Rate
from cgjax._rate import check_rate as known_rate
from cgjax._static import Leaf

# One rate for all nodes, or pairs of a pattern over their names and a rate.
Rates = Rate | tuple[tuple[str, Rate], ...]


def asks(rate: Rates) -> bool:
    """Whether a rate, or one of several, is not known to be 0."""
    if isinstance(rate, tuple):
        return any(asks(one) for _, one in rate)
    return not isinstance(rate, float) or rate != 0.0


def all_sampled(program: Program) -> list[Rate]:
    """The rates of forward sampling."""
    return [0.0 if site.kind == "observe" else 1.0 for site in program.sites]


def resolve_rates(program: Program, rate: Rates) -> list[Rate]:
    """The rate of each node: a float where it is known, else an array."""
    if not isinstance(rate, tuple):
        named = ["node" if s.kind == "node" and not s.output else "" for s in program.sites]
        rates = [rate if n else 0.0 for n in named]
    else:
        matched = [_matching(program, pattern) for pattern, _ in rate]
        rates = [
            next((r for (_, r), sites in zip(rate, matched, strict=True) if i in sites), 0.0)
            for i in range(len(program.sites))
        ]
    return [1.0 if s.kind == "noise" else r for s, r in zip(program.sites, rates, strict=True)]


def _matching(program: Program, pattern: str) -> set[int]:
    everything = set(pattern) == {"*"}
    matches = {
        s.index
        for s in program.sites
        if s.kind != "noise"
        and fnmatchcase(s.name, pattern)
        and not (everything and (s.output or s.kind == "observe"))
    }
    if not matches and not (everything and program.sites):
        names = ", ".join(repr(s.name) for s in program.sites if s.kind != "noise") or "none"
        noise = [s.name for s in program.sites if s.kind == "noise"]
        also = f" Noise nodes ({', '.join(noise)}) are always sampled." if noise else ""
        raise ValueError(
            f"The pattern {pattern!r} of `rate` matches no node. The network's nodes: {names}."
            f"{also}"
        )
    return matches


def check_rate(rate: Leaf | Mapping[str, Leaf]) -> Rates:
    """Checks a rate and brings it into a form that can be hashed or traced."""
    if isinstance(rate, Mapping):
        for pattern in rate:
            if not isinstance(pattern, str):
                raise TypeError(
                    f"The keys of a rate are patterns over node names, got {pattern!r}."
                )
            if isinstance(rate[pattern], Mapping):
                raise TypeError(f"The rate of {pattern!r} is itself a dict: {rate[pattern]!r}.")
        return tuple((pattern, known_rate(r)) for pattern, r in rate.items())
    return known_rate(rate)
