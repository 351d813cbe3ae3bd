"""What all procedures share: one table of them, and one battery that runs over it."""

import gc
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax import _procedure
from cgjax.inference import Procedure
from tests.helpers import assert_identical, relu, spin, two_layers, weighted, weights

KEY = jax.random.key(11)
PARAMETERS = weights(3, 4, 4, 2)
X = jax.random.normal(jax.random.key(1), (3,))
VALUES = {"first": jnp.ones(4), "second": jnp.linspace(0.1, 2.0, 4)}

# How to build each procedure from a network, and what comes before the network's arguments.
PROCEDURES = {
    "feed_forward": (cg.feed_forward, ()),
    "forward_sample": (cg.forward_sample, (KEY,)),
    "forward_sample straight_through": (
        lambda net: cg.forward_sample(net, estimator="straight_through"),
        (KEY,),
    ),
    "pcff": (lambda net: cg.pcff(net, 0.5), (KEY,)),
    "pcff 13 rounds": (lambda net: cg.pcff(net, 0.5, rounds=13), (KEY,)),
    "pcff dict": (lambda net: cg.pcff(net, {"f*": 0.5, "second*": 1.0}), (KEY,)),
    "monte_carlo": (lambda net: cg.monte_carlo(cg.pcff(net, 0.5), 4, batch_size=3), (KEY,)),
    "clamp": (lambda net: cg.clamp(net, {"first": 0.5}), ()),
    "log_joint": (cg.log_joint, (VALUES,)),
    "mode": (cg.mode, ()),
}
SAMPLING = [name for name, (_, lead) in PROCEDURES.items() if lead and lead[0] is KEY]
CAPTURING = [name for name in PROCEDURES if name != "clamp"]
# One of each, where what is said does not depend on its options.
KINDS = [name for name in PROCEDURES if " " not in name]


def counted(net: Any = two_layers) -> Any:
    """A network that counts how often it is traced."""

    def f(*args, **kwargs):
        vars(f)["traces"] += 1
        return net(*args, **kwargs)

    vars(f)["traces"] = 0
    return f


@pytest.mark.parametrize("name", PROCEDURES)
class TestBattery:
    def test_jit_is_eager_and_nothing_is_traced_or_compiled_twice(self, name):
        build, lead = PROCEDURES[name]
        net = counted()
        eager = build(net)(*lead, PARAMETERS, X)
        traces = net.traces
        assert traces == 1
        assert_identical(build(net)(*lead, PARAMETERS, X), eager)
        assert net.traces == traces

        compiled = 0

        @jax.jit
        def inside(lead, p, x):
            nonlocal compiled
            compiled += 1
            return build(net)(*lead, p, x)

        once = inside(lead, PARAMETERS, X)
        assert_identical(inside(lead, PARAMETERS, X), once)
        assert compiled == 1
        # One program or two: some ulp of the sums over up to 4 terms.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-6, 2e-6), once, eager)

    def test_built_twice_and_called_twice_compiles_once(self, name):
        build, lead = PROCEDURES[name]
        net = counted()
        assert build(net) == build(net) and hash(build(net)) == hash(build(net))
        assert build(net) != build(counted())
        assert build(net) is not None and build(net) != "something else"
        with jax.log_compiles(False):
            jax.jit(build(net))(*lead, PARAMETERS, X)
            traces = net.traces
            jax.jit(build(net))(*lead, PARAMETERS, X)
        assert net.traces == traces
        assert jax.jit(build(net))._cache_size() == 1  # type: ignore[attr-defined]

    def test_vmap_is_the_loop(self, name):
        build, lead = PROCEDURES[name]
        if lead and lead[0] is KEY:
            lead = (jax.random.split(KEY, 3),)
        else:
            lead = jax.tree.map(lambda v: jnp.stack([v, v, v]), lead)
        xs = jnp.stack([X, -X, 2 * X])
        parameters = jax.tree.map(lambda w: jnp.stack([w, 0.5 * w, -w]), PARAMETERS)
        f = build(two_layers)
        got = jax.jit(jax.vmap(f))(*lead, parameters, xs)
        one = jax.jit(f)
        for row in range(3):
            expected = one(*jax.tree.map(lambda a, row=row: a[row], (*lead, parameters, xs)))
            # Batched products sum in another order: a few ulp of terms of size up to 5.
            jax.tree.map(
                lambda a, b, row=row: np.testing.assert_allclose(a[row], b, 5e-6, 5e-6),
                got,
                expected,
            )

    def test_gradients_are_finite_and_those_of_jit(self, name):
        build, lead = PROCEDURES[name]

        def loss(p, x):
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(build(two_layers)(*lead, p, x)))

        got = jax.jit(jax.grad(loss, (0, 1)))(PARAMETERS, X)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))
        last = PARAMETERS[2] if name != "log_joint" else PARAMETERS[1]
        direction = [
            np.abs(leaf).sum() for leaf, w in zip(got[0], PARAMETERS, strict=True) if w is last
        ]
        assert direction[0] > 0
        under_remat = jax.jit(jax.grad(jax.checkpoint(loss), (0, 1)))(PARAMETERS, X)
        # Recomputed in another program: rounding only; the noise must be the same.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5), under_remat, got)

    def test_a_call_leaves_its_arguments_and_returns_arrays_alone(self, name):
        build, lead = PROCEDURES[name]
        before = jax.tree.map(lambda a: a.copy(), (lead, PARAMETERS, X))
        out = build(two_layers)(*lead, PARAMETERS, X)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(out))
        for a, b in zip(
            jax.tree.leaves((lead, PARAMETERS, X)), jax.tree.leaves(before), strict=True
        ):
            if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
                assert_identical(a, b)


