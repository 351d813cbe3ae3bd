"""Tables of generators that learn from a critic."""

import pathlib

from docs.tables.claims import laid_out
from docs.tables.parts import Parts, from_each, of, picture
from train.gan.claims import expected
from train.gan.figure import table
from train.report.tables import Result


@from_each("gan/ring/result.json", origins=True)
def gan_ring(result: Result) -> Parts:
    """Modes and deviations by divergence, with a picture."""
    yield picture("Points that generators make, by divergence", "figures/gan_ring.png")
    yield table(result)


@from_each("gan/digits/result.json", origins=True)
def gan_digits(result: Result) -> Parts:
    """Figures of the small digits by divergence, with a picture."""
    yield picture("Digits that generators make, by divergence", "figures/gan_digits.png")
    yield table(result)


@from_each("gan/mnist/result.json", origins=True)
def gan_mnist(result: Result) -> Parts:
    """The same of MNIST."""
    yield picture("Digits that generators make, by divergence", "figures/gan_mnist.png")
    yield table(result)


@of()
def gan_claims(results: pathlib.Path) -> Parts:
    """What was expected, and what became of it."""
    return laid_out(expected(results))
