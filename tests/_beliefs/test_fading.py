"""How correlations fade with distance, and how positions lie after moves."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgjax._beliefs import fading, grids, layouts
from cgjax._beliefs.grids import Step

WHOLE = (Step(0, 1, 6), Step(1, 1, 4))
PARTS = {
    "squares": ((Step(0, 1, 2), Step(1, 1, 2)), (Step(0, 2, 3), Step(1, 2, 2))),
    "rows": ((Step(1, 1, 4),), (Step(0, 1, 6),)),
    "every other": ((Step(0, 2, 3), Step(1, 2, 2)), (Step(0, 1, 2), Step(1, 1, 2))),
    "windows that overlap": ((Step(0, 1, 3), Step(1, 1, 3)), (Step(0, 1, 4), Step(1, 1, 2))),
    "single positions": ((), (Step(0, 3, 2), Step(1, 1, 4))),
}


def places(steps: tuple[Step, ...]) -> np.ndarray:
    """All places, one a row, in order of the digits."""
    numbers = list(itertools.product(*(range(s.number) for s in steps)))
    found = np.zeros((len(numbers), 2), int)
    for k, s in enumerate(steps):
        found[:, s.axis] += s.length * np.array([n[k] for n in numbers])
    return found


@pytest.mark.parametrize("name", PARTS)
def test_averages_are_those_of_all_pairs(name: str) -> None:
    common, fades = np.array([0.3, -0.1, 0.0, 0.5]), np.array([0.9, 0.5, 0.05, -0.2])

    def average(one: np.ndarray, other: np.ndarray, apart: bool) -> np.ndarray:
        squares = ((one[:, None] - other[None]) ** 2).sum(-1).reshape(-1, 1)
        squares = squares[squares[:, 0] > 0] if apart else squares
        return (common + (1 - common) * fades**squares).mean(0)

    def beside(steps: tuple[Step, ...], part: np.ndarray) -> np.ndarray:
        along = {s.axis: [o.length for o in steps if o.axis == s.axis] for s in steps}
        moves = [min(lengths) * np.eye(2, dtype=int)[axis] for axis, lengths in along.items()]
        return np.mean([average(part, part + move, False) for move in moves], 0)

    part, parts = map(places, PARTS[name])
    pairs = [(a, b) for a in parts for b in parts if (a != b).any()]
    whole = places(WHOLE)
    known = jnp.stack([average(whole, whole, True), beside(WHOLE, np.zeros((1, 2), int))])
    found = fading.of_parts(known, WHOLE, *PARTS[name])
    between = np.mean([average(part + a, part + b, False) for a, b in pairs], 0)
    expected = [between, beside(PARTS[name][1], part)]
    if len(part) > 1:
        np.testing.assert_allclose(found.inside, average(part, part, True), atol=1e-3)
    np.testing.assert_allclose(found.between, expected, atol=1e-3)


MOVES = {
    "split": lambda x: x.reshape(2, 4, 2, 3, 2, 3),
    "split and transposed": lambda x: x.reshape(2, 4, 2, 3, 2, 3).transpose(0, 2, 4, 1, 3, 5),
    "squares in a row": lambda x: (
        x.reshape(2, 4, 2, 3, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 12, 4, 3)
    ),
    "all in a row": lambda x: x.reshape(2, 48, 3),
    "channels first": lambda x: x.transpose(0, 3, 2, 1),
}


@pytest.mark.parametrize("name", MOVES)
def test_places_are_followed_through_moves(name: str) -> None:
    shape, move = (2, 8, 6, 3), MOVES[name]
    layout = layouts.identity(shape)
    for eqn in jax.make_jaxpr(move)(jnp.zeros(shape)).eqns:
        after = layouts.moved(layout, eqn, [])
        assert after is not None
        layout = after
    index = np.indices(shape)
    rows, columns, others = (move(index[k]) for k in (1, 2, 0))
    channels = move(index[3])
    axes = [
        a
        for a in range(rows.ndim)
        if not (np.diff(others, axis=a).any() or np.diff(channels, axis=a).any())
    ]
    known = {1: (Step(0, 1, 8),), 2: (Step(1, 1, 6),)}
    grid = grids.laid([layout.axes[a] for a in axes], shape, known)
    one = tuple(slice(None) if a in axes else 0 for a in range(rows.ndim))
    expected = np.stack([rows[one], columns[one]], -1).reshape(-1, 2)
    np.testing.assert_array_equal(places(tuple(s for steps in grid for s in steps)), expected)


def test_a_grid_of_its_own_axes_needs_no_record() -> None:
    assert grids.normal([(Step(1, 1, 4),), (Step(0, 1, 6),)]) is None
    assert grids.normal([(Step(0, 2, 4),), ()]) is None
    assert grids.normal([(Step(1, 4, 2), Step(1, 2, 2))]) is None
    assert grids.normal([(Step(1, 6, 2), Step(1, 2, 2))]) == ((Step(0, 3, 2), Step(0, 1, 2)),)


def test_many_places_in_two_digits_are_those_in_one() -> None:
    one, two = [Step(0, 1, 1 << 16)], [Step(0, 256, 256), Step(0, 1, 256)]
    near = fading._average([Step(0, 1, 512)])
    np.testing.assert_allclose(fading._average(two), fading._average(one), rtol=1e-9, atol=1e-15)
    # From some distance on nothing is left, and twice as many places have half of the average.
    far = fading._average([Step(0, 1, 1 << 17)])
    np.testing.assert_allclose(2 * far, fading._average(one), rtol=2e-3)
    assert (near > far).all()
