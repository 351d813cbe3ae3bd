"""Every equation of [B], printed and corrected: what the page docs/mathematics.md shows."""

import functools
import json
from typing import Any

import jax
import pytest

from docs import mathematics

pytestmark = pytest.mark.numerics


@functools.cache
def found() -> dict[str, list[tuple[float | None, float]]]:
    out: dict[str, Any] = {name: [] for name in mathematics.ROWS}
    with jax.enable_x64(True):
        for shape in mathematics.SIZES:
            for seed in range(3):
                net, y = mathematics.network(shape, seed)
                for name, printed, corrected in mathematics.residuals(net, y):
                    out[name].append((printed, corrected))
    return out


# How far a printed form must be off at least, in the median; None where it holds. These are a few
# times below what 20 networks show.
PRINTED = {
    "mean": 0.3,
    "variance": 0.5,
    "G": 0.3,
    "P_smoothed": 1.0,
    "G_W": 0.2,
    "P_W": 1.0,
    "thm1-2": 1.999,  # the other sign
    "thm1-3x": 0.3,
    "thm1-3P": 5.0,
    "eq8-W": 0.3,
    "eq8-variance": 2.0,
    "eta": 0.3,
    "Lambda": 2.0,
    "thm2-1": 1.999,  # the other sign
    "thm2-1proj": 0.3,
    "thm2-2P": 0.999,  # twice as large
    "drift": 0.05,
}


@pytest.mark.parametrize("name", mathematics.ROWS)
def test_equation(name):
    pairs = found()[name]
    # Float64; the worst are 1e-11, where P_l is inverted.
    assert pairs and max(corrected for _, corrected in pairs) < 1e-9
    printed = sorted(p for p, _ in pairs if p is not None)
    assert bool(printed) == (name in PRINTED)
    if printed:
        assert printed[len(printed) // 2] > PRINTED[name]


def test_the_page_shows_these_equations():
    path = mathematics.ROOT / "results" / "mathematics" / "result.json"
    result = json.loads(path.read_text())
    assert list(result["equations"]) == list(mathematics.ROWS)
    for name, measured in result["equations"].items():
        assert (measured["printed"] is not None) == (name in PRINTED)
