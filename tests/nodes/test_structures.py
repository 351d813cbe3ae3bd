"""Trees and semi-Markov sequences as families and in every procedure, against enumeration."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax.nodes import LinearChain, SemiMarkov, Tree
from tests.helpers import assert_identical
from tests.nodes.structure_oracle import (
    DURATIONS,
    LENGTHS,
    PARENTS,
    K,
    Listed,
    listed_segments,
    listed_tree,
)

KEY = jax.random.key(5)
_draw = np.random.default_rng(4)


def _normal(*shape: int) -> np.ndarray:
    return _draw.normal(size=shape).astype(np.float32)


class Case(NamedTuple):
    """A family, its parameters by name, and potentials of two rows."""

    family: Any
    parameters: dict[str, Any]
    e: np.ndarray
    listed: Any

    def row(self, row: int) -> Listed:
        return self.listed(self.parameters, self.e[row], row)


def case(name: str, change: Any = lambda x: x) -> Case:
    """A case, with its potentials changed: values only, so that what is compiled is shared."""
    e, *parameters = map(change, {"tree": TREE, "semi-Markov": SEMI_MARKOV}[name])
    if name == "tree":
        return Case(Tree(PARENTS, *parameters), {"transitions": parameters[0]}, e, listed_tree)
    named: dict[str, Any] = dict(zip(("transitions", "start", "end"), parameters, strict=True))
    family = SemiMarkov(named["transitions"], DURATIONS, named["start"], named["end"], LENGTHS_OF)
    return Case(family, named, e, listed_segments)


LENGTHS_OF = jnp.array(LENGTHS)
TREE = _normal(2, len(PARENTS), K), _normal(len(PARENTS), K, K)
SEMI_MARKOV = _normal(2, 4, DURATIONS, K), _normal(K, K), _normal(K), _normal(K)
NAMES = ("tree", "semi-Markov")


@jax.jit
def facts(family: Any, e: Any, values: Any) -> dict[str, Any]:
    """What a family knows about e, and how probable values are in each row."""
    row = tuple(range(1, e.ndim))

    def log_prob(x: Any) -> Any:
        return family.log_prob(jnp.broadcast_to(x, e.shape), e).sum(row)

    def log_partition(family: Any, e: Any) -> Any:
        return family.log_partition(e).sum()

    return {
        "mean": family.mean(e),
        "variance": family.variance(e),
        "log_partition": family.log_partition(e),
        "entropy": family.entropy(e),
        "pairs": family.pair_marginals(e),
        "mode": family.mode(e),
        "sample": family.sample(KEY, e),
        "log_probs": jax.lax.map(log_prob, values),
        "slopes": jax.grad(log_partition, (0, 1), allow_int=True)(family, e),
        "wobble": family.moments(e, jnp.ones_like(e))[1].variance,
    }


def found(case: Case) -> dict[str, Any]:
    values = jnp.asarray(case.row(0).values, jnp.float32)
    return jax.tree.map(np.asarray, facts(case.family, jnp.asarray(case.e), values))


def hard(x: np.ndarray) -> np.ndarray:
    """Potentials of all sizes, and some that forbid."""
    x = x * np.float32(100)
    x.flat[2:3] = -1e4
    x.flat[3:4] = -np.inf
    return x


@pytest.mark.parametrize("change", [lambda x: x, hard], ids=["usual", "hard"])
@pytest.mark.parametrize("name", NAMES)
def test_everything_is_the_enumeration(name, change):
    given = case(name, change)
    got = found(given)
    # Float32, of sums of potentials of this size.
    error = 3e-4 if change is hard else 3e-6
    sums = np.zeros(1)
    for row in range(2):
        exact = given.row(row)
        pairs = np.tensordot(exact.p, exact.pairs, 1)
        sums = sums + pairs
        expected = {
            "mean": exact.marginals,
            "variance": exact.marginals * (1 - exact.marginals),
            "log_partition": exact.log_partition,
            "entropy": exact.entropy,
            "pairs": pairs,
            "wobble": (exact.covariance**2 * near(name)).sum(1).reshape(given.e.shape[1:]),
        }
        for what, value in expected.items():
            np.testing.assert_allclose(got[what][row], value, 2e-5, error, err_msg=what)
        np.testing.assert_allclose(got["slopes"][1][row], exact.marginals, atol=error)
        assert_identical(got["mode"][row], exact.values[exact.scores.argmax()].astype(np.float32))
        assert any((value == got["sample"][row]).all() for value in exact.values)
        known = {value.tobytes(): p for value, p in zip(exact.values, exact.log_p, strict=True)}
        for value, log_prob in zip(given.row(0).values, got["log_probs"][:, row], strict=True):
            read = value.copy()
            if name == "semi-Markov":
                read[LENGTHS[row] :] = 0  # what is beyond the length is not read
            log_p = known.get(read.tobytes(), -np.inf)
            np.testing.assert_allclose(log_prob, log_p, 2e-5, 10 * error)
    slope = got["slopes"][0].transitions
    np.testing.assert_allclose(slope, sums if name == "tree" else sums.sum(0), atol=2 * error)


LISTED = 20  # more than there are of the shorter sequence


@jax.jit
def best_ones(family: Any, e: Any) -> Any:
    values, log_probs = family.top(e, LISTED)
    slope = jax.grad(lambda e: (family.top(e, LISTED)[1][3]).sum())(e)
    small = family.top(e.astype(jnp.bfloat16), 2)
    return values, log_probs, slope, family.mode(e), small


@pytest.mark.parametrize("change", [lambda x: x, hard, np.round], ids=["usual", "hard", "ties"])
@pytest.mark.parametrize("name", NAMES)
def test_the_most_probable_values_are_those_of_the_enumeration(name, change):
    given = case(name, change)
    got = jax.tree.map(np.asarray, best_ones(given.family, jnp.asarray(given.e)))
    values, log_probs, slope, mode, small = got
    assert_identical(values[0], mode)
    assert small[0].dtype == jnp.bfloat16 and small[1].dtype == np.float32
    error = 3e-3 if change is hard else 5e-6
    for row in range(2):
        exact = given.row(row)
        known = {
            x.astype(np.float32).tobytes(): p
            for x, p in zip(exact.values, exact.log_p, strict=True)
        }
        expected = np.sort(exact.log_p)[::-1][:LISTED]
        expected = np.pad(expected, (0, LISTED - len(expected)), constant_values=-np.inf)
        np.testing.assert_allclose(log_probs[:, row], expected, 2e-5, error)
        assert (np.diff(log_probs[expected > -np.inf, row]) <= 0).all()
        found = values[expected > -np.inf, row]
        assert len({x.tobytes() for x in found}) == len(found)
        own = [known[x.tobytes()] for x in found]
        np.testing.assert_allclose(own, expected[expected > -np.inf], 2e-5, error)
        assert not values[expected == -np.inf, row].any()
        # float32; of large potentials, of sums that differ by roundings.
        fourth = values[3, row] - exact.marginals
        np.testing.assert_allclose(slope[row], fourth, atol=3e-4 if change is hard else 3e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_most_probable_values_of_rows_under_vmap_and_of_nothing(name):
    """As in a batch; NaN where nothing is possible."""
    given = case(name)
    family, e = given.family, given.e.copy()
    e[0] = -np.inf
    usual, nothing = (best_ones(family, jnp.asarray(x))[:2] for x in (given.e, e))
    assert all(np.isnan(x[:, 0]).all() for x in nothing)
    assert_identical(nothing[0][:, 1], usual[0][:, 1])

    @jax.jit
    @jax.vmap
    def rows(lengths: Any, e: Any) -> Any:
        own = family if name == "tree" else dataclasses.replace(family, lengths=lengths)
        return own.top(e, LISTED)

    values, log_probs = (jnp.swapaxes(x, 0, 1) for x in rows(LENGTHS_OF, jnp.asarray(given.e)))
    assert_identical(values, usual[0])
    np.testing.assert_allclose(log_probs, usual[1], atol=1e-6)  # float32 rounding


def near(name: str) -> np.ndarray:
    """Which elements' potentials `moments` counts for each element, (elements, elements)."""
    if name == "semi-Markov":
        return np.kron(np.eye(4), np.ones((DURATIONS * K, DURATIONS * K)))
    touching = np.eye(len(PARENTS))
    for node, parent in enumerate(PARENTS):
        if parent >= 0:
            touching[node, parent] = touching[parent, node] = 1
    return np.kron(touching, np.ones((K, K)))


