"""Equal functions are lifted alike: the same families, the same output flags, the same verdicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax._program import trace

X = jax.random.normal(jax.random.key(1), (5, 4))
W = jax.random.normal(jax.random.key(2), (4, 4))


def seen(net, *args, **options):
    """What a procedure and a reader get to know of a lifted network: nodes, and verdicts."""
    lifted = cg.lift(net, **options)
    sites = trace(lifted, args).sites
    nodes = [(site.family_type.__name__, site.shape, site.output) for site in sites]
    return nodes, [(e.function, e.optional) for e in lifted.report(*args).skipped]


def exp_over_sum(e, axis):
    return e / e.sum(axis, keepdims=True)


SIGN_CHOICES = (
    lambda x, above, below: jnp.where(x > 0, above, below),
    lambda x, above, below: jnp.where(0 <= x, above, below),
    lambda x, above, below: jnp.where(x < 0, below, above),
    lambda x, above, below: jnp.where(~(x > 0), below, above),
    lambda x, above, below: jnp.select([x > 0], [above], below),
    lambda x, above, below: jnp.select([x <= 0], [below], above),
    lambda x, above, below: jnp.select([x < 0, x >= 0], [below, above]),
)
WAYS = {
    "ReLU": [
        jax.nn.relu,
        lambda x: jnp.maximum(x, 0),
        lambda x: lax.max(jnp.zeros_like(x), x),
        lambda x: -jnp.minimum(-x, 0),
        lambda x: x * (x > 0),
        lambda x: x * (x >= 0).astype(int),
        lambda x: x * jnp.where(x > 0, 1.0, 0.0),
        lambda x: x * jnp.heaviside(x, 0.0),
        lambda x: jnp.heaviside(x, 0.5) * x,
        lambda x: (x + jnp.abs(x)) / 2,
        lambda x: 0.5 * jnp.abs(x) + x / 2,
        *(lambda x, c=c: c(x, x, jnp.zeros_like(x)) for c in SIGN_CHOICES),
    ],
    "LeakyReLU": [
        lambda x: jax.nn.leaky_relu(x, 0.25),
        lambda x: jnp.maximum(x / 4, x),
        lambda x: jax.nn.relu(x) + 0.25 * jnp.minimum(x, 0),
        lambda x: jax.nn.relu(x) - jax.nn.relu(-x) / 4,
        lambda x: x * jnp.where(x > 0, 1, 0.25),
        *(lambda x, c=c: c(x, x, x / 4) for c in SIGN_CHOICES),
    ],
    "Spin": [
        jnp.tanh,
        lambda x: jnp.sinh(x) / jnp.cosh(x),
        lambda x: (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(-x) + jnp.exp(x)),
        lambda x: (1 - jnp.exp(-2 * x)) / (1 + jnp.exp(-2 * x)),
    ],
    "Bernoulli": [
        jax.nn.sigmoid,
        lambda x: 1 / (1 + jnp.exp(-x)),
        lambda x: (jnp.exp(-x) + 1) ** -1,
        lambda x: jnp.reciprocal(1 + 1 * jnp.exp(-x)),
        lambda x: jnp.exp(x) / (jnp.exp(x) + 1),
        lambda x: (1 + jnp.tanh(x / 2)) / 2,
        lambda x: 0.5 * jnp.tanh(0.5 * x) + 0.5,
        lambda x: jnp.exp(-jax.nn.softplus(-x)),
        lambda x: 1 / (1 + jnp.exp(x)),  # of -x
        lambda x: (1 / (1 + jnp.exp(-x).astype(jnp.float32))).astype(x.dtype),
    ],
    "Softplus": [
        jax.nn.softplus,
        lambda x: jnp.logaddexp(x, 0),
        lambda x: jnp.log1p(jnp.exp(x)),
        lambda x: jnp.log(jnp.exp(x) + 1),
        lambda x: jnp.log1p(jnp.exp(-jnp.abs(x))) + jnp.maximum(x, 0),
    ],
}
# The same function again, with nothing around it or with something that changes no number.
AROUND = {
    "nothing": lambda f: f,
    "jit": lambda f: jax.jit(lambda x: jax.jit(f)(x)),
    "remat": jax.checkpoint,
    "a map": jax.vmap,
    "a map over columns": lambda f: jax.vmap(f, 1, 1),
    "a map that turns": lambda f: lambda x: jax.vmap(f, 1, 0)(x).T,
    "a scan": lambda f: lambda x: lax.scan(lambda c, row: (c, f(row)), 0.0, x)[1],
    "a branch": lambda f: lambda x: lax.cond(x.sum() > 0, f, f, x),
    "a barrier": lambda f: lambda x: lax.optimization_barrier(f(lax.optimization_barrier(x))),
    "added axes": lambda f: lambda x: f(x[:, None, :])[:, 0],
}


def as_output(f):
    return lambda x, w: f(x @ w)


def as_hidden(f):
    return lambda x, w: f(x @ w) @ w


@pytest.mark.parametrize("family", WAYS)
def test_an_activation_is_lifted_in_every_way_of_writing_it(family):
    for number, way in enumerate(WAYS[family]):
        for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
            x, w = X.astype(dtype), W.astype(dtype)
            output = (number + (dtype == jnp.bfloat16)) % 2 == 0
            nodes, skipped = seen((as_output if output else as_hidden)(way), x, w)
            assert nodes == [(family, (5, 4), output)] and not skipped, (number, dtype)


@pytest.mark.parametrize("family", WAYS)
@pytest.mark.parametrize("around", AROUND)
def test_an_activation_is_lifted_whatever_stands_around_it(family, around):
    ways = WAYS[family]
    for number in (0, len(ways) // 2, len(ways) - 1):
        output = number % 2 == 0
        net = (as_output if output else as_hidden)(AROUND[around](ways[number]))
        nodes, skipped = seen(net, X, W)
        assert [n[0] for n in nodes] == [family] * (2 if around == "a branch" else 1), number
        assert {n[2] for n in nodes} == {output} and not skipped, number


THERE_AND_BACK = (
    lambda a: lax.reshape(lax.expand_dims(a, (1,)), a.shape),
    lambda a: a.T.T,
    lambda a: a[:, None, ::-1][:, 0, ::-1],
)


@pytest.mark.parametrize("moved", THERE_AND_BACK)
@pytest.mark.parametrize("family", ["ReLU", "Spin", "Bernoulli"])
def test_an_activation_that_is_moved_there_and_back_is_one_node_for_all_its_uses(family, moved):
    act = WAYS[family][0]

    def net(w, x):
        a = act(x @ w)
        return moved(a) @ w, a @ w, (x @ w).T  # a place where the moved one could be a node

    plain = cg.lift(lambda w, x: act(x @ w) @ w)
    lifted = cg.lift(net)
    assert [e.family for e in lifted.report(W, X).lifted] == [family]
    once, again, _ = cg.forward_sample(lifted)(jax.random.key(0), W, X)
    assert np.array_equal(once, again)
    assert np.array_equal(once, cg.forward_sample(plain)(jax.random.key(0), W, X))


def test_an_activation_is_lifted_in_double_precision():
    with jax.enable_x64(True):
        x, w = jnp.asarray(X, jnp.float64), jnp.asarray(W, jnp.float64)
        for family, ways in WAYS.items():
            for way in ways[:3]:
                assert seen(as_hidden(way), x, w) == ([(family, (5, 4), False)], [])
        for way in ("library", "divided in float32", "less logsumexp"):
            softmax = lambda x, way=way: SOFTMAX[way](x, 0)  # noqa: E731
            assert seen(as_output(softmax), x, w) == ([("Categorical", (5, 4), True)], [])


SOFTMAX = {
    "library": lambda x, k: jax.nn.softmax(x, k),
    "of some": lambda x, k: jax.nn.softmax(x, k, where=x > -9),
    "by hand": lambda x, k: jnp.exp(x) / jnp.exp(x).sum(k, keepdims=True),
    "axis added later": lambda x, k: jnp.exp(x) / jnp.expand_dims(jnp.exp(x).sum(k), k),
    "less the largest": lambda x, k: exp_over_sum(jnp.exp(x - x.max(k, keepdims=True)), k),
    "less the largest, fixed": lambda x, k: exp_over_sum(
        jnp.exp(x - lax.stop_gradient(x.max(k, keepdims=True))), k
    ),
    "less a number": lambda x, k: exp_over_sum(jnp.exp(x - 5), k),
    "times the inverse": lambda x, k: jnp.exp(x) * (1 / jnp.exp(x).sum(k, keepdims=True)),
    "exp of log_softmax": lambda x, k: jnp.exp(jax.nn.log_softmax(x, k)),
    "less logsumexp": lambda x, k: jnp.exp(x - jax.nn.logsumexp(x, k, keepdims=True)),
    "less logsumexp, axis added": lambda x, k: jnp.exp(
        x - jnp.expand_dims(jax.scipy.special.logsumexp(x, axis=k), k)
    ),
    "less the logarithm": lambda x, k: jnp.exp(x - jnp.log(jnp.exp(x).sum(k, keepdims=True))),
    "in float32 between": lambda x, k: jax.nn.softmax(x.astype(jnp.float32), k).astype(x.dtype),
    "summed in float32": lambda x, k: (
        jnp.exp(x) / jnp.exp(x).astype(jnp.float32).sum(k, keepdims=True).astype(x.dtype)
    ),
    "divided in float32": lambda x, k: exp_over_sum(
        jnp.exp(x - x.max(k, keepdims=True)).astype(jnp.float32), k
    ).astype(x.dtype),
    "mapped": lambda x, k: jax.vmap(jax.nn.softmax, 1 + k, 1 + k)(x),
    "mapped by hand": lambda x, k: jax.vmap(
        lambda e: jnp.exp(e - e.max()) / jnp.exp(e - e.max()).sum(), 1 + k, 1 + k
    )(x),
    "turned": lambda x, k: jax.nn.softmax(x.T, -1 - k).T,
}


@pytest.mark.parametrize("way", SOFTMAX)
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_is_one_node_in_every_way_of_writing_it(way, axis):
    softmax = lambda x: SOFTMAX[way](x, axis)  # noqa: E731
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        x, w = X.astype(dtype), W.astype(dtype)
        assert seen(as_output(softmax), x, w) == ([("Categorical", (5, 4), True)], [])
    assert seen(as_hidden(softmax), X, W) == ([], [("softmax", True)])
    nodes = seen(as_hidden(softmax), X, W, include="softmax")[0]
    assert nodes == [("Categorical", (5, 4), False)]


RENAMED = {
    "padded": lambda q: jnp.pad(q, ((0, 0), (0, 1))),
    "masked": lambda q: jnp.where(X > 0, q, 0),
    "scaled": lambda q: 2 * q - 1,
    "turned": lambda q: q.reshape(-1)[::-1].astype(jnp.bfloat16),
    "written": lambda q: jnp.zeros((6, 4)).at[1:].set(q),
}


@pytest.mark.parametrize("rename", RENAMED)
def test_a_renamed_softmax_is_an_output(rename):
    for way in ("library", "by hand"):
        softmax = lambda x, way=way: RENAMED[rename](SOFTMAX[way](x, -1))  # noqa: E731
        assert seen(as_output(softmax), X, W) == ([("Categorical", (5, 4), True)], [])


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (1, 1), (4,), (0, 4), (2, 1, 3)])
def test_activations_of_small_and_empty_arrays(shape):
    x = jnp.ones(shape)
    for way in ("library", "by hand", "axis added later", "less logsumexp", "exp of log_softmax"):
        softmax = lambda x, way=way: SOFTMAX[way](x, -1)  # noqa: E731
        assert [n[0] for n in seen(softmax, x)[0]] == ["Categorical"]
    # JAX leaves a selection out where nothing is selected.
    for family in WAYS if x.size else ("ReLU", "Spin", "Bernoulli"):
        ways = WAYS[family]
        for way in (ways[0], ways[-1]) if x.size else ways[:1]:
            assert [n[0] for n in seen(lambda x, way=way: way(x), x)[0]] == [family]


def test_lifted_and_marked_by_hand_are_the_same_network():
    def lifted(x):
        return jnp.pad(30 * jax.nn.softmax(jnp.tanh(x @ W) @ W), (0, 1))

    def marked(x):
        h = cg.node(cg.nodes.Spin(), x @ W)
        return jnp.pad(30 * cg.node(cg.nodes.Categorical(), h @ W), (0, 1))

    graphs = [cg.chain_graph(net)(X[0]) for net in (cg.lift(lifted), marked)]
    assert [[(c.name, c.output) for c in graph] for graph in graphs] == [
        [("spin_0", False), ("categorical_0", True)]
    ] * 2


def test_a_constant_scale_or_shift_keeps_an_output():
    """Also where the network computes in low precision, in a loop, or under a mask."""
    capped = lambda x: 30 * jnp.tanh(x / 30)  # noqa: E731
    ways = (
        lambda x: 2 * jnp.tanh(x),
        lambda x: jnp.tanh(x) + 1,
        lambda x: 1 - jnp.tanh(x) / 2,
        lambda x: np.full((1, 4), 3.0, np.float32) * jnp.tanh(x) + np.ones((1, 4), np.float32),
        lambda x: capped(x.astype(jnp.bfloat16)).astype(jnp.float32),
        lambda x: lax.scan(lambda c, row: (c, capped(row)), 0, x)[1],
        lambda x: jnp.where(jnp.arange(4)[None] < 2, jax.checkpoint(capped)(x), -1e9),
        lambda x: jnp.clip(jnp.tanh(x), -0.5, 0.5),  # neither
        lambda scale, x: scale * jnp.tanh(x),  # learned: an affine map
    )
    found = []
    for way in ways:
        args = (X,) if way is not ways[-1] else (2.0, X)
        (node,) = cg.chain_graph(cg.lift(way))(*args)
        found.append(node.output)
    assert found == [True] * (len(ways) - 2) + [False, False]


def test_capped_logits_stay_collapsed():
    def net(x):
        return 30 * jnp.tanh(x @ W / 30)

    with pytest.warns(UserWarning, match="samples nothing"):
        got = cg.pcff(cg.lift(net), 0.3)(jax.random.key(0), X)
    # Compiled together, in place of one operation after the other: rounding of four products.
    np.testing.assert_allclose(got, net(X), rtol=1e-5, atol=1e-5)


def test_what_has_no_result_is_passed_over():
    def net(x):
        h = jnp.tanh(x @ W)
        jax.debug.print("{}", h.sum())
        jax.debug.callback(lambda value: None, jax.nn.relu(h))
        return jax.nn.softmax(h @ W)

    nodes, skipped = seen(net, X)
    assert [(n[0], n[2]) for n in nodes] == [("Spin", False), ("Categorical", True)]
    assert [function for function, _ in skipped] == ["relu"]


# -- which arguments are parameters

TABLE = jnp.linspace(0, 1, 20).reshape(5, 4)
PARAMETERS = {"w": W, "gain": jnp.ones((1, 4))}


def normalised(p, x):
    h = jax.nn.relu(x @ p["w"] + TABLE)
    h = h - h.mean(-1, keepdims=True)
    return h * lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-5) * p["gain"] @ p["w"]


@pytest.mark.parametrize("parameters", [None, 0, "p", (0,), ["p"]])
def test_a_table_beside_the_parameters_changes_nothing(parameters):
    nodes, skipped = seen(normalised, PARAMETERS, X, parameters=parameters)
    assert [n[0] for n in nodes] == ["ReLU"] and not skipped


def test_the_caller_may_say_which_arguments_are_parameters():
    def net(x, w, gain):
        return normalised({"w": w, "gain": gain}, x)

    assert [n[0] for n in seen(net, X, W, PARAMETERS["gain"], parameters=("w", 2))[0]] == ["ReLU"]
    by_keyword = cg.lift(lambda x, *, w: x * jax.nn.sigmoid(x @ w), parameters="w")
    assert by_keyword.report(X, w=W).skipped[0].optional
    # A gain that is a parameter makes no gate, one that is data does.
    gated = lambda gains, x: jnp.tanh(x) * gains[0]  # noqa: E731
    assert [n[0] for n in seen(gated, (X, X), X)[0]] == ["Spin"]
    assert seen(gated, (X, X), X, parameters=())[1] == [("tanh", True)]


@pytest.mark.parametrize("wrong", [2, -1, "q", ("p", "q"), ""])
def test_parameters_that_the_network_does_not_have(wrong):
    with pytest.raises(ValueError, match=r"does not have.*'p' \(position 0\), 'x' \(position 1\)"):
        cg.lift(normalised, parameters=wrong)


def test_parameters_are_positions_or_names():
    with pytest.raises(TypeError, match="the position or the name of an argument"):
        cg.lift(normalised, parameters=True)
    with pytest.raises(TypeError):
        cg.lift(normalised, parameters=(None,))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="'p', and the network was called without it"):
        cg.lift(lambda x, p=1.0: jnp.tanh(x) * p, parameters="p")(X)


# -- what no procedure can enter, and words of the reason (roots are an operation of their own in
# some versions of JAX, and a function with a custom derivative in others)


def root(x):
    """The root y of tanh(y) = x, by some iterations that no derivative passes through."""

    def solve(f, start):
        return lax.fori_loop(0, 3, lambda i, y: y - f(y), start)

    return lax.custom_root(lambda y: jnp.tanh(y) - x, x, solve, lambda g, y: y / g(y))


def root_in_one_step(x):
    """tanh, as a root: no rule for a derivative of it is that of tanh."""
    one = jnp.ones_like(x)
    residual = lambda y: y - jnp.tanh(x)  # noqa: E731
    return lax.custom_root(residual, 0 * one, lambda f, y: y - f(y), lambda g, y: y / g(one))


def linear_solution(x):
    return lax.custom_linear_solve(lambda v: 2 * v, x, lambda _, b: jnp.tanh(b), lambda _, b: b)


@jax.custom_vjp
def straight_through(x):
    return lax.scan(lambda c, row: (c, jnp.tanh(row)), 0.0, x)[1]


straight_through.defvjp(lambda x: (straight_through(x), None), lambda _, g: (g,))


@jax.custom_batching.custom_vmap
def own_map(x):
    return jnp.tanh(x)


@own_map.def_vmap
def _own_map(size, mapped, x):
    return jnp.tanh(x), mapped[0]


CLOSED = {
    "a root": (root, ""),
    "a root in one step": (root_in_one_step, ""),
    "a linear solution": (linear_solution, "inside `custom_linear_solve`"),
    "a custom derivative around a loop": (straight_through, "custom derivative"),
    "a rule for maps": (own_map, "inside `custom_vmap_call`"),
    "applied in place": (lambda x: x.at[0].apply(jnp.tanh), "inside `scatter`"),
    "a component": (cg.component(lambda x: jnp.tanh(x)), "fused component"),
}


@pytest.mark.parametrize("name", CLOSED)
def test_an_activation_that_no_procedure_reaches_is_skipped_with_the_reason(name):
    closed, reason = CLOSED[name]
    lifted = cg.lift(lambda x: jax.nn.relu(closed(x @ W)) @ W)
    report = lifted.report(X)
    assert [e.family for e in report.lifted] == ["ReLU"]
    assert report.skipped and all(e.function == "tanh" for e in report.skipped)
    assert all(reason in e.reason and not e.optional for e in report.skipped), report
    jax.eval_shape(cg.pcff(lifted, 0.5), jax.random.key(0), X)


# -- functions that are called like those of JAX


def test_a_function_is_known_by_itself_and_not_by_its_name():
    @jax.jit
    def clip(x):
        return jnp.maximum(x, 0)

    assert [n[0] for n in seen(as_hidden(clip), X, W)[0]] == ["ReLU"]
    for guard in (lambda x: jnp.clip(x, 0), lambda x: x.clip(0, 1)):
        for wrap in (lambda f: f, jax.jit, jax.vmap, jax.checkpoint):
            nodes, skipped = seen(as_hidden(wrap(guard)), X, W)
            assert not nodes and skipped == [("relu", False)]


def test_a_loop_carries_a_gate_on():
    """An activation that meets other data at the next step is as much a gate as one at this."""

    def carried(x):
        return lax.scan(lambda h, row: (jnp.tanh(row @ W), h * row), x[0], x)[1] @ W

    assert seen(carried, X)[1] == [("tanh", True)]
