"""Linear chains: every form of the recursions against the enumeration of all paths."""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cgjax.kernels import chains, random_words
from cgjax.kernels.chains import Chain, _paths, _sums
from cgjax.kernels.chains._sums import IMPLEMENTATIONS, Implementation
from cgjax.kernels.random_bits import open_uniform
from tests.helpers import assert_identical
from tests.kernels.chain_oracle import enumerated

BATCH, LENGTH, STATES, BEST = 40, 4, 3, 5
NAMES: tuple[Implementation, ...] = IMPLEMENTATIONS  # type: ignore[assignment]


def potentials(seed: int, edges: int, shared: bool, masked: bool) -> tuple[np.ndarray, ...]:
    """Random chains: of small and of large potentials, with states and steps that are forbidden,
    and any mask. Each has a possible path: state 0 everywhere."""
    generator = np.random.default_rng(seed)
    scale = generator.choice([0.1, 1.0, 30.0], (BATCH, 1, 1))
    e = scale * generator.normal(size=(BATCH, LENGTH, STATES))
    e[generator.random(e.shape) < 0.1] = -np.inf
    e[:, :, 0] = scale[:, 0]
    a = generator.normal(size=(1 if shared else BATCH, edges, STATES, STATES))
    a = a * generator.choice([1.0, 20.0], (len(a), 1, 1, 1))
    a[generator.random(a.shape) < 0.1] = -np.inf
    a[:, :, 0, 0] = 0.5
    mask = generator.random((BATCH, LENGTH)) < 0.7
    return (e, a, mask) if masked else (e, a)


def names_for(chain: Chain) -> list[Implementation]:
    """The forms that take such transitions."""
    return [name for name in NAMES if name != "lanes" or chain.homogeneous]


@jax.jit
def everything(chain: Chain) -> dict[str, Any]:
    """All that is known of chains, by every form."""
    return {
        "expectations": {name: chains.expectations(chain, name) for name in names_for(chain)},
        "entropy": chains.entropy(chain),
        "best": chains.best(chain, BEST),
        "viterbi": chains.best(chain),
    }


# Two signatures have masks, since compiling is what takes time.
@pytest.mark.parametrize(
    ("edges", "shared", "masked"),
    [(1, True, True), (LENGTH - 1, False, True), (1, False, False)],
)
def test_every_form_is_the_enumeration(edges, shared, masked):
    with jax.enable_x64(True):
        for seed in range(2):
            arrays = potentials(seed, edges, shared, masked)
            found = jax.tree.map(np.asarray, everything(Chain(*map(jnp.asarray, arrays))))
            for row in range(BATCH):
                known = enumerated(
                    arrays[0][row],
                    arrays[1][0 if shared else row],
                    arrays[2][row] if masked else None,
                )
                _assert_row(found, row, known, edges)


def _assert_row(found: dict[str, Any], row: int, known: Any, edges: int) -> None:
    # Float64; potentials of up to 100 are added up.
    close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-11)
    pairs = known.pair_marginals
    pairs = pairs if edges > 1 else pairs.sum(0, keepdims=True)
    for name, (log_z, marginals, own_pairs) in found["expectations"].items():
        close(log_z[row], known.log_partition, err_msg=name)
        close(marginals[row], known.marginals, err_msg=name)
        close(own_pairs[row], pairs, err_msg=name)
    close(found["entropy"][row], known.entropy)
    scores = np.sort(known.scores)[::-1][:BEST]
    scores = np.append(scores, np.full(BEST - len(scores), -np.inf))
    close(found["best"].scores[:, row], scores)
    seen = set()
    for path, score in zip(found["best"].paths[:, row], scores, strict=True):
        if score > -np.inf:
            own = tuple(path[known.where])
            close(known.scores[(known.paths == own).all(1)], [score])
            seen.add(own)
            assert all(path[t] == -1 for t in range(LENGTH) if t not in known.where)
    assert len(seen) == (scores > -np.inf).sum()
    close(found["viterbi"].scores[0, row], scores[0])