@pytest.mark.parametrize("name", KINDS)
class TestArguments:
    def test_keyword_and_static_arguments(self, name):
        build, lead = PROCEDURES[name]

        def net(x, *, parameters, scale, mode="plain", flag=True, nothing=None):
            assert nothing is None
            scale = scale if flag else 1
            out = two_layers(parameters, x * scale) * scale
            return out if mode == "plain" else {"other": out}

        f = build(net)
        one = f(*lead, X, parameters=PARAMETERS, scale=2.0)
        two = f(*lead, X, parameters=PARAMETERS, scale=jnp.float32(2), flag=True, nothing=None)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6), one, two)
        flat = f(*lead, X, parameters=PARAMETERS, scale=2, flag=False)
        assert any(
            (np.asarray(a) != np.asarray(b)).any()
            for a, b in zip(jax.tree.leaves(flat), jax.tree.leaves(one), strict=True)
        )
        if name != "log_joint":
            other = f(*lead, X, parameters=PARAMETERS, scale=2.0, mode="other")
            assert jax.tree.leaves(other)[0].shape == (2,)
            assert jax.tree.structure(other) != jax.tree.structure(one)

    def test_closures_over_arrays_are_read_anew_at_each_call(self, name):
        build, lead = PROCEDURES[name]
        box = {"scale": jnp.float32(1.0), "parameters": PARAMETERS}

        def net(x):
            inner = jax.jit(lambda h: h * box["scale"])
            step = lambda c, _: (c * jnp.ones(3) * box["scale"], None)  # noqa: E731
            x = lax.scan(step, inner(x), None, length=1)[0]
            return two_layers(box["parameters"], x)

        f = build(net)
        for scale in (1.0, 3.0, 0.5):
            box["scale"] = jnp.float32(scale)
            box["parameters"] = jax.tree.map(lambda w, s=scale: w * s, PARAMETERS)
            expected = build(two_layers)(*lead, box["parameters"], X * scale**2)
            got = f(*lead, X)
            # Eager here, compiled there.
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5), got, expected)

    def test_closures_over_arrays_compile_once(self, name):
        build, lead = PROCEDURES[name]
        box = {"parameters": PARAMETERS, "sign": 1.0}

        def net(x):
            return two_layers(box["parameters"], jax.nn.silu(x) * box["sign"])

        build(net)(*lead, X)
        run: Any = _procedure.run_compiled
        compiled = run._cache_size()
        for scale in (1.0, 3.0, 0.5):
            box["parameters"] = jax.tree.map(lambda w, s=scale: w * s, PARAMETERS)
            got = build(net)(*lead, X)
            expected = build(two_layers)(*lead, box["parameters"], jax.nn.silu(X))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5), got, expected)
        assert run._cache_size() <= compiled + 1  # `two_layers` itself
        # What else the function reads is seen, too.
        box["sign"] = -1.0
        expected = build(two_layers)(*lead, box["parameters"], -jax.nn.silu(X))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5),
            build(net)(*lead, X),
            expected,
        )


