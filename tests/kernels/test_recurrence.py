"""The independent recurrence: every implementation against loops written out here."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import cgjax as cg
from cgjax.kernels import _recurrence as module
from cgjax.kernels import independent_recurrence, random_words, sampled_independent_recurrence
from cgjax.kernels._recurrence import _scan
from cgjax.kernels._recurrence._activations import NAMES, activation, rounded
from cgjax.kernels._recurrence._derivative import recurrence
from cgjax.kernels._recurrence._settings import Noise, Settings
from cgjax.kernels.random_bits import row_words, uniform
from tests import compiler
from tests.helpers import assert_identical

KEY = jax.random.key(17)
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.125),
    "tanh": jnp.tanh,
    "logistic": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
}
# Their derivatives as functions of the value.
SLOPES = {
    "relu": lambda h: jnp.where(h > 0, 1.0, 0.0),
    "leaky_relu": lambda h: jnp.where(h >= 0, 1.0, 0.125),
    "tanh": lambda h: 1 - h**2,
    "logistic": lambda h: h * (1 - h),
    "softplus": lambda h: -jnp.expm1(-h),
}
FAMILIES = {"relu": cg.nodes.ReLU(), "tanh": cg.nodes.Spin(), "logistic": cg.nodes.Bernoulli()}
IMPLEMENTATIONS = [("scan", name) for name in NAMES] + [("parallel", "relu")]
LENGTH, BATCH, UNITS = 13, 3, 6
# Powers of two where a value shall be exact: negative, zero, one, and above the bound.
WEIGHTS = jnp.array([-1.0, -0.5, 0.0, 0.75, 1.0, 1.25])


def problem(length=LENGTH, dtype=jnp.float32):
    """Inputs, weights, initial state and cotangents; some inputs exactly 0, and states at kinks."""
    generator = np.random.default_rng(17)
    x = generator.normal(size=(length, BATCH, UNITS))
    x[2:5, 0], x[6:7, 1], x[7:9, 1] = 0, -50, 0
    initial = generator.normal(size=(BATCH, UNITS))
    initial[2] = 0
    g = generator.normal(size=x.shape)
    return tuple(jnp.asarray(a, dtype) for a in (x, WEIGHTS, initial, g))


def plain(act, x, u, initial):
    """The definition as a loop, differentiated by JAX as it stands."""

    def step(state, x):
        state = act(x + u[None] * state)
        return state, state

    return lax.scan(step, jnp.broadcast_to(initial, x.shape[1:]), x)[1]


@pytest.fixture(scope="module")
def expected():
    """States and their vector-Jacobian products in float64, by JAX's own derivative."""
    found = {}
    with jax.enable_x64(True):
        arrays = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), problem())
        for name, act in ACTIVATIONS.items():
            run = jax.jit(partial(values_and_gradients, partial(plain, act)))
            found[name] = jax.tree.map(np.asarray, run(*arrays))
    return found


def values_and_gradients(f, x, u, initial, g):
    states, pull = jax.vjp(f, x, u, initial)
    return states, *pull(g)


def assert_near(got, expected, units):
    """Within a number of units of rounding of the largest value; both may be of any dtype."""
    for a, b in zip(got, expected, strict=True):
        b = np.asarray(b, np.float64)
        scale = units * float(jnp.finfo(a.dtype).eps) * np.abs(b).max()
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=scale)


def assert_alike(got, expected):
    """In bfloat16, the same after the last rounding, but for a last bit now and then.

    The compiler may contract a product and a sum: the last bit of a sum in float32 differs, which
    is seen after one rounding in 2^16. Measured: no difference at all. A rounding more or less
    changes a tenth of all values or more.
    """
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == jnp.bfloat16
        b = b.astype(jnp.bfloat16)
        assert (a == b).mean() > 0.99
        assert_near([a], [b], 2)


def implemented(name, implementation):
    return partial(
        independent_recurrence, activation=name, leak=0.125, implementation=implementation
    )


@pytest.mark.parametrize(("implementation", "name"), IMPLEMENTATIONS)
def test_values_and_gradients_are_those_of_the_definition(implementation, name, expected):
    x, u, initial, g = problem()
    f = implemented(name, implementation)
    got = jax.jit(partial(values_and_gradients, f))(x, u, initial, g)
    # Float32 against float64: rounding grows by at most 1.25^13 = 18 in the last unit.
    assert_near(got, expected[name], 40)
    # At exact zeros the derivative is that of `jax.nn`, not nearly but the same.
    if name in ("relu", "leaky_relu"):
        np.testing.assert_array_equal(got[1][2, 0] == 0, expected[name][1][2, 0] == 0)
    assert np.isfinite(got[2]).all()