def small(mask: bool = False) -> Chain:
    """Two chains in float64; the mask of the second has a hole."""
    generator = np.random.default_rng(5)
    e, a = generator.normal(size=(2, LENGTH, STATES)), generator.normal(size=(1, 1, STATES, STATES))
    holes = np.array([[True] * 4, [True, False, True, True]])
    return Chain(jnp.asarray(e), jnp.asarray(a), jnp.asarray(holes) if mask else None)


@jax.jit
def log_partition(e: Any, a: Any, mask: Any) -> Any:
    return chains.log_partition(Chain(e, a, mask))


def test_the_derivative_by_hand_is_right_twice_in_both_modes():
    with jax.enable_x64(True):
        chain = small(mask=True)
        check_grads(
            lambda e, a: log_partition(e, a, chain.mask), (chain.unary, chain.transitions), order=2
        )


def test_the_second_derivative_is_the_covariance():
    with jax.enable_x64(True):
        chain = small(mask=True)
        total = lambda e: log_partition(e, chain.transitions, chain.mask).sum()  # noqa: E731
        hessian = jax.jit(jax.jacfwd(jax.grad(total)))(chain.unary)
        assert chain.mask is not None
        holes = np.asarray(chain.mask)
        for row in range(2):
            known = enumerated(chain.unary[row], chain.transitions[0, 0], holes[row])
            np.testing.assert_allclose(hessian[row, :, :, row], known.covariance, atol=1e-12)


def moved(known: Any, u: Any, m: Any) -> tuple[np.ndarray, np.ndarray]:
    """The covariances of one chain's statistics, and of its steps, with their weighted sum."""
    p = known.probabilities
    f = (known.statistics * np.asarray(u)).sum((1, 2)) + (known.pairs * np.asarray(m)).sum(
        (1, 2, 3)
    )
    weights = p * (f - p @ f)
    return np.tensordot(weights, known.statistics, 1), np.tensordot(weights, known.pairs, 1)


@pytest.mark.parametrize("edges", [1, LENGTH - 1])
def test_marginals_move_with_their_covariances_and_those_with_the_third_cumulants(edges):
    with jax.enable_x64(True):
        chain, generator = small(mask=True), np.random.default_rng(6)
        assert chain.mask is not None
        a = jnp.asarray(
            generator.normal(size=(edges, edges, STATES, STATES))[-2:]
        )  # shared, or not
        a = a.at[:, :, 0, 1].set(-jnp.inf)
        u, w = jnp.asarray(generator.normal(size=(2, *chain.unary.shape)))
        m = jnp.asarray(generator.normal(size=a.shape))

        @jax.jit
        def derivatives(e: Any, a: Any, u: Any, m: Any) -> Any:
            of = lambda e, a: chains.expectations(Chain(e, a, chain.mask))  # noqa: E731
            weighed = lambda e: (of(e, a)[1] * w).sum()  # noqa: E731
            backwards, second = jax.jvp(jax.grad(weighed), (e,), (u,))
            return jax.jvp(of, (e, a), (u, m))[1], backwards, second

        (log_z, marginals, pairs), backwards, second = derivatives(chain.unary, a, u, m)
        close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
        for row in range(2):
            own = row % len(a)
            known = enumerated(chain.unary[row], a[own], chain.mask[row])
            by_statistic, by_step = moved(known, u[row], m[own])
            close(
                log_z[row], (known.marginals * u[row]).sum() + (known.pair_marginals * m[own]).sum()
            )
            close(marginals[row], by_statistic)
            close(pairs[row], by_step if edges > 1 else by_step.sum(0, keepdims=True))
            close(backwards[row], moved(known, w[row], 0)[0])
            centred = known.statistics - known.marginals
            f, g = (np.tensordot(centred, x[row], 2) for x in (u, w))
            close(second[row], np.tensordot(known.probabilities * f * g, centred, 1))


