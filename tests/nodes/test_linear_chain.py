"""Linear chains as a family and in every procedure, against the enumeration of all paths."""

import inspect
import types
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax.nodes import Grid, LinearChain, bio_transitions
from cgjax.nodes._structure_checks import check_matrices
from tests.helpers import assert_identical
from tests.kernels.chain_oracle import Enumerated, enumerated

# One shape for nearly everything: three rows of four positions and three states.
ROWS, LENGTH, STATES = 3, 4, 3
KEY = jax.random.key(3)
_draw = np.random.default_rng(11)
E = jnp.asarray(_draw.normal(size=(ROWS, LENGTH, STATES)), jnp.float32)
A = jnp.asarray(_draw.normal(size=(STATES, STATES)), jnp.float32)
EDGES = jnp.asarray(_draw.normal(size=(ROWS, LENGTH - 1, STATES, STATES)), jnp.float32)
START, END = (jnp.asarray(_draw.normal(size=STATES), jnp.float32) for _ in range(2))
LENGTHS = jnp.array([4, 2, 0])
HOLES = jnp.array([[True, False, True, True], [False, True, False, True], [True] * 4])
# Chains with other values of the first's parameters share what is compiled.
FAMILIES = {
    "ends and lengths": LinearChain(A, START, END, lengths=LENGTHS),
    "edges and holes": LinearChain(EDGES, jnp.stack([START] * ROWS), mask=HOLES),
}


@jax.jit
def facts(family: LinearChain, e: Any) -> dict[str, Any]:
    """What a family knows about e."""
    paths, log_probs = family.top(e, 4)
    return {
        "activation": family.activation(e),
        "mean": family.mean(e),
        "variance": family.variance(e),
        "log_partition": family.log_partition(e),
        "pair_marginals": family.pair_marginals(e),
        "entropy": family.entropy(e),
        "mode": family.mode(e),
        "paths": paths,
        "log_probs": log_probs,
        "log_probs_of_paths": jax.vmap(lambda x: family.log_prob(x, e))(paths),
        "sample": family.sample(KEY, e),
    }


def known(family: LinearChain, row: int) -> Enumerated:
    """The enumeration of one row of E."""
    mask = {"ends and lengths": np.arange(LENGTH) < LENGTHS[row], "edges and holes": HOLES[row]}
    name = next(name for name, own in FAMILIES.items() if own is family)
    transitions = EDGES[row] if name == "edges and holes" else A
    ends = (None, None) if family.start is None else (START, None if family.end is None else END)
    return enumerated(E[row], transitions, mask.get(name), *ends)


@pytest.mark.parametrize("name", FAMILIES)
def test_everything_is_the_enumeration(name):
    family = FAMILIES[name]
    found = jax.tree.map(np.asarray, facts(family, E))
    for row in range(ROWS):
        exact = known(family, row)
        # Float32, and potentials of size 3.
        close = lambda got, expected: np.testing.assert_allclose(got[row], expected, 3e-5, 3e-6)  # noqa: B023, E731
        close(found["activation"], exact.marginals)
        close(found["mean"], exact.marginals)
        close(found["variance"], exact.marginals * (1 - exact.marginals))
        close(found["log_partition"], exact.log_partition)
        close(found["pair_marginals"], exact.pair_marginals)
        close(found["entropy"], exact.entropy)
        order = np.argsort(-exact.probabilities)[:4]
        assert_identical(found["mode"][row], exact.statistics[order[0]].astype(np.float32))
        for rank, path in enumerate(order):
            got = found["paths"][rank, row]
            assert_identical(got, exact.statistics[path].astype(np.float32))
            expected = np.log(exact.probabilities[path])
            for values in (found["log_probs"], found["log_probs_of_paths"][..., 0, 0]):
                np.testing.assert_allclose(values[rank, row], expected, 3e-5, 3e-6)
        if len(order) < 4:  # fewer paths than were asked for
            assert (found["log_probs"][len(order) :, row] == -np.inf).all()
            assert (found["paths"][len(order) :, row] == 0).all()
        drawn = found["sample"][row]
        assert any((drawn == path).all() for path in exact.statistics)