# -- what is impossible, and what is wrong


@pytest.mark.parametrize("name", NAMES)
def test_nothing_possible(name):
    """A row of which nothing is possible leaves the other one as it is."""
    given = case(name)
    blocked = given.e.copy()
    blocked[0, 2] = -np.inf
    if name == "semi-Markov":
        blocked[0, :2] = -np.inf
    with pytest.raises(ValueError, match=r"1 of 2 .* no possible .* \(the first: \(0,\)\)"):
        given.family.mean(blocked)
    got, usual = found(given._replace(e=blocked, listed=lambda *_: given.row(0))), found(given)
    assert got["log_partition"][0] == -np.inf
    assert not got["mean"][0].any() and not got["pairs"][0].any() and not got["wobble"][0].any()
    assert np.isnan(got["mode"][0]).all() and np.isnan(got["sample"][0]).all()
    assert not got["slopes"][1][0].any()
    for what in ("mean", "log_partition", "entropy", "mode", "sample", "pairs"):
        assert_identical(got[what][1], usual[what][1])
    unknown = blocked.copy()
    unknown[0, 2] = np.nan
    got = found(given._replace(e=unknown, listed=lambda *_: given.row(0)))
    assert np.isnan(got["mode"][0]).all() and np.isnan(got["log_partition"][0])
    assert_identical(got["mean"][1], usual["mean"][1])