@pytest.mark.parametrize("implementation", ["scan", "parallel"])
def test_derivatives_at_kinks_and_zero_weights_are_exact(implementation):
    # Small integers, so that nothing is rounded, and about half of the natural parameters are 0.
    x = jax.random.randint(KEY, (9, 40, 4), -1, 2).astype(jnp.float32)
    u = jnp.array([-1.0, 0.0, 1.0, 2.0])
    g = jax.random.randint(jax.random.key(3), x.shape, -3, 4).astype(jnp.float32)
    f = partial(independent_recurrence, implementation=implementation)
    zero = jnp.zeros((40, 4))
    got = values_and_gradients(f, x, u, zero, g)
    expected = values_and_gradients(partial(plain, jax.nn.relu), x, u, zero, g)
    assert_identical(got, expected)


def derivatives(f, x, u, initial):
    """Forward mode, and second derivatives."""
    loss = lambda u, x: jnp.sum(f(x, u, initial) ** 2)  # noqa: E731
    change = jax.jvp(f, (x, u, initial), (x, u, initial))[1]
    mixed = jax.jacrev(jax.grad(loss), 1)(u, x)
    return change, jax.hessian(loss)(u, x), mixed


def part(length):
    """Few steps and units, since second derivatives take long to compile."""
    x, u, initial, _ = problem()
    return x[:length, :, 3:], u[3:], initial[:, 3:]


def test_forward_mode_and_second_derivatives():
    for implementation, name in (("scan", "tanh"), ("parallel", "relu")):
        got = jax.jit(partial(derivatives, implemented(name, implementation)))(*part(7))
        expected = jax.jit(partial(derivatives, partial(plain, ACTIVATIONS[name])))(*part(7))
        # Sums of some hundred terms of both signs.
        assert_near(got, expected, 100)


@pytest.mark.parametrize("implementation", ["scan", "parallel"])
def test_maps_over_any_argument(implementation):
    x, u, initial, g = problem()
    f = implemented("relu", implementation)
    run = jax.jit(partial(values_and_gradients, f))
    many = jnp.stack([u, 0.5 * u])
    mapped = jax.jit(jax.vmap(partial(values_and_gradients, f), (None, 0, None, None)))
    got = mapped(x, many, initial, g)
    for row in range(2):
        expected = run(x, many[row], initial, g)
        assert_near(jax.tree.map(lambda a: a[row], got), expected, 4)  # noqa: B023
    # A map inside what is differentiated: its batch instead of an axis of the inputs.
    inner = lambda x, u, h: jax.vmap(lambda x, h: f(x, u, h), (1, 0), 1)(x, h)  # noqa: E731
    got = jax.jit(partial(values_and_gradients, inner))(x, u, initial, g)
    assert_near(got, run(x, u, initial, g), 4)


@pytest.mark.parametrize(
    ("implementation", "length", "batch"),
    [("scan", 512, 1), ("scan", 5, 512), ("parallel", 5, 512)],
)
def test_bfloat16_sums_its_derivatives_in_float32(implementation, length, batch):
    f = partial(independent_recurrence, implementation=implementation)
    x = jnp.zeros((length, batch, 2), jnp.bfloat16).at[0].set(1.0)
    u = jnp.ones(2, jnp.bfloat16)
    states, pull = jax.vjp(f, x, u)
    assert states.dtype == jnp.bfloat16
    np.testing.assert_array_equal(states.astype(jnp.float32), 1.0)
    dx, du = pull(jnp.ones_like(x).at[:, :, 1].set(0).at[-1, :, 1].set(1))
    assert (dx.dtype, du.dtype) == (jnp.bfloat16, jnp.bfloat16)
    # sum_t (T - t) h_{t-1} = T (T - 1) / 2, and T - 1: a sum in bfloat16 would stop at 256.
    expected = batch * np.array([length * (length - 1) / 2, length - 1])
    np.testing.assert_allclose(du.astype(jnp.float32), expected, rtol=2**-8)  # rounded at the end


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_the_definition_with_one_rounding_each(name):
    x, u, initial, g = problem(dtype=jnp.bfloat16)
    got = jax.jit(partial(values_and_gradients, implemented(name, "scan")))(x, u, initial, g)
    state, rows = initial.astype(jnp.float32), []
    for t in range(LENGTH):
        e = x[t].astype(jnp.float32) + u[None].astype(jnp.float32) * state
        state = ACTIVATIONS[name](e.astype(jnp.bfloat16).astype(jnp.float32))
        state = state.astype(jnp.bfloat16).astype(jnp.float32)
        rows.append(state)
    # The compiler contracts the product and the sum: now and then the last bit differs, and what
    # comes after it. Without one of the two roundings a tenth or more of all states would.
    assert_near(got[:1], [jnp.stack(rows)], 2)
    assert (got[0].astype(jnp.float32) == jnp.stack(rows)).mean() > 0.97
    float32 = jax.tree.map(lambda a: a.astype(jnp.float32), (x, u, initial, g))
    wide = jax.jit(partial(values_and_gradients, implemented(name, "scan")))(*float32)
    # Measured: 2.4, for the derivative by the weights of softplus.
    assert_near(got, wide, 5)
    assert_alike(got[1:], gradients_by_hand(name, got[0], u, initial, g))