def test_log_probabilities_of_all_paths_sum_to_one_and_others_are_impossible():
    family = FAMILIES["edges and holes"]
    exact = known(family, 1)
    one = LinearChain(EDGES[1], START, mask=HOLES[1])
    of = jax.jit(lambda x, e: one.log_prob(x, e)[..., 0, 0])
    log_probs = jax.vmap(of, (0, None))(jnp.asarray(exact.statistics, jnp.float32), E[1])
    np.testing.assert_allclose(np.exp(np.float64(log_probs)).sum(), 1, rtol=2e-6)
    path = np.asarray(exact.statistics[0], np.float32)
    gradient = jax.jit(jax.grad(of, 1))
    for position, row, expected in [
        (0, [np.nan, 7, 0], log_probs[0]),  # a position that is masked is not read
        (1, [0.5, 0.5, 0], -np.inf),
        (1, [1, 1, 0], -np.inf),
        (1, [0, 0, 0], -np.inf),
        (1, [np.nan, 0, 0], np.nan),
    ]:
        x = path.copy()
        x[position] = row
        np.testing.assert_array_equal(of(x, E[1]), expected)
        if expected == -np.inf:
            assert not gradient(x, E[1]).any()
    assert not np.asarray(gradient(path, E[1]))[~np.asarray(HOLES[1])].any()


def test_a_mask_is_the_compacted_sequence_and_padding_changes_no_bit():
    short = jax.jit(lambda e: LinearChain(A, START, END).mean(e))
    mask = jnp.array([False, True, True, False, False, True])
    e = jnp.full((6, STATES), jnp.nan).at[jnp.array([1, 2, 5])].set(E[0, :3])
    holes = jax.jit(lambda e, m: LinearChain(A, START, END, mask=m).mean(e))
    assert_identical(holes(e, mask)[mask], short(E[0, :3]))
    lengths = jax.jit(lambda e, n: LinearChain(A, START, END, lengths=n).mean(e))
    padded = jnp.concatenate([E[0, :3], jnp.full((3, STATES), jnp.inf)])
    assert_identical(lengths(padded, 3)[:3], short(E[0, :3]))
    twice = lambda e: (LinearChain(A, START, END, mask=mask).mean(e) ** 2).sum()  # noqa: E731
    gradient = jax.jit(jax.grad(twice))(e)
    assert np.isfinite(gradient).all() and not gradient[~mask].any() and gradient[mask].all()


@jax.jit
def of_short(family: LinearChain, e: Any) -> dict[str, Any]:
    """What is known of chains that may have no step, or no position."""
    return {
        "mean": family.mean(e),
        "log_partition": family.log_partition(e),
        "entropy": family.entropy(e),
        "pairs": family.pair_marginals(e),
        "mode": family.mode(e),
        "sample": family.sample(KEY, e),
        "log_prob": family.log_prob(family.mode(e), e),
    }


def test_short_chains_and_single_states():
    family = LinearChain(A, START, END)
    # Of one position it is a Categorical.
    one = E[:, :1]
    found, logits = of_short(family, one), np.asarray(one) + np.asarray(START + END)
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    np.testing.assert_allclose(found["mean"], p, rtol=2e-6)
    np.testing.assert_allclose(found["log_partition"], np.log(np.exp(logits).sum((1, 2))), 2e-6)
    np.testing.assert_allclose(found["entropy"], -(p * np.log(p)).sum((1, 2)), rtol=2e-6)
    np.testing.assert_allclose(found["log_prob"][:, 0, 0], np.log(p.max(2)[:, 0]), rtol=2e-6)
    np.testing.assert_array_equal(found["mode"], p == p.max(2, keepdims=True))
    assert found["pairs"].shape == (ROWS, 0, STATES, STATES)
    # Of none there is one way to be, however that is said.
    none = E[:, :0]
    for empty in (
        family,
        LinearChain(A, START, END, lengths=jnp.zeros(ROWS, int)),
        LinearChain(A, mask=jnp.zeros((ROWS, 0), bool)),
        LinearChain(EDGES[:, :0]),
    ):
        found = of_short(empty, none)
        for name in ("log_partition", "entropy", "log_prob"):
            assert not found[name].any()
        assert found["mean"].shape == found["sample"].shape == found["mode"].shape == none.shape
        assert found["log_prob"].shape == (ROWS, 1, 1)
        values, log_probs = empty.top(none, 1)
        assert values.shape == (1, *none.shape) and not log_probs.any()
    # With one state everything is certain.
    found = of_short(LinearChain(jnp.array([[2.0]])), E[:, :, :1])
    assert_identical(found["mean"], jnp.ones((ROWS, LENGTH, 1)))
    np.testing.assert_allclose(found["log_partition"], E[:, :, 0].sum(1) + 6, rtol=1e-6)
    assert not found["entropy"].any()