def repeated(w, x):
    """A state to which each step adds by the same function of weights."""
    shared = jnp.exp(w)
    return lax.scan(lambda c, _: (c + jnp.tanh(c @ shared), None), x, None, length=3)[0]


def test_nothing_that_is_traced_leaks():
    # JAX looks for leaks through all objects but those that are set aside, which takes seconds each
    # time where there are many.
    gc.freeze()
    kept = []

    def leaking(p, x):
        kept.append(x)
        return two_layers(p, x)

    with jax.checking_leaks():
        for build, lead in PROCEDURES.values():
            jax.jit(
                lambda p, build=build, lead=lead: build(lambda p, x: two_layers(p, x))(*lead, p, X)
            )(PARAMETERS)
        # What steps share is known by the arrays outside of the loop.
        w = cg.Belief(jnp.eye(3), jnp.full((3, 3), 0.1))
        jax.jit(lambda w, x: cg.moments(repeated)(w, x))(w, X)
        with pytest.raises(Exception, match="[Ll]eaked"):
            jax.jit(lambda x: cg.feed_forward(leaking)(PARAMETERS, x))(X)
    # What is garbage by now is to be found again; what is imported is looked at with it.
    gc.unfreeze()


def test_networks_can_be_forgotten():
    """Of every procedure, with one collection for all: one takes seconds beside many programs."""

    def used(name):
        build, lead = PROCEDURES[name]

        def fresh(p, x):
            return two_layers(p, x)

        build(fresh)(*lead, PARAMETERS, X)
        return weakref.ref(fresh)

    references = {name: used(name) for name in PROCEDURES}
    gc.collect()
    assert [name for name, reference in references.items() if reference() is not None] == []


@pytest.mark.parametrize("name", CAPTURING)
def test_with_nodes_adds_every_statistic_and_changes_nothing_else(name):
    build, lead = PROCEDURES[name]
    plain = build(two_layers)(*lead, PARAMETERS, X)
    out, nodes = cg.with_nodes(build(two_layers))(*lead, PARAMETERS, X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-6), out, plain)
    assert list(nodes) == ["first", "second"]
    means = [n.mean if name == "monte_carlo" else n for n in nodes.values()]
    if name == "log_joint":
        assert_identical(nodes, VALUES)
        return
    assert {n.shape for n in means} == {(4,)}
    result = plain.mean if name == "monte_carlo" else plain
    np.testing.assert_allclose(means[1] @ PARAMETERS[2], result, rtol=2e-6, atol=2e-6)


def test_with_nodes_takes_procedures_only():
    with pytest.raises(TypeError, match="is a network"):
        cg.with_nodes(cg.clamp(two_layers, {"first": 1.0}))
    for wrong in (two_layers, jax.jit(cg.feed_forward(two_layers)), None):
        with pytest.raises(TypeError, match="with_nodes takes a procedure"):
            cg.with_nodes(wrong)


# -- keys


@pytest.mark.parametrize("name", SAMPLING)
def test_the_key_comes_first_and_is_checked(name):
    f = PROCEDURES[name][0](two_layers)
    with pytest.raises(TypeError, match=r"key of `jax.random`, got an array of float32\[3\]"):
        f(X, PARAMETERS)
    with pytest.raises(TypeError, match="key of `jax.random`, got 0"):
        f(0, PARAMETERS, X)
    with pytest.raises(TypeError, match="key of `jax.random`, got None"):
        f(None, PARAMETERS, X)
    with pytest.raises(TypeError, match=r"got an array of key<fry>\[2\]"):
        f(jax.random.split(KEY), PARAMETERS, X)
    with pytest.raises(TypeError, match="key"):
        f()