def gradients_by_hand(name, states, u, initial, g):
    """The derivative of the states that are kept, in float32."""
    h, u, initial, g = (a.astype(jnp.float32) for a in (states, u, initial, g))
    delta, rows = jnp.zeros_like(initial), []
    for t in reversed(range(LENGTH)):
        delta = SLOPES[name](h[t]) * (g[t] + u[None] * delta)
        rows.append(delta)
    before = jnp.concatenate([initial[None], h[:-1]])
    return jnp.stack(rows[::-1]), (jnp.stack(rows[::-1]) * before).sum((0, 1)), u[None] * delta


def test_bfloat16_is_rounded_once_in_the_parallel_form():
    x, u, initial, g = problem(dtype=jnp.bfloat16)
    f = implemented("relu", "parallel")
    got = jax.jit(partial(values_and_gradients, f))(x, u, initial, g)
    wide = (a.astype(jnp.float32) for a in (x, u, initial))
    assert_alike(got[:1], [plain(jax.nn.relu, *wide)])
    assert_alike(got[1:], gradients_by_hand("relu", got[0], u, initial, g))


def test_small_values_of_float16_are_kept():
    values = np.array([1e-5, -1e-5, 4e-8, 2e-8, -2e-8, 6.1e-5, -6.09e-5, 1e-3, 0.0, -0.0, 7e4])
    values = np.concatenate([values, 1e-4 * np.random.default_rng(3).normal(size=999)])
    values = values.astype(np.float32)
    got = jax.jit(partial(rounded, dtype=jnp.float16))(values)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    assert_identical(np.asarray(got).view(np.uint32), expected.view(np.uint32))
    # Where leak * e is rounded to 0, the slope is still that of a negative e; of e = -0 it is 1.
    e = jnp.array([[-1e-6, -1e-3, 0.0, -0.0, 1e-6]], jnp.float16)
    f = partial(independent_recurrence, activation="leaky_relu", leak=0.01)
    states, pull = jax.vjp(lambda e: f(e, jnp.ones(5, jnp.float16)), e)
    assert_identical(states == 0, np.array([[True, False, True, True, False]]))
    expected = jax.vjp(partial(jax.nn.leaky_relu, negative_slope=0.01), e)[1](jnp.ones_like(e))
    assert_identical(pull(jnp.ones_like(e)), expected)


def test_weights_and_initial_states_broadcast():
    x, u, initial, g = problem()
    f = jax.jit(partial(values_and_gradients, implemented("tanh", "scan")))
    lanes = f(x, jnp.tile(u, (BATCH, 1)), initial, g)
    shared = f(x, u, initial, g)
    assert_near(lanes[:2], shared[:2], 4)
    assert_near([lanes[2].sum(0)], [shared[2]], 4)
    number = f(x, jnp.float32(0.5), jnp.float32(0.25), g)
    full = f(x, jnp.full((BATCH, UNITS), 0.5), jnp.full((BATCH, UNITS), 0.25), g)
    assert_near(number, (*full[:2], full[2].sum(), full[3].sum()), 10)
    zeros = independent_recurrence(x, u, activation="tanh")
    assert_near([zeros], [f(x, u, jnp.zeros(()), g)[0]], 4)