def test_half_precision_is_computed_in_float32():
    half, family = E.astype(jnp.bfloat16), LinearChain(A.astype(jnp.bfloat16), lengths=LENGTHS)

    @jax.jit
    def found(e: Any) -> Any:
        return (family.activation(e), family.sample(KEY, e)), family.log_partition(e)

    (narrow, log_z), (expected, same) = found(half), found(half.astype(jnp.float32))
    assert_identical(narrow, tuple(x.astype(jnp.bfloat16) for x in expected))
    assert_identical(log_z, same)


def test_a_network_maps_over_everything_that_a_chain_has():
    """Rows by `vmap`, and rows as a batch, of a chain with all of its parameters."""

    def net(e: Any, transitions: Any, start: Any, lengths: Any) -> Any:
        return cg.node(LinearChain(transitions, start, lengths=lengths), e, name="tags")

    starts = jnp.stack([START, END, START])
    each = (E, EDGES, starts, LENGTHS)

    def sampled_and_not(f: Any) -> Any:
        return jax.jit(lambda *args: (cg.forward_sample(f)(KEY, *args), cg.feed_forward(f)(*args)))

    # Mapping inside of the network: the draws are those of the batch.
    batch = sampled_and_not(net)
    assert_identical(sampled_and_not(jax.vmap(net))(*each), batch(*each))
    # One matrix a chain, mapped, is one for each chain of a batch.
    matrices = EDGES[:, 0]
    inside = jax.vmap(lambda e, a: net(e, a, START, jnp.array(4)))
    both = net(E, matrices[:, None], START, jnp.array(4))
    assert_identical(jax.jit(cg.feed_forward(inside))(E, matrices), both)


def test_a_family_is_a_pytree_that_jax_differentiates():
    family = LinearChain(A, START)
    gradient = jax.jit(jax.grad(lambda family, e: family.log_partition(e).sum()))(family, E)
    assert isinstance(gradient, LinearChain) and gradient.end is None
    pairs = family.pair_marginals(E).sum((0, 1))
    np.testing.assert_allclose(gradient.transitions, pairs, rtol=2e-5)
    np.testing.assert_allclose(np.asarray(gradient.start), family.mean(E)[:, 0].sum(0), rtol=2e-5)
    assert family == LinearChain(A, START) != LinearChain(A)
    assert hash(family) == hash(LinearChain(A, START))


# -- what is impossible, and what is wrong


def test_forbidden_transitions_are_part_of_the_distribution():
    start, transitions, end = bio_transitions(["O", "B", "I"])
    family = LinearChain(A + transitions, jnp.asarray(start), jnp.asarray(end), lengths=LENGTHS)
    found = facts(family, E)
    assert float(found["activation"][:, 0, 2].max()) == 0
    assert float(found["pair_marginals"][:, :, 0, 2].max()) == 0
    wrong = jax.nn.one_hot(jnp.array([0, 2, 0, 0]), STATES)
    of = lambda a, e: LinearChain(a, start, end).log_prob(wrong, e)[0, 0]  # noqa: E731
    value, gradients = jax.jit(jax.value_and_grad(of, (0, 1)))(A + transitions, E[0])
    assert value == -np.inf
    assert not any(np.asarray(g).any() for g in gradients)


