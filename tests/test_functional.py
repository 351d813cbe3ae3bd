"""Flax NNX modules: passed to a procedure directly, or split by `functional`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import cgjax as cg
from tests.helpers import assert_identical, relu, spin

KEY = jax.random.key(51)
X = jax.random.normal(jax.random.key(1), (6, 3))


class Net(nnx.Module):
    """Linear, normalisation, node, dropout by Flax, linear."""

    def __init__(self, rngs, dtype=jnp.float32):
        self.hidden = nnx.Linear(3, 4, rngs=rngs, param_dtype=dtype)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.output = nnx.Linear(4, 2, rngs=rngs, param_dtype=dtype)

    def __call__(self, x):
        h = relu(self.norm(self.hidden(x)), "hidden")
        return self.output(self.drop(h))


def make(train=True, **kwargs):
    net = Net(nnx.Rngs(0), **kwargs)
    net.train() if train else net.eval()
    return net


def variables(net):
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        nnx.to_pure_dict(nnx.state(net)),
    )


PROCEDURES = {
    "feed_forward": (cg.feed_forward, ()),
    "forward_sample": (cg.forward_sample, (KEY,)),
    "pcff": (lambda net: cg.pcff(net, {"hidden": 0.5}), (KEY,)),
    "clamp": (lambda net: cg.clamp(net, {"hidden": 0.25}), ()),
}


@pytest.mark.parametrize("name", PROCEDURES)
def test_the_functional_form_is_the_module(name):
    """The same outputs and the same updated variables, twice in a row, jitted or not."""
    build, lead = PROCEDURES[name]
    module, f_module = make(), make()
    f, params, state = cg.functional(f_module)
    before = variables(f_module)
    step = jax.jit(build(f))
    updated: Any = None
    for turn in range(2):
        out = build(module)(*lead, X + turn)
        expected, state = step(*lead, params, state, X + turn)
        # One program compiled with and one without the unused outputs: rounding.
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
        updated = variables(nnx.merge(vars(f)["graphdef"], params, state))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            variables(module),
            updated,
        )
    assert_identical(variables(f_module), before)  # the functional form writes nothing back
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), updated, before)
    assert changed["norm"] == {"bias": False, "mean": True, "scale": False, "var": True}
    assert changed["drop"]["rngs"]["count"]
    assert not any(jax.tree.leaves((changed["hidden"], changed["output"])))


def test_plain_evaluation_and_feed_forward_update_alike():
    one, two = make(), make()
    for _ in range(2):
        # Op by op and compiled: rounding.
        np.testing.assert_allclose(one(X), cg.feed_forward(two)(X), rtol=1e-5, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        variables(one),
        variables(two),
    )


@pytest.mark.parametrize("name", PROCEDURES)
def test_evaluation_mode_writes_nothing_and_works_under_every_transformation(name):
    build, lead = PROCEDURES[name]
    net = make(train=False)
    before = variables(net)
    f = lambda x: build(net)(*lead, x)  # noqa: E731
    expected = f(X)
    closure = build(lambda x: net(x))
    for got in (jax.jit(f)(X), build(net)(*lead, X), closure(*lead, X), jax.jit(closure)(*lead, X)):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)  # other programs: rounding
    gradient = jax.jit(jax.grad(lambda x: f(x).sum()))(X)
    assert gradient.shape == X.shape and np.isfinite(gradient).all()
    rows = jax.vmap(f)(jnp.stack([X, X]))
    np.testing.assert_allclose(rows[1], expected, rtol=1e-5, atol=1e-6)
    scanned = jax.lax.scan(lambda c, x: (c, f(x)), 0, X[None])[1]
    np.testing.assert_allclose(scanned[0], expected, rtol=1e-5, atol=1e-6)
    assert_identical(variables(net), before)


def test_changing_state_inside_someone_elses_transformation_raises_and_names_functional():
    net = make()
    before = variables(net)
    wrappers = (
        jax.jit(lambda x: cg.pcff(net, 0.5)(KEY, x)),
        jax.vmap(lambda x: cg.pcff(net, 0.5)(KEY, x[None])),
        jax.grad(lambda x: cg.pcff(net, 0.5)(KEY, x).sum()),
    )
    for f in wrappers:
        with pytest.raises(ValueError, match="Net changes its own variables.*cgjax.functional"):
            f(X)
    assert_identical(variables(net), before)
    # A module that is passed through `nnx.jit` is at that trace level, and may be changed.
    nnx.jit(lambda net, x: cg.pcff(net, 0.5)(KEY, x))(net, X)
    assert (variables(net)["norm"]["mean"] != before["norm"]["mean"]).any()


def test_a_closure_over_a_module_reads_its_parameters_anew():
    net = make(train=False)
    closure = cg.pcff(lambda x: net(x), 0.5)
    direct = cg.pcff(net, 0.5)
    one = closure(KEY, X), direct(KEY, X)
    net.output.kernel[...] = 2 * net.output.kernel[...]
    bias: Any = net.output.bias
    bias[...] = bias[...] + 1
    two = closure(KEY, X), direct(KEY, X)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(b, 2 * a + 1, rtol=1e-5, atol=1e-6)


def test_sown_values_are_written_back():
    class Sowing(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(3, 2, rngs=rngs)

        def __call__(self, x):
            h = spin(self.linear(x), "h")
            self.sow(nnx.Intermediate, "seen", h)
            return 2 * h

    net = Sowing(nnx.Rngs(0))
    with pytest.warns(DeprecationWarning, match="sow"):
        outs = [cg.forward_sample(net)(k, X) for k in jax.random.split(KEY)]
    intermediate: Any = nnx.state(net, nnx.Intermediate)["seen"]
    seen = intermediate.get_value()
    assert_identical(tuple(2 * s for s in seen), tuple(outs))


def test_shared_submodules_and_stacked_layers():
    class Shared(nnx.Module):
        def __init__(self, rngs):
            self.a = nnx.Linear(3, 3, rngs=rngs)
            self.b = self.a
            self.norm = nnx.BatchNorm(3, rngs=rngs)

        def __call__(self, x):
            return self.norm(2 * spin(self.b(self.norm(spin(self.a(x), "a"))), "b"))

    net, reference = Shared(nnx.Rngs(0)), Shared(nnx.Rngs(0))
    np.testing.assert_allclose(cg.feed_forward(net)(X), reference(X), rtol=1e-5, atol=1e-6)
    assert net.a is net.b
    np.testing.assert_allclose(net.norm.mean[...], reference.norm.mean[...], rtol=1e-5, atol=1e-7)
    f, params, state = cg.functional(net)
    assert len(jax.tree.leaves(params)) == 4  # one kernel and bias, scale and bias

    class Stacked(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=4)
            @nnx.vmap(in_axes=(0,), out_axes=0)
            def layers(rngs):
                return nnx.Linear(3, 3, rngs=rngs)

            self.layers = layers(rngs)

        def __call__(self, x):
            @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
            def run(x, layer):
                return relu(layer(x), "h")

            return 2 * run(x, self.layers)

    stacked = Stacked(nnx.Rngs(0))
    out, nodes = cg.with_nodes(cg.pcff(stacked, 1.0))(KEY, X)
    assert nodes["h"].shape == (4, 6, 3)
    assert_identical(out, 2 * nodes["h"][-1])
    # Compiled, and op by op: rounding of a sum of three terms.
    np.testing.assert_allclose(cg.feed_forward(stacked)(X), stacked(X), rtol=1e-5, atol=1e-6)


def test_networks_made_of_modules():
    net = make(train=False)
    clamped = cg.clamp(net, {"hidden": 0.5})
    expected = net.output(jnp.full((6, 4), 0.5))
    np.testing.assert_allclose(cg.pcff(clamped, 0.5)(KEY, X), expected, rtol=1e-6)
    f, params, state = cg.functional(clamped)
    np.testing.assert_allclose(f(params, state, X)[0], expected, rtol=1e-6)
    training = make()
    cg.feed_forward(cg.clamp(training, {"hidden": 0.5}))(X)
    assert (training.norm.mean[...] != 0).all()


def test_captured_and_averaged_modules():
    net = make(train=False)
    out, nodes = cg.with_nodes(cg.pcff(net, 1.0))(KEY, X)
    np.testing.assert_allclose(net.output(nodes["hidden"]), out, rtol=1e-5, atol=1e-6)
    average = cg.monte_carlo(cg.forward_sample(net), 50)
    estimate, averaged = cg.with_nodes(average)(KEY, X)
    assert estimate.mean.shape == (6, 2)
    np.testing.assert_allclose(
        net.output(averaged["hidden"].mean), estimate.mean, rtol=1e-5, atol=1e-5
    )
    pair = cg.monte_carlo(cg.with_nodes(cg.forward_sample(net)), 50)(KEY, X)
    assert_identical(pair.mean[1]["hidden"], averaged["hidden"].mean)
    f, params, state = cg.functional(net)
    functional = cg.monte_carlo(lambda k, x: cg.forward_sample(f)(k, params, state, x)[0], 50)
    np.testing.assert_allclose(functional(KEY, X).mean, estimate.mean, rtol=1e-5, atol=1e-5)
    one = cg.log_joint(net, batch_axes=0)({"hidden": jnp.ones((6, 4))}, X)
    assert one.shape == () and np.isfinite(one)


@pytest.mark.parametrize(
    "build",
    [lambda net: cg.monte_carlo(cg.forward_sample(net), 4), lambda net: cg.log_joint(net)],
    ids=["monte_carlo", "log_joint"],
)
def test_procedures_that_evaluate_refuse_to_lose_a_change_of_state(build):
    lead = ({"hidden": jnp.ones((6, 4))},) if build(make()).lead == "values" else (KEY,)
    net = make()
    before = variables(net)
    with pytest.raises(ValueError, match=r"Net changes its own variables.*module\.eval\(\)"):
        build(net)(*lead, X)
    assert_identical(variables(net), before)


def test_missing_keys_and_bad_options_raise_before_the_module_is_called():
    net = make()
    with pytest.raises(
        TypeError, match=r"one key of `jax.random`, got an array of float32\[6, 3\]"
    ):
        cg.pcff(net, 0.5)(X)
    with pytest.raises(TypeError, match="first argument is its key"):
        cg.forward_sample(net)()
    with pytest.raises(ValueError, match="rate"):
        cg.pcff(net, 1.5)
    with pytest.raises(
        TypeError, match="functional takes a module of .*, got an object of type function"
    ):
        cg.functional(lambda x: x)
    with pytest.raises(
        TypeError, match="functional takes a module of .*, got an object of type Procedure"
    ):
        cg.functional(cg.feed_forward(lambda x: x))


def test_bfloat16_parameters_stay_so():
    net = make(dtype=jnp.bfloat16)
    cg.pcff(net, 0.5)(KEY, X.astype(jnp.bfloat16))
    assert net.hidden.kernel[...].dtype == jnp.bfloat16
    f, params, state = cg.functional(net)
    grads = jax.grad(lambda p: cg.pcff(f, 0.5)(KEY, p, state, X)[0].sum().astype(jnp.float32))(
        params
    )
    assert {g.dtype for g in jax.tree.leaves(grads)} == {
        jnp.dtype(jnp.bfloat16),
        jnp.dtype(jnp.float32),  # the normalisation's
    }


def test_modules_with_attributes_that_cannot_be_hashed():
    class Configured(nnx.Module):
        def __init__(self):
            self.options = {"scale": 2.0}
            self.seen = {1, 2}

        def __call__(self, x):
            return self.options["scale"] * spin(x, "h")

    net = Configured()
    out = cg.forward_sample(net)(KEY, X)
    assert_identical(cg.forward_sample(net)(KEY, X), out)
    assert set(np.abs(out).ravel().tolist()) == {2.0}


def test_a_change_of_mode_or_of_a_setting_is_seen():
    net = make(train=False)
    quiet = cg.feed_forward(net)
    a = quiet(X)
    assert_identical(quiet(X), a)
    net.drop.deterministic = False
    assert (np.asarray(quiet(X)) != np.asarray(a)).any()


def test_nothing_is_traced_again_while_the_structure_stays():
    traces = 0

    class Counting(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(3, 2, rngs=rngs)
            self.norm = nnx.BatchNorm(2, rngs=rngs)

        def __call__(self, x):
            nonlocal traces
            traces += 1
            return 2 * spin(self.norm(self.linear(x)))

    net = Counting(nnx.Rngs(0))
    for _ in range(3):
        cg.forward_sample(net)(KEY, X)
        bias: Any = net.linear.bias
        bias[...] = bias[...] + 1
    assert traces == 1
    cg.forward_sample(Counting(nnx.Rngs(1)))(KEY, X)
    assert traces == 1


def test_trains_in_the_functional_form():
    f, params, state = cg.functional(make())
    y = jnp.arange(6) % 2
    optimiser = optax.sgd(0.1)

    def loss(params, state, key):
        logits, state = cg.pcff(f, 0.4)(key, params, state, X)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), state

    @jax.jit
    def train(params, state, key):
        def step(carry, key):
            params, state, memory = carry
            (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params, state, key)
            updates, memory = optimiser.update(grads, memory)
            return (optax.apply_updates(params, updates), state, memory), value

        carry = (params, state, optimiser.init(params))
        return jax.lax.scan(step, carry, jax.random.split(key, 200))

    (params, state, _), losses = train(params, state, KEY)
    assert losses[-50:].mean() < 0.6 * losses[:10].mean()
    assert np.isfinite(jax.tree.leaves(params)[0]).all()