@pytest.mark.parametrize("implementation", ["scan", "parallel"])
def test_short_sequences(implementation):
    x, u, initial, g = problem()
    f = implemented("relu", implementation)
    empty = values_and_gradients(f, x[:0], u, initial, g[:0])
    assert_identical(empty, (x[:0], x[:0], jnp.zeros_like(u), jnp.zeros_like(initial)))
    for name in (None, "mosaic_gpu"):
        other = partial(independent_recurrence, implementation=name, activation="tanh")
        sampled = partial(sampled_independent_recurrence, KEY, rate=0.5, implementation=name)
        for run in (other, sampled):
            assert_identical(values_and_gradients(run, x[:0], u, initial, g[:0]), empty)
    one = values_and_gradients(f, x[:1], u, initial, g[:1])
    expected = values_and_gradients(partial(plain, jax.nn.relu), x[:1], u, initial, g[:1])
    assert_near(one, expected, 2)


@pytest.mark.parametrize(("implementation", "length"), [("scan", 5000), ("parallel", 400)])
def test_long_sequences_at_the_bound_are_accurate(implementation, length):
    f = jax.jit(
        partial(
            values_and_gradients, partial(independent_recurrence, implementation=implementation)
        ),
        # With few optimisations a step's product and sum are rounded, not the sum alone.
        compiler_options=compiler.ALL_PASSES,
    )
    generator = np.random.default_rng(4)
    u = 5 ** (1 / length) * np.array([1.0, -1.0, 0.999, 0.0])
    x, g = generator.normal(size=(2, length, 1, 4))
    arrays = [np.asarray(a, np.float32) for a in (x, u, 0.0, g)]
    with jax.enable_x64(True):
        run = jax.jit(partial(values_and_gradients, partial(plain, jax.nn.relu)))
        initial = np.zeros((1, 4))
        wide = [np.asarray(a, np.float64) for a in (arrays[0], arrays[1], initial, arrays[3])]
        expected = [np.asarray(a) for a in run(*wide)]
    got = f(*arrays)
    assert all(np.isfinite(a).all() for a in got)
    # Measured: 12 units in the loop, from one rounding a step, and 2 in the parallel form.
    assert_near(got[:3], expected[:3], 30 if implementation == "scan" else 6)


@pytest.mark.parametrize(("dtype", "length"), [("float64", 200), ("float32", 784)])
def test_the_parallel_form_is_the_loop_for_large_weights(dtype, length):
    """Also where u^n overflows, in float32 that of 128 steps and more: what a clipped state has
    forgotten cannot make it infinite."""
    u = [-2.0, -1.1, 0.0, 1.0, 1.1, 2.0, -2.0]
    generator = np.random.default_rng(4)
    x, g = generator.normal(size=(2, length, 3, len(u)))
    x[2:9, 0], x[20, 1], x[21:40, 1] = 0, -50, 0
    initial = np.array([[0.25], [0.5], [0.0]]) * np.ones(len(u))
    # A state below 4 decays, and what is above would grow: the largest here is 3.
    x[..., 5] = 0.1 * x[..., 5] - 4
    x[2::25, :, 5] = 3  # also at 127 and 252, before or in the middle of 128 composed steps
    # States above 1/3 lead to 0, 1, 0, 1 in one order, those below in the other.
    x[..., 6] = 1
    with jax.enable_x64(dtype == "float64"):
        arrays = [jnp.asarray(a, dtype) for a in (x, u, initial, g)]
        run = lambda name: jax.jit(partial(values_and_gradients, implemented("relu", name)))  # noqa: E731
        got, expected = run("parallel")(*arrays), run("scan")(*arrays)
        got, expected = jax.tree.map(np.asarray, (got, expected))
    for unit in range(len(u)):
        lanes = [tuple(a[..., unit] for a in result) for result in (got, expected)]
        assert all(np.isfinite(a).all() for a in lanes[1])
        # Measured: 20 units of rounding in float32, 40 in float64.
        assert_near(lanes[0], lanes[1], 100)