def test_a_chain_without_a_possible_path():
    family, blocked = FAMILIES["ends and lengths"], E.at[1, 1].set(-jnp.inf)
    with pytest.raises(
        ValueError, match=r"1 of 3 chains have no possible path \(the first: \(1,\)"
    ):
        family.mean(blocked)
    found = facts(family, blocked)
    assert found["log_partition"][1] == -np.inf
    assert not found["activation"][1].any() and not found["pair_marginals"][1].any()
    assert np.isnan(found["sample"][1]).all() and np.isnan(found["mode"][1]).all()
    usual = facts(family, E)
    for name in ("activation", "log_partition", "sample", "mode"):
        assert_identical(found[name][0], usual[name][0])
    # Where the mask leaves out what is blocked, all is well.
    LinearChain(A, mask=jnp.array([True, False, True, True])).mean(blocked)
    unknown = facts(family, E.at[1, 1, 0].set(jnp.nan))
    for name in ("activation", "log_partition", "sample", "mode"):
        assert np.isnan(unknown[name][1]).any()
        assert_identical(unknown[name][0], usual[name][0])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LinearChain(A[:2]), ValueError, r"of shape \(K, K\).*got shape \(2, 3\)"),
        (lambda: LinearChain(A[:2, :2]), ValueError, "for 2 states.*has 3"),
        (lambda: LinearChain(EDGES[:, :2]), ValueError, "for 2 steps.*has 3 steps"),
        (lambda: LinearChain(EDGES[:2]), ValueError, r"leading axes \(2,\) do not broadcast"),
        (lambda: LinearChain(A, START[:2]), ValueError, "LinearChain.start.*last axis"),
        (lambda: LinearChain(A * jnp.nan), ValueError, "finite, or -inf.*nan"),
        (lambda: LinearChain(A, end=START + jnp.inf), ValueError, "LinearChain.end.*inf"),
        (lambda: LinearChain(A, lengths=LENGTHS + 1), ValueError, "from 0 to 4.*got 1 to 5"),
        (lambda: LinearChain(A, lengths=-LENGTHS), ValueError, "from 0 to 4.*got -4 to 0"),
        (lambda: LinearChain(A, lengths=START), TypeError, "lengths must be integers"),
        (lambda: LinearChain(A, lengths=LENGTHS[:2]), ValueError, r"axes \(2,\) do not broadcast"),
        (lambda: LinearChain(A, mask=E), TypeError, "mask must be booleans"),
        (lambda: LinearChain(A, mask=HOLES[:, 1:]), ValueError, "mask.*the 4 positions"),
        (lambda: LinearChain(A, lengths=LENGTHS, mask=HOLES), ValueError, "either lengths or"),
    ],
)
def test_what_does_not_fit_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make().mean(E)


def test_what_else_does_not_fit():
    family = LinearChain(A)
    with pytest.raises(ValueError, match=r"\(..., positions, states\).*got shape \(3,\)"):
        family.mean(START)
    with pytest.raises(TypeError, match="floating-point"):
        family.mean(E.astype(int))
    for k, message in ((0, "at least 1, got 0"), (82, "1 to 81 values.*got 82")):
        with pytest.raises(ValueError, match=message):
            family.top(E, k)
    with pytest.raises(TypeError, match="a number of values"):
        inspect.unwrap(LinearChain.top)(family, E, True)
    with pytest.raises(TypeError, match="too many states"):
        family.states()
    with pytest.raises(TypeError, match="must be an array, got None"):
        check_matrices(types.SimpleNamespace(transitions=None), "transitions", "(K, K)")
    # As many numbers do not make a value, and rows that e has not are none.
    for x in (E.swapaxes(1, 2), E.argmax(2), E[:2], E[None]):
        with pytest.raises(ValueError, match=r"value of the shape \(3, 4, 3\).*`jax.nn.one_hot`"):
            inspect.unwrap(LinearChain.log_prob)(family, x, E)
    grid = Grid(A, inference="exact")
    for of in (Grid.log_prob, Grid.pseudo_log_prob):
        with pytest.raises(ValueError, match=r"Grid needs a value of the shape \(3, 4, 3\)"):
            inspect.unwrap(of)(grid, E.argmax(2), E)


# -- tagging schemes