# Chains of three positions and two states that scaled probabilities cannot do in float32:
# transitions, unary potentials, and log Z.
HARD = {
    "both ways underflow": ([[-100, -100], [0, 0]], [[0, -100], [0, 0], [0, 0]], None),
    "what was lost wins": ([[-60, -np.inf], [-np.inf, 0]], [[0, -100], [0, 0], [0, 0]], -100.0),
    "forbidden by -1e4": ([[0, -1e4], [0, 0]], [[0, 0], [0, 0], [0, 0]], np.log(4)),
    "large potentials": ([[0, 0], [0, 0]], [[1e4, -1e4], [-1e4, 1e4], [1e4, -1e4]], 3e4),
    "forced against the tide": ([[0, -np.inf], [-np.inf, 0]], [[0, -1e4], [0, 0], [-1e4, 0]], None),
    "only one path": ([[-np.inf, 0], [0, -np.inf]], [[0, -np.inf], [0, 0], [0, 0]], 0.0),
    "nothing possible": ([[0, -np.inf], [0, -np.inf]], [[0, 0], [-np.inf, 0], [0, 0]], -np.inf),
    "no state possible": ([[0, 0], [0, 0]], [[0, 0], [-np.inf, -np.inf], [0, 0]], -np.inf),
    "no step possible": (np.full((2, 2), -np.inf), [[0, 0], [0, 0], [0, 0]], -np.inf),
    "an ordinary one": ([[0.5, -1], [0.25, 1]], [[0, 1], [-1, 0.5], [0.75, 0]], None),
}


def hard() -> Chain:
    transitions = np.array([a for a, _, _ in HARD.values()], np.float32)[:, None]
    return Chain(
        jnp.asarray(np.array([e for _, e, _ in HARD.values()], np.float32)),
        jnp.asarray(transitions),
    )


# Of the marginals and of the steps of all chains, in sums whose gradients are covariances.
WEIGHTS = (
    jnp.tile(jnp.array([[1.0, -1.0], [0.5, 2.0], [0.0, 1.0]])[None], (len(HARD), 1, 1)),
    jnp.tile(jnp.array([[0.25, 1.0], [-1.0, 0.5]])[None, None], (len(HARD), 1, 1, 1)),
)


@jax.jit
def with_gradients(chain: Chain) -> Any:
    def both(e: Any, a: Any, name: Implementation | None) -> Any:
        total = lambda e, a: chains.log_partition(Chain(e, a), name).sum()  # noqa: E731
        value, pull = jax.vjp(jax.grad(total, (0, 1)), e, a)
        return value, pull(WEIGHTS)

    return both(*chain[:2], None), {name: chains.expectations(chain, name) for name in NAMES}


def test_nothing_underflows_and_nothing_impossible_has_a_derivative():
    gradients, found = with_gradients(hard())
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
    for name, (log_z, marginals, pairs) in found.items():
        for row, (case, (a, e, expected)) in enumerate(HARD.items()):
            known = enumerated(e, a)
            if expected is not None:
                np.testing.assert_allclose(
                    known.log_partition, expected, rtol=1e-9
                )  # e^-20 left out
            # Rounding of potentials of 1e4 in float32, about 1e-3, is the worst.
            size = np.abs(np.array(e, np.float64)[np.isfinite(e)]).max()
            atol = 2e-6 + 3e-7 * size
            message = f"{name}: {case}"
            np.testing.assert_allclose(log_z[row], known.log_partition, 1e-6, 1e-6, err_msg=message)
            np.testing.assert_allclose(marginals[row], known.marginals, 0, atol, err_msg=message)
            np.testing.assert_allclose(
                pairs[row, 0], known.pair_marginals.sum(0), 0, 2 * atol, err_msg=message
            )
            np.testing.assert_allclose(gradients[0][0][row], marginals[row], 0, 2 * atol)
            by_statistic, by_step = moved(known, WEIGHTS[0][row], WEIGHTS[1][row])
            np.testing.assert_allclose(gradients[1][0][row], by_statistic, 0, 8 * atol)
            np.testing.assert_allclose(gradients[1][1][row, 0], by_step.sum(0), 0, 8 * atol)
    np.testing.assert_allclose(found["two_passes"][0][0], -98.6137, atol=1e-4)