def test_eager_calls_are_traced_once(monkeypatch):
    count, forward = 0, _scan.forward

    def counted(*args):
        nonlocal count
        count += 1
        return forward(*args)

    monkeypatch.setattr(_scan, "forward", counted)
    # A shape of its own, since what is traced is kept for the whole process.
    x, u = jnp.ones((3, 17)), jnp.ones(17)
    independent_recurrence(x, u)
    independent_recurrence(x + 1, 2 * u)
    assert count == 1
    independent_recurrence(x, u, activation="tanh")
    assert count == 2


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("implementation", ["scan", "parallel"])
def test_is_split_over_devices(implementation, check_vma):
    """Inside `jax.shard_map`, with weights that the devices share: their derivative is the sum."""
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jax.random.normal(KEY, (5, 8, UNITS))
    f = partial(independent_recurrence, implementation=implementation)
    split = jax.shard_map(
        f,
        mesh=mesh,
        in_specs=(P(None, "batch"), P()),
        out_specs=P(None, "batch"),
        check_vma=check_vma,
    )

    def gradients(f, x, u):
        states, pull = jax.vjp(f, x, u)
        return states, *pull(2 * states)

    def inside(x, u):
        states, dx, du = gradients(f, x, u)
        # Checked, JAX sums what the devices share by itself.
        return states, dx, du if check_vma else lax.psum(du, "batch")

    both = (P(None, "batch"), P(None, "batch"), P())
    own = jax.shard_map(
        inside, mesh=mesh, in_specs=(P(None, "batch"), P()), out_specs=both, check_vma=check_vma
    )
    expected = jax.jit(partial(gradients, f))(x, WEIGHTS)
    for got in (jax.jit(partial(gradients, split))(x, WEIGHTS), jax.jit(own)(x, WEIGHTS)):
        assert_identical(got[:2], expected[:2])
        assert_near(got[2:], expected[2:], 10)  # sums over 40 in another order


def test_sampled_recurrences_are_split_over_devices():
    mesh = jax.make_mesh((4,), ("runs",), axis_types=(jax.sharding.AxisType.Auto,))
    keys, x = jax.random.split(KEY, 4), jax.random.normal(KEY, (5, UNITS))

    def run(keys, u):
        return sampled_independent_recurrence(keys[0], x, u, rate=0.5)[None]

    # The key alone differs: what all devices share is made as different.
    split = jax.shard_map(run, mesh=mesh, in_specs=(P("runs"), P()), out_specs=P("runs"))
    every = lambda keys, u: jnp.concatenate([run(keys[i : i + 1], u) for i in range(4)])  # noqa: E731

    def gradients(f):
        states, pull = jax.vjp(jax.jit(partial(f, keys)), WEIGHTS)
        return states, *pull(2 * states)

    got, expected = gradients(split), gradients(every)
    assert_identical(got[0], expected[0])
    assert_near(got[1:], expected[1:], 10)


def test_the_default_is_the_fastest_measured(monkeypatch):
    x, u, _, _ = problem()
    default = jax.make_jaxpr(independent_recurrence)(x, u)
    named = partial(independent_recurrence, implementation="scan")
    assert str(default) == str(jax.make_jaxpr(named)(x, u))
    monkeypatch.setitem(module._FASTEST, "cpu", "parallel")
    other = partial(independent_recurrence, activation="relu")
    assert str(jax.make_jaxpr(other)(x, u)) != str(default)


# -- sampled nodes


@pytest.mark.parametrize("name", FAMILIES)
def test_nodes_are_those_of_the_families(name):
    family, own = FAMILIES[name], activation(name, 0.0)
    e = jnp.concatenate([jnp.linspace(-6, 6, 199), jnp.array([0.0, -0.0, 1e4, -1e4, 1e-30])])
    words = random_words(KEY, e.shape)[1]
    assert own.sample is not None
    sample = own.sample(words, e)
    assert_identical(sample, family.from_words(words, e))
    assert_identical(own.value(e), family.activation(e))
    for h in (sample, own.value(e)):
        slope = own.slope(h) if own.sampled_slope is None else own.sampled_slope(e, h)
        assert_identical(slope, family.derivative(e, h))