@pytest.mark.parametrize(
    ("scheme", "labels", "right", "wrong"),
    [
        ("IOB2", "O B-X I-X B-Y I-Y",
         ["O B-X I-X O", "B-X B-X I-X", "B-X B-Y"],
         ["I-X", "O I-X", "B-X I-Y"]),
        ("IOB1", "O B-X I-X B-Y I-Y",
         ["I-X I-X O", "I-X B-X I-X", "I-X I-Y"],
         ["B-X", "O B-X", "I-X B-Y"]),
        ("BIOUL", "O B-X I-X L-X U-X L-Y",
         ["U-X O", "B-X I-X L-X", "B-X L-X U-X"],
         ["B-X", "B-X O", "I-X L-X", "B-X L-Y", "O L-X", "U-X L-X"]),
        ("BMES", "B M E S",
         ["S S", "B M M E S", "B E"],
         ["B", "M E", "B S", "E M", "S E"]),
    ],
)  # fmt: skip
def test_schemes_allow_and_forbid(scheme, labels, right, wrong):
    labels = labels.split()
    start, transitions, end = bio_transitions(labels, scheme)

    def score(text: str) -> float:
        tags = [labels.index(tag) for tag in text.split()]
        steps = sum(transitions[a, b] for a, b in zip(tags, tags[1:], strict=False))
        return float(start[tags[0]] + steps + end[tags[-1]])

    assert [score(text) for text in right] == [0.0] * len(right)
    assert [score(text) for text in wrong] == [-np.inf] * len(wrong)


def test_unknown_schemes_and_labels_raise():
    make = inspect.unwrap(bio_transitions)
    with pytest.raises(ValueError, match="one of IOB1, IOB2, BIOUL, BMES, got 'BIO'"):
        make(["O"], "BIO")
    for label in ("X", "B_PER", "U-X", "", "B-", "O-X", 3):
        with pytest.raises(ValueError, match=f"got {label!r}"):
            make(["O", label], "IOB2")
    for labels in ([], ["O", "O"]):
        with pytest.raises(ValueError, match="different tags"):
            make(labels)


# -- procedures: a chain below another node, and one above another


def below(e: Any) -> Any:
    """A chain with a child."""
    tags = cg.node(LinearChain(A, START), e, name="tags")
    child = cg.node(cg.nodes.Spin(), (tags @ END).sum(-1) - 0.5, name="child")
    return 2 * child + child * tags[..., 0, 1]


@cache
def one() -> Enumerated:
    return enumerated(E[0], A, None, START)


def child_mean(statistics: np.ndarray) -> np.ndarray:
    """E[the output] given the statistics of the chain."""
    child = np.tanh((statistics * np.asarray(END, np.float64)).sum((-1, -2)) - 0.5)
    return 2 * child + child * statistics[..., 0, 1]


def test_exact_marginals_list_the_paths():
    exact = one().probabilities @ child_mean(one().statistics)
    run = cg.with_nodes(cg.exact_marginals(below))
    out, nodes = run(E[0])
    np.testing.assert_allclose(out, exact, rtol=2e-6)
    np.testing.assert_allclose(nodes["tags"], one().marginals, rtol=2e-5)
    # Below another node: the mean over its states, and with a hole the paths that there are.
    hole = jnp.array([True, False, True, True])

    def above(e: Any) -> Any:
        switch = cg.node(cg.nodes.Bernoulli(), e[0, 0], name="switch")
        tags = cg.node(LinearChain(A, mask=hole), e + switch * END[None], name="tags")
        return cg.node(cg.nodes.Spin(), (tags @ START).sum(), name="child") * switch

    p = 1 / (1 + np.exp(-np.float64(E[0, 0, 0])))
    on = enumerated(np.asarray(E[0]) + np.asarray(END), A, hole)
    expected = p * on.probabilities @ np.tanh((on.statistics * np.asarray(START)).sum((1, 2)))
    np.testing.assert_allclose(cg.exact_marginals(above)(E[0]), expected, rtol=5e-6)


def test_exact_marginals_of_long_chains_need_no_paths_or_say_how_many():
    e = jnp.tile(E[0], (10, 1))
    alone = lambda e: cg.node(LinearChain(A), e, name="tags")  # noqa: E731
    np.testing.assert_allclose(cg.exact_marginals(alone)(e), LinearChain(A).mean(e), rtol=2e-6)
    with pytest.raises(ValueError, match=r"'tags' \(1 nodes of about 10\^19 states\)"):
        cg.exact_marginals(below)(e)


def test_feed_forward_mode_and_collapsed_pcff():
    marginals = child_mean(one().marginals)
    np.testing.assert_allclose(below(E[0]), marginals, rtol=5e-6)
    np.testing.assert_allclose(cg.feed_forward(below)(E[0]), marginals, rtol=5e-6)
    np.testing.assert_allclose(cg.pcff(below, 0.0)(KEY, E[0]), marginals, rtol=5e-6)
    best = one().statistics[one().probabilities.argmax()]
    _, nodes = cg.with_nodes(cg.mode(below))(E[0])
    assert_identical(nodes["tags"], best.astype(np.float32))
    assert nodes["child"] == (1 if (best * np.asarray(END)).sum() > 0.5 else -1)