def test_no_form_loses_what_underflows():
    """Potentials whose paths, forwards and backwards, differ by more than float32 reaches: chains
    that need logarithms have them. Some states and steps are forbidden, by -inf or by a number."""
    generator = np.random.default_rng(11)
    batch, length = 200, 7
    scale = np.linspace(1, 60, batch)[:, None, None]
    normal = (scale * generator.normal(size=(batch, length, STATES))).astype(np.float32)
    for low in (None, None, None, -100, -1e4, -np.inf):
        a = (25 * generator.normal(size=(1, 1, STATES, STATES))).astype(np.float32)
        e = normal.copy()
        if low is not None:  # of each chain a path is left
            e[generator.random(e.shape) < 0.2] = low
            e[:, :, 0] = normal[:, :, 0]
            a[0, 0, 1, 2] = a[0, 0, 2, 0] = low
        found = forms_of(Chain(jnp.asarray(e), jnp.asarray(a)))
        with jax.enable_x64(True):
            wide = Chain(jnp.asarray(e, np.float64), jnp.asarray(a, np.float64))
            log_z, marginals, pairs = map(np.asarray, forms_of(wide)["logarithmic"])
        for name, own in found.items():
            # Rounding of sums of potentials of some 200, in float32.
            close = partial(np.testing.assert_allclose, err_msg=name)
            close(own[0], log_z, rtol=1e-6, atol=1e-4)
            close(own[1], marginals, atol=3e-4)
            close(own[2], pairs, atol=3e-3)


def test_the_tree_needs_no_logarithms_for_moderate_potentials():
    """Why there is a bound by steps, besides that by the range of the whole chain."""
    generator = np.random.default_rng(5)
    a = generator.normal(size=(1, 1, STATES, STATES)).astype(np.float32)
    forbidden = a.copy()
    forbidden[0, 0, 1, 2] = -np.inf
    e = generator.normal(size=(2, 200, STATES)).astype(np.float32)
    cases = {
        "moderate": (e, a, [True, True]),
        "one of wide range": (e * np.array([1, 20], np.float32)[:, None, None], a, [True, False]),
        "forbidden, short": (e[:, :4], forbidden, [True, True]),
        "forbidden, long": (e, forbidden, [False, False]),
    }
    known = jax.jit(partial(_sums._known, "tree"))
    for case, (unary, steps, expected) in cases.items():
        found = known(Chain(jnp.asarray(unary), jnp.asarray(steps)))
        assert (np.asarray(found.reliable) > 0).tolist() == expected, case


@jax.jit
def forms_of(chain: Chain) -> dict[str, Any]:
    return {name: chains.expectations(chain, name) for name in names_for(chain)}


def test_a_chain_does_not_depend_on_those_beside_it():
    """An ordinary chain, among those that need logarithms and alone."""
    chain, names = hard(), list(HARD)
    one = names.index("an ordinary one")
    run = jax.jit(chains.expectations)
    among = run(chain)
    alone = run(jax.tree.map(lambda x: jnp.stack([x[one]] * len(names)), chain))
    for got, expected in zip(among, alone, strict=True):
        assert_identical(got[one], expected[0])