def drawn_before(family, key, x, u, initial, rate):
    """The definition with all words drawn at once, differentiated by JAX as it stands."""

    def step(state, inputs):
        x, first, second = inputs
        e = x + u[None] * state
        uncollapsed = uniform(first) < rate
        state = jnp.where(uncollapsed, family.from_words(second, e), family.activation(e))
        return state, state

    start = jnp.broadcast_to(initial, x.shape[1:])
    return lax.scan(step, start, (x, *random_words(key, x.shape)))[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_sampled_recurrences_are_the_definition(name):
    x, u, initial, g = problem()
    rate = jnp.float32(0.5)
    f = partial(sampled_independent_recurrence, KEY, rate=rate, activation=name)
    definition = lambda x, u, h: drawn_before(FAMILIES[name], KEY, x, u, h, rate)  # noqa: E731
    got = jax.jit(partial(values_and_gradients, f))(x, u, initial, g)
    expected = jax.jit(partial(values_and_gradients, definition))(x, u, initial, g)
    # As above; the slope of a ReLU sample divides by tanh(e), which loses some more bits.
    assert_near(got, expected, 100)


@pytest.mark.parametrize("name", FAMILIES)
def test_forward_mode_and_second_derivatives_of_sampled_recurrences(name):
    f = partial(sampled_independent_recurrence, KEY, rate=jnp.float32(0.5), activation=name)
    definition = lambda x, u, h: drawn_before(FAMILIES[name], KEY, x, u, h, 0.5)  # noqa: E731
    got = jax.jit(partial(derivatives, f))(*part(5))
    expected = jax.jit(partial(derivatives, definition))(*part(5))
    assert_near(got, expected, 100)


def test_rates_of_every_shape():
    x, u, initial, _ = problem(length=6)  # no tanh of these is 1 in float32
    f = partial(sampled_independent_recurrence, KEY, x, u, initial, activation="tanh")
    collapsed = independent_recurrence(x, u, initial, activation="tanh")
    assert_near([f(rate=0.0)], [collapsed], 4)
    assert set(np.unique(f(rate=1.0))) == {-1.0, 1.0}
    units = jnp.arange(UNITS) % 2.0
    by_unit = f(rate=units)
    assert (abs(by_unit[..., 1::2]) == 1).all() and (abs(by_unit[..., ::2]) != 1).all()
    steps = (jnp.arange(6) % 2.0).reshape(-1, 1, 1)
    by_step = f(rate=steps)
    assert (abs(by_step[1::2]) == 1).all() and (abs(by_step[::2]) != 1).all()
    with pytest.raises(ValueError, match="rate of shape"):
        f(rate=jnp.ones(UNITS - 1))
    for wrong in (1.5, -0.1, 2, jnp.array([0.5, 1.1])[:, None, None], np.float32("nan")):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            f(rate=wrong)
    with pytest.raises(TypeError, match="A rate is"):
        inspect.unwrap(sampled_independent_recurrence)(KEY, x, u, rate="all")


def test_other_generators_draw_their_own_words():
    key = jax.random.key(5, impl="rbg")
    x, u, initial, _ = problem()
    got = sampled_independent_recurrence(key, x, u, initial, rate=0.5)
    expected = drawn_before(cg.nodes.ReLU(), key, x, u, initial, 0.5)
    assert_near([got], [expected], 40)


def test_a_row_of_words_is_a_row_of_all_words():
    data = jax.random.key_data(KEY)
    everything = random_words(KEY, (5, 3, 7))
    for row in range(5):
        assert_identical(row_words(data, row, (3, 7)), tuple(w[row] for w in everything))
        part = row_words(data, row, (3, 7), lane=jnp.arange(4, 9, dtype=jnp.uint32))
        assert_identical(part, tuple(w[row].ravel()[4:9] for w in everything))


@pytest.mark.parametrize("size", [2**20, 2**32 - 5, 2**32])
def test_rows_count_beyond_32_bits(size, monkeypatch):
    # The counters instead of the words.
    monkeypatch.setattr("cgjax.kernels.random_bits.threefry_2x32", lambda *given: given[2:])
    for row in (0, 1, 4097, 2**31 + 3):
        lanes = np.array([0, 1, size - 1], np.uint32)
        high, low = row_words((0, 0), np.uint32(row), (size,), lane=jnp.asarray(lanes))
        expected = [row * size + int(lane) for lane in lanes]
        assert [int(h) * 2**32 + int(w) for h, w in zip(high, low, strict=True)] == expected


# -- the kernel for GPUs, in Pallas's interpreter


def interpreted(name, noise, x, u, initial):
    """The kernel, reading two steps ahead, so that there is little to compile."""
    settings = Settings(name, 0.125, noise is not None, "mosaic_gpu", interpret=True, ahead=2)
    u, initial = (a.astype(jnp.float32).reshape(-1, UNITS) for a in (u, initial))
    return recurrence(settings, x, u, initial, noise)


def by_loop(name, noise, x, u, initial):
    u, initial = (a.astype(jnp.float32).reshape(-1, UNITS) for a in (u, initial))
    return recurrence(Settings(name, 0.125, noise is not None), x, u, initial, noise)


# Both values and gradients come from the same operations in the same order, but the compiler may
# contract a product and a sum in one of them: a unit, grown by at most 1.25^13 = 18.
SAME = 20


def assert_same(got, expected):
    assert [a.dtype for a in got] == [a.dtype for a in expected]
    if got[0].dtype == jnp.bfloat16:
        assert_alike(got, expected)
    else:
        assert_near(got, expected, SAME)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("relu", jnp.float32),
        ("relu", jnp.bfloat16),
        ("leaky_relu", jnp.float32),
        ("tanh", jnp.bfloat16),
        ("logistic", jnp.float32),
    ],
)
def test_the_kernel_is_the_loop(name, dtype):
    arguments = problem(dtype=dtype)
    got = jax.jit(partial(values_and_gradients, partial(interpreted, name, None)))(*arguments)
    expected = jax.jit(partial(values_and_gradients, partial(by_loop, name, None)))(*arguments)
    assert_same(got, expected)