def test_samples_have_the_joint_law():
    count = 4000
    draw = cg.with_nodes(cg.forward_sample(below))
    out, nodes = draw(KEY, jnp.broadcast_to(E[0], (count, LENGTH, STATES)))
    number = np.asarray(nodes["tags"]).argmax(-1) @ STATES ** np.arange(LENGTH)[::-1]
    counts, p = np.bincount(number, minlength=81), one().probabilities
    assert (np.abs(counts - count * p) < 5 * np.sqrt(count * p * (1 - p)) + 1).all()
    values = np.asarray(out, np.float64)
    exact = p @ child_mean(one().statistics)
    assert abs(values.mean() - exact) < 5 * values.std() / np.sqrt(count)
    estimate = cg.monte_carlo(cg.forward_sample(below), 1000)(KEY, E[0])
    assert abs(estimate.mean - exact) < 5 * estimate.standard_error


def test_pcff_decides_once_for_a_chain_and_couples_rates():
    rows = jnp.broadcast_to(E[0], (400, LENGTH, STATES))
    run = jax.jit(lambda rate: cg.with_nodes(cg.pcff(below, {"tags": rate}))(KEY, rows)[1]["tags"])
    half, more, all_of_them = run(0.5), run(0.8), run(1.0)
    sampled = np.asarray((half == 0) | (half == 1)).all((1, 2))
    # Of one chain in a program of its own: the compiler may round otherwise.
    alone = LinearChain(A, START).activation(E[0])
    np.testing.assert_allclose(half[~sampled][0], alone, rtol=1e-6)
    assert (np.asarray(half)[~sampled] == np.asarray(half)[~sampled][0]).all()
    assert abs(sampled.mean() - 0.5) < 5 * np.sqrt(0.25 / 400)
    assert_identical(half[sampled], more[sampled])
    assert_identical(half[sampled], all_of_them[sampled])


def test_log_joint_and_its_derivatives():
    path = jnp.asarray(one().statistics[17], jnp.float32)
    of = lambda e, a: cg.log_joint(  # noqa: E731
        lambda e, a: cg.node(LinearChain(a, START), e, name="tags")
    )({"tags": path}, e, a)
    value, (by_e, by_a) = jax.jit(jax.value_and_grad(of, (0, 1)))(E[0], A)
    np.testing.assert_allclose(value, np.log(one().probabilities[17]), rtol=2e-6)
    np.testing.assert_allclose(by_e, one().statistics[17] - one().marginals, atol=2e-6)
    pairs = one().pairs[17] - one().pair_marginals
    np.testing.assert_allclose(by_a, pairs.sum(0), atol=2e-6)
    twice = jax.jit(jax.grad(lambda e: (jax.grad(of)(e, A) ** 2).sum()))(E[0])
    expected = -2 * np.tensordot(one().statistics[17] - one().marginals, one().covariance, 2)
    np.testing.assert_allclose(twice, expected, atol=5e-6)


def test_a_chain_is_clamped_as_a_whole():
    path = one().statistics[40]
    clamped = cg.clamp(below, {"tags": jnp.asarray(path, jnp.float32)})
    np.testing.assert_allclose(clamped(E[0]), child_mean(path), rtol=2e-6)
    assert_identical(cg.with_nodes(cg.mode(clamped))(E[0])[1].keys(), {"child": 0}.keys())


def test_straight_through_passes_the_derivative_of_the_marginals():
    net = lambda e: (cg.node(LinearChain(A, START), e, name="tags") * EDGES[0, :1, :, 0]).sum()  # noqa: E731
    through = cg.forward_sample(net, estimator="straight_through")
    got = jax.jit(jax.grad(lambda e: through(KEY, e)))(E[0])
    weights = np.broadcast_to(np.asarray(EDGES[0, :1, :, 0]), (LENGTH, STATES))
    np.testing.assert_allclose(got, np.tensordot(weights, one().covariance, 2), atol=3e-6)
    pathwise = jax.jit(jax.grad(lambda e: cg.forward_sample(net)(KEY, e)))(E[0])
    assert not pathwise.any()