@pytest.mark.parametrize("name", SAMPLING)
def test_raw_and_other_keys(name):
    f = PROCEDURES[name][0](two_layers)
    expected = f(KEY, PARAMETERS, X)
    assert_identical(f(jax.random.key_data(KEY), PARAMETERS, X), expected)
    assert_identical(f(np.asarray(jax.random.key_data(KEY)), PARAMETERS, X), expected)
    assert_identical(f(jax.random.PRNGKey(11), PARAMETERS, X), expected)
    for impl in ("rbg", "unsafe_rbg"):
        key = jax.random.key(11, impl=impl)
        got = f(key, PARAMETERS, X)
        assert_identical(f(key, PARAMETERS, X), got)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))


@pytest.mark.parametrize("name", SAMPLING)
def test_the_checker_of_key_reuse_passes_proper_use_and_sees_the_users(name):
    f = PROCEDURES[name][0](two_layers)

    def proper(key):
        one, two = jax.random.split(key)
        return f(one, PARAMETERS, X), f(two, PARAMETERS, X)

    def reused(key):
        return f(key, PARAMETERS, X), f(key, PARAMETERS, X)

    def also_used(key):
        return f(key, PARAMETERS, X), jax.random.normal(key)

    with jax.debug_key_reuse(True):
        jax.jit(proper)(jax.random.key(3))
        for misuse in (reused, also_used):
            with pytest.raises(jax.errors.KeyReuseError):
                jax.jit(misuse)(jax.random.key(3))


# -- identity


def test_equal_means_same_network_and_same_options():
    net, other = (lambda x: spin(x)), (lambda x: spin(x))
    array = jnp.float32(0.5)
    different = [
        cg.feed_forward(net),
        cg.feed_forward(other),
        cg.with_nodes(cg.feed_forward(net)),
        cg.forward_sample(net),
        cg.forward_sample(net, rounds=13),
        cg.forward_sample(net, estimator="straight_through"),
        cg.forward_sample(net, inline=True),
        cg.pcff(net, 0.5),
        cg.pcff(net, 0.25),
        cg.pcff(net, array),
        cg.pcff(net, {"*": 0.5}),
        cg.pcff(net, {"s*": 0.5}),
        cg.pcff(net, {"*": 0.5, "s*": 0.5}),
        cg.monte_carlo(cg.pcff(net, 0.5), 4),
        cg.monte_carlo(cg.pcff(net, 0.5), 8),
        cg.monte_carlo(cg.pcff(net, 0.5), 4, batch_size=2),
        cg.clamp(net, {"spin_0": 1.0}),
        cg.clamp(net, {"spin_0": 2.0}),
        cg.log_joint(net),
        cg.mode(net),
    ]
    for i, a in enumerate(different):
        for j, b in enumerate(different):
            assert (a == b) == (i == j)
    assert len(set(different)) == len(different)
    assert cg.pcff(net, 0.5) is cg.pcff(net, np.float32(0.5)) is cg.pcff(net, rate=0.5)
    assert cg.pcff(net, 1) == cg.pcff(net, 1.0)
    assert cg.pcff(net, array) == cg.pcff(net, array)
    assert cg.pcff(net, array) != cg.pcff(net, jnp.float32(0.5))


def test_networks_may_be_any_callable():
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other):
            return self is other

        def __call__(self, x):
            return 2 * spin(x, "h")

    class Model:
        def __init__(self, scale):
            self.scale = scale

        def apply(self, x):
            return self.scale * spin(x, "h")

    class Slots:
        __slots__ = ()

        def __call__(self, x):
            return 2 * spin(x, "h")

    import functools

    expected = cg.forward_sample(lambda x: 2 * spin(x, "h"))(KEY, X)
    partial = functools.partial(lambda scale, x: scale * spin(x, "h"), 2)
    jitted = jax.jit(lambda x: 2 * spin(x, "h"))
    for net in (Unhashable(), Model(2).apply, Slots(), partial, jitted):
        for _ in range(2):
            assert_identical(cg.forward_sample(net)(KEY, X), expected)
    # Bound methods of two objects are two networks, and one object's is one.
    a, b = Model(2), Model(3)
    assert cg.pcff(a.apply, 0.5) is cg.pcff(a.apply, 0.5)
    assert cg.pcff(a.apply, 0.5) != cg.pcff(b.apply, 0.5)
    assert_identical(cg.forward_sample(b.apply)(KEY, X), 1.5 * expected)