@pytest.mark.parametrize(("name", "sampled"), [("tanh", False), ("relu", True)])
def test_the_derivatives_of_the_kernel_are_differentiated(name, sampled):
    noise = Noise(jnp.full((1, 1, 1), 0.5), key=jax.random.key_data(KEY)) if sampled else None
    x, u, initial, _ = problem(length=3)

    def run(f, x, u, initial):
        f = partial(f, name, noise)
        loss = lambda u: jnp.sum(f(x, u, initial) ** 2)  # noqa: E731
        change = jax.jvp(f, (x, u, initial), (x, u, initial))[1]
        return change, jax.jvp(jax.grad(loss), (u,), (u,))[1]

    got = jax.jit(partial(run, interpreted))(x, u, initial)
    assert_near(got, jax.jit(partial(run, by_loop))(x, u, initial), SAME)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_kernel_of_short_sequences(length):
    arguments = problem(length=length)
    got = jax.jit(partial(values_and_gradients, partial(interpreted, "relu", None)))(*arguments)
    expected = values_and_gradients(partial(plain, jax.nn.relu), *arguments)
    assert_near(got, expected, SAME)


def test_the_kernel_at_kinks_is_exact_over_several_blocks():
    # 60 examples of 6 units are three blocks of lanes, the last one not full.
    x = jax.random.randint(KEY, (5, 60, UNITS), -1, 2).astype(jnp.float32)
    u = jnp.array([-1.0, 0.0, 1.0, 2.0, 0.0, -2.0])
    g = jax.random.randint(jax.random.key(3), x.shape, -3, 4).astype(jnp.float32)
    zero = jnp.zeros((60, UNITS))
    got = values_and_gradients(partial(interpreted, "relu", None), x, u, zero, g)
    expected = values_and_gradients(partial(plain, jax.nn.relu), x, u, zero, g)
    assert_identical(got, expected)


@pytest.mark.parametrize(("name", "dtype"), [("relu", jnp.float32), ("tanh", jnp.bfloat16)])
def test_the_sampling_kernel_draws_the_numbers_of_the_loop(name, dtype):
    arguments = problem(length=5, dtype=dtype)
    rate = jnp.linspace(0.2, 0.9, UNITS).reshape(1, 1, -1)
    noise = Noise(rate, key=jax.random.key_data(KEY))
    got = jax.jit(partial(values_and_gradients, partial(interpreted, name, noise)))(*arguments)
    expected = jax.jit(partial(values_and_gradients, partial(by_loop, name, noise)))(*arguments)
    assert_same(got, expected)
    collapsed = by_loop(name, None, *arguments[:3])
    assert (got[0] != collapsed).mean() > 0.3


def test_the_sampling_kernel_maps_over_keys_and_inputs():
    x, u, initial, g = problem(length=3)
    keys = jax.random.split(KEY, 4)

    def run(f, key, u):
        noise = Noise(jnp.full((1, 1, 1), 0.5), key=jax.random.key_data(key))
        return values_and_gradients(partial(f, "tanh", noise), x, u, initial, g)

    many = jnp.stack([u, 0.5 * u, -u, jnp.flip(u)])
    got = jax.jit(jax.vmap(partial(run, interpreted)))(keys, many)
    expected = jax.jit(jax.vmap(partial(run, by_loop)))(keys, many)
    assert_near(got, expected, SAME)
    one = jax.jit(partial(run, by_loop))(keys[3], many[3])
    assert_near(jax.tree.map(lambda a: a[3], got), one, SAME)


def lowered(f, *arguments):
    """A program for CUDA, made without one."""
    return jax.jit(f).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh", "logistic"])