def test_mapped_chains_are_chains_beside_each_other():
    generator = np.random.default_rng(3)
    e = jnp.asarray(generator.normal(size=(2, 3, LENGTH, STATES)), jnp.float32)
    a = jnp.asarray(generator.normal(size=(2, 1, 1, STATES, STATES)), jnp.float32)
    mask = jnp.asarray(generator.random((3, LENGTH)) < 0.6)
    flat = Chain(e.reshape(6, LENGTH, STATES), jnp.repeat(a[:, 0], 3, 0), jnp.tile(mask, (2, 1)))
    expected = jax.jit(chains.expectations)(flat)
    one = lambda e, a: chains.expectations(Chain(e, a, mask))  # noqa: E731
    mapped = jax.jit(jax.vmap(one))
    for got, known in zip(mapped(e, a), expected, strict=True):
        assert_identical(got.reshape(known.shape), known)
    # Mapped, there is still one decision for all: no second set of loops on logarithms, whose
    # results would be selected.
    loops = lambda f, *args: jax.jit(f).lower(*args).as_text().count("stablehlo.while")  # noqa: E731
    assert loops(jax.vmap(one), e, a) == loops(chains.expectations, flat)
    turning = jax.grad(lambda e, a: (one(e, a)[1] ** 2).sum())
    conditions = lambda f, *args: str(jax.make_jaxpr(f)(*args)).count(" cond[")  # noqa: E731
    assert conditions(jax.vmap(turning), e, a) == conditions(turning, e[0], a[0]) > 1
    # Only the transitions differ, then only the mask; one gradient each.
    own = lambda a, m: chains.log_partition(Chain(e[0], a, m)).sum()  # noqa: E731
    each = jax.jit(jax.vmap(jax.grad(own), (0, None)))(a, mask)
    both = jax.jit(jax.grad(lambda a, m: own(a[0], m) + own(a[1], m)))(a, mask)
    np.testing.assert_allclose(each, both, rtol=2e-6, atol=2e-6)
    masks = jnp.stack([mask, ~mask])
    by_mask = jax.jit(jax.vmap(own, (None, 0)))(a[0], masks)
    one_by_one = jax.jit(own)
    np.testing.assert_allclose(by_mask, [one_by_one(a[0], m) for m in masks], rtol=2e-6)


def test_samples_have_the_law_of_the_chain():
    """The frequencies of all 81 paths among 100,000 draws, and of those with a hole."""
    generator = np.random.default_rng(8)
    e, a = generator.normal(size=(LENGTH, STATES)), generator.normal(size=(STATES, STATES))
    a[1, 2] = -np.inf
    e[2, 0] = -np.inf
    count = 100_000
    words = random_words(jax.random.key(1), (count, LENGTH))[1]
    run = jax.jit(chains.sample)
    for mask in (np.ones(LENGTH, bool), np.array([True, False, True, True])):
        known = enumerated(e, a, mask)
        chain = Chain(
            jnp.broadcast_to(jnp.asarray(e, jnp.float32), (count, LENGTH, STATES)),
            jnp.asarray(a, jnp.float32)[None, None],
            jnp.broadcast_to(jnp.asarray(mask), (count, LENGTH)),
        )
        drawn, possible = run(words, chain)
        assert possible.all()
        assert (np.asarray(drawn)[:, ~mask] == -1).all()
        own = np.asarray(drawn)[:, mask] @ STATES ** np.arange(len(known.where))[::-1]
        counts = np.bincount(own, minlength=len(known.paths))
        likely = known.probabilities > 0
        assert counts[~likely].sum() == 0
        expected = count * known.probabilities[likely]
        chi_squared = ((counts[likely] - expected) ** 2 / expected).sum()
        freedom = likely.sum() - 1
        # Five standard deviations of a chi-squared number.
        assert abs(chi_squared - freedom) < 5 * np.sqrt(2 * freedom)


def test_equal_transitions_give_equal_samples_however_they_are_written():
    """One matrix for all, one for each chain, and one for each step; few states and many."""
    generator = np.random.default_rng(12)
    e = jnp.asarray(generator.normal(size=(50, 6, STATES)), jnp.float32)
    a = generator.normal(size=(STATES, STATES)).astype(np.float32)
    a[1, 2] = -np.inf
    mask = jnp.asarray(generator.random((50, 6)) < 0.8)
    words = random_words(jax.random.key(2), (50, 6))[1]
    shapes = (1, 1), (50, 1), (50, 5)
    chain = lambda shape: Chain(e, jnp.broadcast_to(a, (*shape, STATES, STATES)), mask)  # noqa: E731
    first, *others = jax.jit(lambda w: [chains.sample(w, chain(s)).paths for s in shapes])(words)
    for paths in others:
        assert_identical(paths, first)
    weights = jnp.asarray(np.maximum(generator.normal(size=(7, 2000)), 0) + 1e-30, jnp.float32)
    uniform = open_uniform(random_words(jax.random.key(3), (2000,))[1])
    few, many = (f(weights, uniform) for f in (_paths._chosen, _paths._chosen_of_many))
    assert (few == many).mean() > 0.999  # sums are rounded in another order


