"""Tables of variational autoencoders, and what they say of bounds by several samples."""

import pathlib
from collections.abc import Sequence

from docs.tables.claims import laid_out
from docs.tables.parts import Parts, bullets, of, origin, picture, read_all
from train.report.tables import Result
from train.vae.claims import claims
from train.vae.settings import Config
from train.vae.table import figures, meaning, told_data

# All that is to be measured, whether it is or not.
WANTED = ("mnist", "dynamic"), ("mnist", "fixed"), ("digits", "dynamic")
PICTURES = {"vae_mnist.png": "vae/mnist_*/result.json", "vae_digits.png": "vae/digits/result.json"}


def _results(results: pathlib.Path) -> list[Result]:
    return read_all(results, "vae/*/result.json")


def _of(found: Sequence[Result], of: tuple[str, str]) -> list[Result]:
    """Those on the same data, binarised in the same way."""
    facts = [(result["settings"]["data"], result["settings"]["binarisation"]) for result in found]
    return [result for result, fact in zip(found, facts, strict=True) if fact == of]


@of(_results)
def vae_figures(found: list[Result]) -> Parts:
    """A row for each bound, what the differences say, and where the figures come from."""
    for wanted in WANTED:
        some = _of(found, wanted)
        if not some:
            yield f"{told_data(wanted)}: *not yet measured.*"
            continue
        yield figures(some, Config().cells)
        yield meaning(some)
        yield bullets([*dict.fromkeys(map(origin, some))])


@of()
def vae_pictures(results: pathlib.Path) -> Parts:
    """The figures of what there is."""
    for file, pattern in PICTURES.items():
        if any(results.glob(pattern)):
            yield picture("Log-likelihoods by samples, and what models draw", f"figures/{file}")


@of()
def vae_claims(results: pathlib.Path) -> Parts:
    """What was expected, and what became of it."""
    return laid_out(claims(results))