def test_the_kernel_is_lowered_for_cuda(name):
    x, u, initial, g = problem(dtype=jnp.bfloat16 if name == "relu" else jnp.float32)
    f = partial(independent_recurrence, activation=name, implementation="mosaic_gpu")
    assert lowered(partial(values_and_gradients, f), x, u, initial, g).count("mosaic_gpu_v2") == 2
    if name == "leaky_relu":
        return
    f = partial(
        sampled_independent_recurrence, KEY, rate=0.5, activation=name, implementation="mosaic_gpu"
    )
    assert lowered(partial(values_and_gradients, f), x, u, initial, g).count("mosaic_gpu_v2") == 2


def test_the_mapped_and_the_split_kernel_are_lowered_for_cuda():
    x, u, initial, g = (a[:3] if a.ndim == 3 else a for a in problem())
    f = partial(independent_recurrence, implementation="mosaic_gpu")
    run = partial(values_and_gradients, f)
    # A run axis: one kernel for all runs, each way.
    mapped = jax.vmap(run, (None, 0, None, None))
    assert lowered(mapped, x, jnp.stack([u, -u]), initial, g).count("mosaic_gpu_v2") == 2
    sampled = partial(sampled_independent_recurrence, rate=0.5, implementation="mosaic_gpu")

    def one(key, u):
        return values_and_gradients(partial(sampled, key), x, u, initial, g)

    keys = jax.random.split(KEY, 2)
    assert lowered(jax.vmap(one), keys, jnp.stack([u, -u])).count("mosaic_gpu_v2") == 2
    mesh = jax.make_mesh((3,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    batch, shared = P(None, "batch"), P()
    split = jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(batch, shared, P("batch"), batch),
        out_specs=(batch, batch, shared, P("batch")),
    )
    assert lowered(split, x, u, initial, g).count("mosaic_gpu_v2") == 2


def test_a_named_implementation_never_gives_way():
    x, u, initial, g = problem()
    f = partial(independent_recurrence, implementation="mosaic_gpu")
    for run in (f, jax.jit(f), jax.vmap(f, (1, None, 0), 1)):
        with pytest.raises(ValueError, match="for NVIDIA GPUs.* is for cpu; .*'scan' runs on"):
            run(x, u, initial)
    with pytest.raises(ValueError, match="has relu, leaky_relu, tanh, logistic, got 'softplus'"):
        independent_recurrence(x, u, activation="softplus", implementation="mosaic_gpu")
    f = partial(sampled_independent_recurrence, implementation="mosaic_gpu")
    with pytest.raises(ValueError, match="a rate that is the same at all"):
        f(KEY, x, u, rate=jnp.ones((LENGTH, 1, 1)))
    with pytest.raises(ValueError, match="needs a threefry key"):
        f(jax.random.key(0, impl="rbg"), x, u)


# -- mistakes


def test_mistakes_raise():
    x, u, initial, _ = problem()
    with pytest.raises(TypeError, match="floating-point inputs, got int32"):
        independent_recurrence(jnp.ones((3, 2), jnp.int32), jnp.ones(2))
    with pytest.raises(ValueError, match="time as their first axis"):
        independent_recurrence(jnp.float32(1), jnp.float32(1))
    with pytest.raises(ValueError, match=r"weights of shape \(5,\) do not broadcast"):
        independent_recurrence(x, jnp.ones(5))
    with pytest.raises(ValueError, match=r"initial states of shape \(13, 3, 6\) do not"):
        independent_recurrence(x, u, jnp.ones(x.shape))
    # Without the tests' type checks, as a user calls them.
    recurrence = inspect.unwrap(independent_recurrence)
    sampled = inspect.unwrap(sampled_independent_recurrence)
    with pytest.raises(ValueError, match="activation is one of relu, .* got 'gelu'"):
        recurrence(x, u, activation="gelu")
    with pytest.raises(ValueError, match="implementation is one of"):
        recurrence(x, u, implementation="fast")
    with pytest.raises(ValueError, match="leak is positive"):
        independent_recurrence(x, u, activation="leaky_relu", leak=0.0)
    with pytest.raises(ValueError, match="only clipped affine steps"):
        independent_recurrence(x, u, activation="tanh", implementation="parallel")
    with pytest.raises(ValueError, match="relu', sampled"):
        sampled_independent_recurrence(KEY, x, u, implementation="parallel")
    with pytest.raises(ValueError, match="'softplus' are not sampled"):
        sampled(KEY, x, u, activation="softplus")
    assert set(module.NAMES) == set(ACTIVATIONS)