def test_a_sequence_without_positions_is_one_way_to_be():
    given, usual = case("semi-Markov"), found(case("semi-Markov"))
    family = dataclasses.replace(given.family, lengths=jnp.array([LENGTHS[0], 0]))
    got = found(given._replace(family=family))
    for what in ("mean", "log_partition", "entropy", "pairs", "mode", "sample"):
        assert not got[what][1].any(), what
        assert_identical(got[what][0], usual[what][0])
    assert not got["log_probs"][:, 1].any()  # whatever is beyond is not read


EYE = np.eye(K, dtype=np.float32)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Tree((0, -1), EYE), ValueError, "cycle: the parents of node 0 -> 0 lead back"),
        (lambda: Tree((-1, 2, 3, 1), EYE), ValueError, "node 1 -> 2 -> 3 -> 1 lead back"),
        (
            lambda: Tree((-1, 2), EYE),
            ValueError,
            "parent of node 1 is 2; expected one of the nodes",
        ),
        (lambda: Tree((-2, 0), EYE), ValueError, "parent of node 0 is -2.*or -1 if"),
        (lambda: Tree((), EYE), TypeError, "at least one integer"),
        (lambda: Tree(np.array([-1, 0.5]), EYE), TypeError, "at least one integer"),
        (lambda: jax.eval_shape(lambda p: Tree(p, EYE), LENGTHS_OF), TypeError, "known when the"),
        (lambda: Tree(PARENTS, EYE[:1]), ValueError, r"of the parent \(row\).*got shape \(1, 2\)"),
        (lambda: Tree((-1, 0), EYE).mean(TREE[0]), ValueError, "2 parents.*has 5 nodes"),
        (lambda: Tree(PARENTS, np.eye(3)).mean(TREE[0]), ValueError, "for 3 states.*has 2"),
        (lambda: Tree(PARENTS, TREE[1][:2]).mean(TREE[0]), ValueError, "2 matrices for 5 nodes"),
        (lambda: Tree(PARENTS, EYE * np.nan), ValueError, "Tree.transitions must be finite"),
        (lambda: Tree(PARENTS, EYE).mean(TREE[0][0, 0]), ValueError, "nodes of the tree, states"),
        (lambda: Tree(PARENTS, EYE).top(TREE[0], 33), ValueError, "1 to 32 values.*got 33"),
        (lambda: SemiMarkov(EYE, 3).top(SEMI_MARKOV[0], 53), ValueError, "1 to 52.*got 53"),
        (lambda: SemiMarkov(EYE, 3).top(SEMI_MARKOV[0], 0), ValueError, "at least 1, got 0"),
        (lambda: SemiMarkov(EYE, 0), ValueError, "at least 1, got 0"),
        (lambda: SemiMarkov(EYE, 2).scores(EYE[0]), ValueError, r"positions, states\), got shape"),
        (lambda: SemiMarkov(EYE, True), TypeError, "is an integer.*got True"),
        (lambda: SemiMarkov(EYE, 2, EYE[0, :1]), ValueError, "SemiMarkov.start.*last axis"),
        (lambda: SemiMarkov(EYE, 2, lengths=EYE), TypeError, "lengths must be integers"),
        (lambda: SemiMarkov(EYE, 2).mean(SEMI_MARKOV[0]), ValueError, r"positions, 2, states.*`sc"),
        (
            lambda: SemiMarkov(EYE, 3, lengths=LENGTHS_OF + 1).mean(SEMI_MARKOV[0]),
            ValueError,
            "from 0 to 4.*got 4 to 5",
        ),
        (
            lambda: SemiMarkov(TREE[1], 3).mean(SEMI_MARKOV[0]),
            ValueError,
            r"one matrix, \(K, K\), or one for each",
        ),
    ],
)
def test_what_does_not_fit_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()