def test_chains_inside_a_scan():
    def net(e: Any) -> Any:
        def step(last: Any, e: Any) -> Any:
            tags = cg.node(LinearChain(A, START), e + 0.1 * last, name="tags")
            return tags, tags

        return jax.lax.scan(step, jnp.zeros((LENGTH, STATES)), e)[1]

    out = cg.feed_forward(net)(E)
    last = np.zeros((LENGTH, STATES))
    for row in range(ROWS):
        last = enumerated(np.asarray(E[row], np.float64) + 0.1 * last, A, None, START).marginals
        np.testing.assert_allclose(out[row], last, rtol=2e-5)
    drawn = cg.forward_sample(net)(KEY, E)
    assert (np.asarray(drawn).sum(-1) == 1).all()


def test_the_graph_has_one_component_a_chain():
    graph = cg.chain_graph(below)(E[0])
    assert "LinearChain" in str(graph) and "tags" in str(graph)


def test_moments_are_first_order():
    """Exact where e is certain; of a small variance, the marginals' is close to first order's."""
    net = lambda e: cg.node(LinearChain(A, START), e, name="tags")  # noqa: E731
    variance = 1e-3 * jnp.ones_like(E[0])
    belief = jax.jit(lambda e, v: cg.moments(net)(cg.Belief(e, v)))(E[0], variance)
    np.testing.assert_allclose(belief.mean, one().marginals, rtol=2e-5)
    full = (one().covariance ** 2).sum((2, 3)) * 1e-3
    near = one().covariance.copy()
    for s in range(LENGTH):
        for t in range(LENGTH):
            if abs(s - t) > 1:
                near[s, :, t] = 0
    np.testing.assert_allclose(belief.variance, (near**2).sum((2, 3)) * 1e-3, rtol=2e-4)
    assert (belief.variance <= full * (1 + 1e-4)).all()
    random = cg.moments(net, nodes="random")(cg.Belief(E[0], variance))
    np.testing.assert_allclose(random.variance, one().marginals * (1 - one().marginals), rtol=2e-5)


def test_a_sharded_batch_and_a_rematerialised_scan_change_nothing():
    """A batch over four devices, in a scan of `remat`: the same values, draws and gradients."""
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    e = jnp.tile(E[:2], (4, 1, 1))

    def net(a: Any, e: Any) -> Any:
        @jax.checkpoint
        def step(last: Any, _: None) -> Any:
            tags = cg.node(LinearChain(a, START), e + last, name="tags")
            return tags, tags

        return jax.lax.scan(step, jnp.zeros_like(e), None, length=2)[1]

    @jax.jit
    def everything(a: Any, e: Any) -> Any:
        drawn = cg.forward_sample(net)(KEY, a, e)
        of = lambda a: jax.vmap(  # noqa: E731
            lambda e, drawn: cg.log_joint(net)({"tags": drawn}, a, e), (0, 1)
        )(e, drawn)
        return drawn, cg.feed_forward(net)(a, e), jax.grad(lambda a: of(a).sum())(a)

    drawn, *values = everything(A, e)
    drawn_apart, *values_apart = everything(A, jax.device_put(e, split))
    assert len(values_apart[0].sharding.device_set) == 4
    assert_identical(drawn_apart, drawn)
    # Sums over fewer rows: rounding.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 2e-6, 5e-6), values_apart, values)
    gradient = np.zeros((STATES, STATES))
    marginals = []
    for row in range(8):  # and they are right
        last = np.zeros((LENGTH, STATES))
        path = np.asarray(drawn[:, row], np.float64)
        for step in range(2):
            if row < 2:
                last = enumerated(np.asarray(e[row]) + last, A, None, START).marginals
            before = path[step - 1] if step else 0
            known = enumerated(np.asarray(e[row]) + before, A, None, START)
            pairs = np.einsum("ti,tj->ij", path[step, :-1], path[step, 1:])
            gradient += pairs - known.pair_marginals.sum(0)
        marginals.append(last)
    np.testing.assert_allclose(values[0][1, :2], marginals[:2], rtol=2e-5)
    np.testing.assert_allclose(values[1], gradient, atol=2e-5)