def test_only_so_many_procedures_are_kept_for_a_network():
    net = lambda x: 2 * spin(x)  # noqa: E731
    made = [weakref.ref(cg.pcff(net, i / 200)) for i in range(200)]
    gc.collect()
    alive = sum(r() is not None for r in made)
    assert 1 <= alive <= 64
    assert isinstance(cg.pcff(net, 0.5), Procedure)


# -- shapes, dtypes, sharding


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_half_precision(name, dtype):
    build, lead = PROCEDURES[name]
    parameters, x = jax.tree.map(lambda a: a.astype(dtype), (PARAMETERS, X))
    values = jax.tree.map(lambda v: v.astype(dtype), VALUES) if name == "log_joint" else None
    out = build(two_layers)(*((values,) if values else lead), parameters, x)
    expected = jnp.float32 if name in ("monte_carlo", "log_joint") else dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype(expected)}
    assert all(np.isfinite(np.asarray(v, np.float32)).all() for v in jax.tree.leaves(out))


@pytest.mark.parametrize("name", ["pcff", "forward_sample", "feed_forward", "clamp"])
def test_sharded_inputs_give_identical_results_and_gradients(name):
    build, lead = PROCEDURES[name]
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("batch")
    batch = jax.random.normal(jax.random.key(2), (8, 3))
    sharded = jax.device_put(batch, jax.sharding.NamedSharding(mesh, spec))

    net = lambda p, x: two_layers(p, x) + x[:, :2]  # noqa: E731

    def both(p, x):
        out = build(net)(*lead, p, x)
        return out, jax.grad(lambda x: (build(net)(*lead, p, x) ** 2).sum())(x)

    run = jax.jit(both)
    got, expected = run(PARAMETERS, sharded), run(PARAMETERS, batch)
    assert len(got[0].sharding.device_set) == 4
    # Products over fewer rows are summed in another order: rounding of terms of size 5.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-6, 5e-6), got, expected)

    # The draws are the same to the bit: counters number elements wherever these live.
    draw = jax.jit(cg.forward_sample(lambda x: spin(x, "h")))
    thrice = lambda x: weighted(3, spin(x, "h"), x)  # noqa: E731
    mask = jax.jit(lambda x: jnp.abs(cg.pcff(thrice, 0.5)(KEY, x)) == 3)
    assert_identical(draw(KEY, sharded), draw(KEY, batch))
    assert_identical(mask(sharded), mask(batch))
    assert 4 < mask(batch).sum() < 20  # of 24


@pytest.mark.parametrize("name", [name for name in SAMPLING if name in KINDS])
def test_explicit_sharding(name):
    build, lead = PROCEDURES[name]
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,))
    batch = jnp.linspace(-2.0, 2.0, 16).reshape(8, 2)

    def net(x):
        for i in range(2):
            x = spin(relu(x, f"first{i}") + 0.1, f"second{i}")
        return 2 * x + cg.node(cg.nodes.Categorical(), x, name="second_class") * x

    expected = build(net)(*lead, batch)
    with jax.set_mesh(mesh):
        x = jax.device_put(batch, jax.sharding.PartitionSpec("batch"))
        got = jax.jit(build(net))(*lead, x)
    # Compiled apart from the eager run: rounding only, for the same draws.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-6, 2e-6), got, expected)


def test_procedures_nest_in_loops_and_training_steps():
    """A training loop in one jitted scan, with the key split at each step, as a Python loop."""
    xs = jax.random.normal(jax.random.key(5), (4, 6, 3))

    def loss(p, key, x):
        step = jax.checkpoint(jax.jit(cg.pcff(two_layers, 0.5)))
        return (step(key, p, x) ** 2).mean()

    def update(p, step):
        key, x = step
        return jax.tree.map(lambda w, g: w - 0.01 * g, p, jax.grad(loss)(p, key, x)), None

    keys = jax.random.split(KEY, 4)
    got = jax.jit(lambda p: lax.scan(update, p, (keys, xs))[0])(PARAMETERS)
    expected, one = PARAMETERS, jax.jit(update)
    for key, x in zip(keys, xs, strict=True):
        expected = one(expected, (key, x))[0]
    # Four steps of rounding.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5), got, expected)