# -- chains, and shapes at the ends of what is possible


@jax.jit
def the_same(family: Any, e: Any) -> dict[str, Any]:
    """What families of paths know."""
    shape = (*e.shape[:1], -1)
    return {
        "mean": family.mean(e).reshape(shape),
        "log_partition": family.log_partition(e),
        "entropy": family.entropy(e),
        "mode": family.mode(e).reshape(shape),
        "sample": family.sample(KEY, e).reshape(shape),
    }


def test_paths_are_linear_chains():
    e, a = jnp.asarray(SEMI_MARKOV[0].reshape(2, 12, K)), jnp.asarray(TREE[1][0])
    expected = the_same(LinearChain(a), e)
    for got in (
        the_same(Tree(np.arange(-1, 11), a), e),
        the_same(SemiMarkov(a, 1), e[:, :, None]),
    ):
        assert (got.pop("sample").sum(1) == 12).all()  # equal in law, not in its words
        for what, value in got.items():
            np.testing.assert_allclose(value, expected[what], 3e-5, 3e-6, err_msg=what)


def test_one_node_and_one_state():
    """A Categorical, and what is certain."""
    one = the_same(Tree((-1,), EYE), jnp.asarray(TREE[0][:, :1]))
    p = np.exp(TREE[0][:, 0]) / np.exp(TREE[0][:, 0]).sum(1, keepdims=True)
    np.testing.assert_allclose(one["mean"], p, rtol=2e-6)
    np.testing.assert_allclose(one["entropy"], -(p * np.log(p)).sum(1), rtol=2e-5)
    found = the_same(Tree(PARENTS, np.full((1, 1), 3, np.float32)), jnp.ones((2, 5, 1)))
    np.testing.assert_allclose(found["log_partition"], 5 + 3 * 3)
    assert (found["mean"] == 1).all() and (found["sample"] == 1).all()
    assert not found["entropy"].any()


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name):
    @jax.jit
    def of(f: Any, e: Any) -> Any:
        return f.activation(e), f.activation(e.astype(jnp.float32))

    given = case(name)
    narrow, wide = of(given.family, jnp.asarray(given.e, jnp.bfloat16))
    assert wide.dtype == jnp.float32
    assert_identical(narrow, wide.astype(jnp.bfloat16))


def test_deep_and_wide_trees():
    n = 1000
    e, a = jnp.asarray(100 * _normal(1, n, K)), jnp.asarray(_normal(K, K))
    of = jax.jit(jax.value_and_grad(lambda f, e: f.log_partition(e)[0], 1))
    log_z, slope = of(Tree(range(-1, n - 1), a), e)
    chain, marginals = of(LinearChain(a), e)
    np.testing.assert_allclose(log_z, chain, rtol=1e-6)
    np.testing.assert_allclose(slope, marginals, atol=2e-5)
    # A star: each leaf is independent given the centre, node 0.
    log_z, slope = of(Tree((-1,) + (0,) * (n - 1), a), e)
    wide = np.asarray(e[0], np.float64)
    leaves = np.asarray(a, np.float64) + wide[1:, None]
    messages = np.logaddexp.reduce(leaves, 2).sum(0) + wide[0]
    np.testing.assert_allclose(log_z, np.logaddexp.reduce(messages), rtol=1e-6)
    centre = np.exp(messages - np.logaddexp.reduce(messages))
    given = np.exp(leaves - np.logaddexp.reduce(leaves, 2, keepdims=True))
    # Sums of a thousand potentials of size 100, in float32, decide on the centre.
    np.testing.assert_allclose(slope[0, 1:], np.einsum("l,nlk->nk", centre, given), atol=0.03)