def test_long_chains_take_linear_memory_and_keep_their_digits():
    length = 100_000
    a = jnp.array([[[[0.3, -0.2], [0.1, 0.4]]]])
    chain = Chain(jnp.full((1, length, 2), 0.01), a)
    gradient = jax.jit(jax.value_and_grad(lambda c: chains.log_partition(c)[0], allow_int=True))
    program = gradient.lower(chain).compile()
    memory = program.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 40 * length * 2 * 4
    log_z, slopes = program(chain)
    # The largest eigenvalue decides; float64.
    values, vectors = np.linalg.eig(np.exp(np.float64(a[0, 0])))
    ones = np.linalg.solve(vectors, np.ones(2))
    top = values.argmax()
    exact = (length - 1) * np.log(values[top]) + np.log(vectors[:, top].sum() * ones[top])
    np.testing.assert_allclose(log_z, exact + length * np.float64(np.float32(0.01)), rtol=1e-6)
    np.testing.assert_allclose(slopes.unary.sum(2), 1, rtol=1e-5)
    np.testing.assert_allclose(slopes.transitions.sum(), length - 1, rtol=1e-5)


@pytest.mark.parametrize("name", [None, *NAMES])
def test_every_form_is_lowered_for_cuda(name):
    chain = hard()
    program = jax.jit(jax.grad(lambda e, a: chains.log_partition(Chain(e, a), name).sum(), (0, 1)))
    text = (
        program.trace(chain.unary, chain.transitions).lower(lowering_platforms=("cuda",)).as_text()
    )
    # One loop in both directions, or two, beside a loop of one turn at most with two on logarithms.
    loops = {None: 4, "both_at_once": 4, "lanes": 4, "two_passes": 5, "logarithmic": 2}
    assert text.count("stablehlo.while") == loops.get(name, 3)


def test_what_is_no_implementation_raises():
    for function in (chains.expectations, chains.log_partition):
        with pytest.raises(ValueError, match="one of two_passes, both_at_once, tree, lanes, "):
            inspect.unwrap(function)(hard(), "parallel")
        by_edge = hard()._replace(transitions=jnp.zeros((1, 2, 2, 2)))
        with pytest.raises(ValueError, match="one matrix of transitions for all edges"):
            function(by_edge, "lanes")


def test_the_derivative_of_the_best_score_is_that_of_its_path():
    generator = np.random.default_rng(4)
    unary = jnp.asarray(generator.normal(size=(2, 3, 2)), jnp.float32)
    steps = jnp.asarray(generator.normal(size=(1, 1, 2, 2)), jnp.float32)
    mask = jnp.array([[True, False, True], [False, False, False]])

    @jax.jit
    def found(unary, steps):
        def best(unary, steps):
            return chains.best(chains.Chain(unary, steps, mask))

        total = lambda unary, steps: best(unary, steps).scores.sum()  # noqa: E731
        return best(unary, steps), jax.grad(total, (0, 1))(unary, steps)

    (paths, scores), (by_unary, by_steps) = found(unary, steps)
    assert paths[0, 1].tolist() == [-1, -1, -1] and scores[0, 1] == 0 and paths[0, 0, 1] == -1
    first, last = paths[0, 0, [0, 2]]
    expected = np.zeros((2, 3, 2), np.float32)
    expected[0, 0, first] = expected[0, 2, last] = 1
    np.testing.assert_array_equal(by_unary, expected)
    assert by_steps[0, 0, first, last] == by_steps.sum() == 1
    highest = max(
        unary[0, 0, i] + steps[0, 0, i, j] + unary[0, 2, j] for i in (0, 1) for j in (0, 1)
    )
    np.testing.assert_allclose(scores[0, 0], highest, rtol=1e-6)