def test_scores_and_labels_are_transposed():
    family, positions = SemiMarkov(EYE, DURATIONS), jnp.asarray(TREE[0])
    scores = family.scores(positions)
    assert scores.shape == (2, 5, DURATIONS, K)
    np.testing.assert_allclose(scores[1, 2, 1], TREE[0][1, 2] + TREE[0][1, 3], rtol=1e-6)
    x = jnp.asarray(_normal(*scores.shape))
    pulled = jax.vjp(family.scores, positions)[1](x)[0]
    np.testing.assert_allclose(family.labels(x), pulled, rtol=1e-5, atol=1e-6)


# -- procedures: a component with a child, of the second row


def alone(family: Any, e: Any) -> Any:
    return cg.node(family, e, name="z")


def below(family: Any, e: Any) -> Any:
    """A component with a child."""
    z = alone(family, e)
    child = cg.node(cg.nodes.Spin(), (z * weights(e.shape)).sum() - 0.5, name="child")
    return 2 * child + child * z.sum(0).ravel()[0]


def weights(shape: Any) -> np.ndarray:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def child_mean(values: np.ndarray) -> np.ndarray:
    """E[the output] given values of the component, (number, *shape)."""
    child = np.tanh((values * weights(values.shape[1:])).reshape(len(values), -1).sum(1) - 0.5)
    return 2 * child + child * values.sum(1).reshape(len(values), -1)[:, 0]


ROWS = 500


@jax.jit
def procedures(family: Any, e: Any, x: Any, known: Any) -> dict[str, Any]:
    """One row in the procedures; x is a value of it, known in part."""
    many = jnp.broadcast_to(e, (ROWS, *e.shape))
    clamped = cg.clamp(alone, {"z": cg.PartlyKnown(x, known)})
    log_joint = lambda e: cg.log_joint(alone)({"z": x}, family, e)  # noqa: E731
    return {
        "feed_forward": cg.feed_forward(below)(family, e),
        "exact": cg.with_nodes(cg.exact_marginals(below))(family, e),
        "samples": cg.forward_sample(alone)(KEY, family, many),
        "mapped": cg.forward_sample(jax.vmap(alone, (None, 0)))(KEY, family, many),
        "half": cg.pcff(alone, {"z": 0.5})(KEY, family, many),
        "log_joint": jax.value_and_grad(log_joint)(e),
        "partly": clamped(family, e),
    }


def second_row(name: str) -> tuple[Case, Any, Listed]:
    """The case, its family of the second row alone, and that row's values."""
    given = case(name)
    family = given.family
    if name == "semi-Markov":
        start, end = given.parameters["start"], given.parameters["end"]
        family = SemiMarkov(given.parameters["transitions"], DURATIONS, start, end, LENGTHS_OF[1])
    return given, family, given.row(1)


@pytest.mark.parametrize("name", NAMES)
def test_procedures(name):
    given, family, exact = second_row(name)
    values, p = exact.values, exact.p
    chosen = values[len(values) // 2]
    known = chosen.sum(-1) > 0
    known.ravel()[known.ravel().nonzero()[0][1:]] = False  # one position, or one segment
    got = procedures(family, jnp.asarray(given.e[1]), jnp.asarray(chosen, jnp.float32), known)
    got = jax.tree.map(np.asarray, got)
    np.testing.assert_allclose(got["feed_forward"], child_mean(exact.marginals[None])[0], 2e-5)
    out, nodes = got["exact"]
    np.testing.assert_allclose(out, p @ child_mean(values), 1e-5)
    np.testing.assert_allclose(nodes["z"], exact.marginals, atol=5e-6)

    number = {value.astype(np.float32).tobytes(): i for i, value in enumerate(values)}
    counts = np.bincount([number[draw.tobytes()] for draw in got["samples"]], minlength=len(p))
    assert (np.abs(counts - ROWS * p) < 5 * np.sqrt(ROWS * p * (1 - p)) + 1).all()
    assert_identical(got["mapped"], got["samples"])
    hard = (got["half"] == got["samples"]).reshape(ROWS, -1).all(1)
    assert abs(hard.mean() - 0.5) < 5 * 0.5 / ROWS**0.5
    soft = got["half"][~hard]
    np.testing.assert_allclose(soft, np.broadcast_to(exact.marginals, soft.shape), atol=5e-6)

    which = number[chosen.astype(np.float32).tobytes()]
    np.testing.assert_allclose(got["log_joint"][0], exact.log_p[which], rtol=1e-5)
    np.testing.assert_allclose(got["log_joint"][1], chosen - exact.marginals, atol=5e-6)
    fits = (values[:, known] == chosen[known]).all((1, 2))
    expected = np.tensordot(p * fits, values, 1) / (p * fits).sum()
    np.testing.assert_allclose(got["partly"], expected, atol=5e-6)


@jax.jit
def other_procedures(family: Any, e: Any) -> dict[str, Any]:
    """What asks a family for nothing that differs between the two."""
    w = weights(e.shape)
    sampled = cg.forward_sample(alone, estimator="straight_through")

    def in_scan(family: Any, e: Any) -> Any:
        def step(last: Any, _: None) -> Any:
            z = cg.node(family, e + last, name="z")
            return z, z

        return jax.lax.scan(step, 0 * e, None, length=2)[1]

    return {
        "exact alone": cg.exact_marginals(alone)(family, e),
        "mode": cg.with_nodes(cg.mode(below))(family, e)[1]["z"],
        "monte carlo": cg.monte_carlo(cg.forward_sample(below), ROWS)(KEY, family, e),
        "through": jax.grad(lambda e: (sampled(KEY, family, e) * w).sum())(e),
        "moments": cg.moments(alone, nodes="random")(family, cg.Belief(e, 0.1 * jnp.ones_like(e))),
        "scan": cg.feed_forward(in_scan)(family, e),
    }


def test_other_procedures():
    given, family, exact = second_row("semi-Markov")
    got = jax.tree.map(np.asarray, other_procedures(family, jnp.asarray(given.e[1])))
    close = lambda what, value: np.testing.assert_allclose(got[what], value, 2e-5, 5e-6)  # noqa: E731
    close("exact alone", exact.marginals)
    assert_identical(got["mode"], exact.values[exact.p.argmax()].astype(np.float32))
    estimate = got["monte carlo"]
    mean = exact.p @ child_mean(exact.values)
    assert abs(estimate.mean - mean) < 5 * estimate.standard_error
    shape = exact.marginals.shape
    close("through", (exact.covariance @ weights(shape).ravel()).reshape(shape))
    close("moments", [exact.marginals, exact.marginals * (1 - exact.marginals)])
    again = given.listed(given.parameters, given.e[1] + exact.marginals, 1)
    close("scan", [exact.marginals, again.marginals])


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_of_derivatives(name):
    given, family, exact = second_row(name)
    chosen = exact.values[3]

    @jax.jit
    def twice(family: Any, e: Any, x: Any) -> Any:
        of = lambda e: family.log_prob(x, e).sum()  # noqa: E731
        return jax.grad(lambda e: (jax.grad(of)(e) ** 2).sum())(e)

    got = twice(family, jnp.asarray(given.e[1]), jnp.asarray(chosen, jnp.float32))
    expected = -2 * exact.covariance @ (chosen - exact.marginals).ravel()
    np.testing.assert_allclose(np.asarray(got).ravel(), expected, 2e-5, 5e-6)


def test_known_segments_leave_no_room_for_others():
    family, e = SemiMarkov(EYE, 2), jnp.zeros((3, 2, K))
    x = np.full((4, *e.shape), np.nan, np.float32)
    x[:, 1, 1] = 0, 1  # of label 1, from position 1 to the end
    x[1, 0, 1] = 1, 0  # another one that overlaps
    x[2, 1, 1] = 0  # known not to be there
    x[3, 1, 1] = 0.5  # no value
    given = jax.jit(jax.vmap(family.conditioned, (None, 0)))(e, x)
    # It, and what ends before it; nothing where two overlap; all others; nothing.
    possible = np.isfinite(given).sum((1, 2, 3))
    np.testing.assert_array_equal(possible, [1 + K, 0, e.size - K, 0])


def test_equal_families_are_equal_and_graphs_say_what_touches():
    for name, words in zip(NAMES, ("parents and children in a tree", "segments"), strict=True):
        family, e = case(name).family, jnp.asarray(case(name).e)
        assert family == case(name).family and hash(family) == hash(case(name).family)
        assert words in str(cg.chain_graph(lambda e, f=family: cg.node(f, e, name="z"))(e))
    assert Tree((-1, 0), EYE) != Tree((1, -1), EYE)
    assert SemiMarkov(EYE, 2) != SemiMarkov(EYE, 3)