@pytest.mark.parametrize("edges", [False, True])
def test_the_best_path_hands_on_what_is_no_number(edges):
    """Of the chain that has it, and where it counts for something."""
    unary = jnp.asarray(np.random.default_rng(5).normal(size=(5, 3, 2)), jnp.float32)
    steps = jnp.zeros((5, 2, 2, 2) if edges else (5, 1, 2, 2))
    mask = jnp.ones((5, 3), bool).at[4, 1:].set(False)
    best = jax.jit(lambda unary, steps: chains.best(chains.Chain(unary, steps, mask)).scores[0])
    unary = unary.at[1, 1, 0].set(jnp.nan).at[2, 0, 1].set(jnp.inf)
    steps = steps.at[3:, -1, 0, 1].set(jnp.nan)  # of a step that is taken, and of none
    assert np.isfinite(best(unary, steps)).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("states", [32, 33])
def test_the_best_path_and_samples_of_many_states(states):
    """From 33 states on sums are products of matrices; before, they are written out."""
    generator = np.random.default_rng(states)
    unary = generator.normal(size=(2, 5, states)).astype(np.float32)
    steps = np.where(
        generator.random((states, states)) < 0.9, -np.inf, generator.normal(size=(states, states))
    ).astype(np.float32)
    words = random_words(jax.random.key(0), (2000, 5))[1]

    @jax.jit
    def found(unary, steps):
        chain = chains.Chain(unary, steps[None, None])
        many = chain._replace(unary=jnp.repeat(unary[:1], 2000, 0))
        own = {name: chains.expectations(chain, name)[:2] for name in ("two_passes", "lanes")}
        by_steps = jax.grad(lambda a: chains.log_partition(chain._replace(transitions=a)).sum())
        slopes = by_steps(steps[None, None])[0, 0]
        return chains.best(chain), chains.sample(words, many).paths, own, slopes

    (paths, scores), drawn, own, slopes = found(unary, steps)
    np.testing.assert_allclose(slopes.sum(), 2 * 4, rtol=1e-5)
    assert not np.any(np.asarray(slopes)[steps == -np.inf])
    for row in range(2):
        highest = forward = unary[row, 0]
        for t in range(1, 5):
            highest = (highest[:, None] + steps).max(0) + unary[row, t]
            forward = np.logaddexp.reduce(forward[:, None] + steps) + unary[row, t]
        for log_z, marginals in own.values():
            np.testing.assert_allclose(log_z[row], np.logaddexp.reduce(forward), rtol=1e-5)
            last = np.exp(forward - np.logaddexp.reduce(forward))
            np.testing.assert_allclose(marginals[row, -1], last, atol=1e-5)
        path = np.asarray(paths[0, row])
        score = unary[row, range(5), path].sum() + steps[path[:-1], path[1:]].sum()
        np.testing.assert_allclose([scores[0, row], score], highest.max(), rtol=1e-5)
    assert np.isfinite(steps[drawn[:, :-1], drawn[:, 1:]]).all()  # none that is forbidden


def test_the_entropy_of_a_long_chain_keeps_its_digits():
    rng = np.random.default_rng(0)
    unary, steps = rng.normal(size=(1, 10_000, 3)), rng.normal(size=(1, 1, 3, 3))
    chain = chains.Chain(*(jnp.asarray(a, jnp.float32) for a in (unary, steps)))
    with jax.enable_x64(True):
        exact = chains.entropy(jax.tree.map(lambda a: a.astype(float), chain))
    # 1e-5 if the sum is carried along.
    np.testing.assert_allclose(chains.entropy(chain), exact, rtol=1e-6)
