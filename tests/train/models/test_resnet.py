"""The residual networks, against the usual ones as they are usually written."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from benchmarks.bounds import equations
from tests.helpers import filled
from train.models.resnet import Identity, Padded, ResNet, convolved

KEY = jax.random.key(31)
X = jax.random.normal(jax.random.key(32), (3, 8, 8, 3))
SHORTCUTS = ["convolution", "pad"]
# Two for each of four blocks, and the last.
PLACES = 9


def build(shortcut: Any, **options: Any) -> ResNet:
    """A small network."""
    return filled(
        lambda: ResNet(
            blocks=2, widths=(4, 7), shortcut=shortcut, classes=5, rngs=nnx.Rngs(0), **options
        )
    )


@functools.cache
def functions(shortcut, mode):
    """`f, params, state` of the small network."""
    net = build(shortcut)
    getattr(net, mode)()
    return cg.functional(net)


@functools.cache
def plain(shortcut, mode):
    f, params, state = functions(shortcut, mode)
    return jax.jit(f)(params, state, X)


# -- the usual network


def usual(net, x, train):
    """A pre-activation residual network by its formula, and the batch statistics by module."""
    moments = {}

    def conv(layer, x, stride=1):
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        rows = (x.shape[1] - 3) // stride + 1
        out: Any = 0.0
        for i in range(3):
            for j in range(3):
                shifted = x[:, i : i + stride * rows : stride, j : j + stride * rows : stride]
                out += shifted[:, :rows, :rows] @ layer.kernel[...][i, j]
        return out

    def activate(place, x):
        norm = place.node.normalise
        mean, var = norm.mean[...], norm.var[...]
        if train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            moments[id(norm)] = mean, var
        row = (1, 1, 1, -1)
        x = (x - mean.reshape(row)) / jnp.sqrt(var.reshape(row) + 1e-5)
        return jnp.maximum(x * norm.scale[...].reshape(row) + norm.bias[...].reshape(row), 0)

    def side(block, x, stride):
        h = conv(block.first, activate(block.before, x), stride)
        return conv(block.second, activate(block.between, h))

    e = conv(net.first, x)
    for block in net.blocks:
        if isinstance(block, Identity):
            e = e + side(block.side, e, 1)
        elif isinstance(block, Padded):
            refined = side(block.side, e, 2)
            new = refined.shape[-1] - e.shape[-1]
            kept = slice(new // 2, new // 2 + e.shape[-1])
            e = refined.at[..., kept].add(e[:, ::2, ::2])
        else:
            h = activate(block.before, e)
            inner = activate(block.between, conv(block.copy, h, 2))
            e = conv(block.base, h, 2) + conv(block.second, inner)
    pooled = activate(net.last, e).mean((1, 2))
    logits = pooled @ net.output.kernel[...] + net.output.bias[...].reshape(1, -1)
    return logits, moments


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_feed_forward_is_the_usual_network(shortcut, mode):
    net = build(shortcut)
    expected, moments = jax.jit(lambda x: usual(net, x, mode == "train"))(X)
    got, state = plain(shortcut, mode)
    # Rounding in float32, through a dozen layers that divide by deviations.
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)
    assert len(moments) == (PLACES if mode == "train" else 0)
    for path, module in nnx.iter_modules(net):
        if not isinstance(module, nnx.BatchNorm):
            continue
        new: Any = functools.reduce(lambda tree, name: tree[name], path, state)
        for name, moment in zip(
            ("mean", "var"), moments.get(id(module), (None, None)), strict=True
        ):
            old = getattr(module, name)[...]
            expected = old if moment is None else 0.9 * old + 0.1 * moment
            np.testing.assert_allclose(new[name][...], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_collapsed_nodes_give_the_same(shortcut, mode):
    f, params, state = functions(shortcut, mode)
    expected = plain(shortcut, mode)
    got = jax.jit(cg.pcff(f, 0.0))(KEY, params, state, X)
    # One program of two: the order of sums may differ.
    same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(same, got, expected)


# -- ResNet20

MEASURED = {"convolution": (292_762, 42.91), "pad": (269_722, 40.55)}


def multiply_adds(jaxpr):
    """Of all convolutions and matrix products of a program, in millions."""
    count = 0
    for equation in equations(jaxpr):
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape  # rows, columns, inputs, outputs
            count += math.prod(equation.outvars[0].aval.shape) * math.prod(kernel[:-1])
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            summed = math.prod(shape[axis] for axis in contracted)
            count += math.prod(equation.outvars[0].aval.shape) * summed
    return count


@pytest.fixture(scope="module", params=SHORTCUTS)
def full(request):
    """ResNet20, and one image without values."""
    net = filled(lambda: ResNet(shortcut=request.param, rngs=nnx.Rngs(0)))
    net.eval()
    return request.param, net, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)


def test_the_size_of_resnet20(full):
    shortcut, net, x = full
    parameters, millions = MEASURED[shortcut]
    f, params, state = cg.functional(net)
    assert sum(math.prod(p.shape) for p in jax.tree.leaves(params)) == parameters
    traced = jax.make_jaxpr(f)(params, state, x)
    assert round(multiply_adds(traced.jaxpr) / 1e6, 2) == millions


def test_the_graph_of_resnet20_has_a_component_for_each_place(full):
    """A block's first nodes see all that was added below since the stage began; in the usual
    network, whose shortcuts are fixed connections, since the network began."""
    shortcut, net, x = full
    graph = cg.chain_graph(net)(x)
    expected, sources = [], ["x"]
    for stage, side in ((1, 32), (2, 16), (3, 8)):
        for block in (1, 2, 3):
            name, width = f"stage_{stage}_block_{block}", 512 // side
            transition = stage > 1 and block == 1
            copy = "" if transition else "copy/"
            below = (2 * side, width // 2) if transition else (side, width)
            before, between = f"{copy}{name}_before", f"{copy}{name}_between"
            if transition and shortcut == "convolution":
                between = f"copy/{between}"
            expected.append((before, (1, below[0], *below), sources))
            expected.append((between, (1, side, side, width), [before]))
            if transition and shortcut == "convolution":
                sources = [before]
            sources = [*sources, between]
    expected.append(("last", (1, 8, 8, 64), sources))
    assert len(expected) == 19
    assert [(c.name, c.shape, [p.name for p in c.parents]) for c in graph] == expected
    assert [p.name for p in graph.results[0].parents] == ["last"]


# -- what may be chosen


def test_a_given_convolution_computes_all_of_them_but_the_numbers_stay():
    """As products of patches and the kernel, which batches better over runs."""
    strides = []

    def of_patches(x, kernel, stride):
        strides.append(stride)
        patches = jax.lax.conv_general_dilated_patches(
            x,
            (3, 3),
            (stride, stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        # The patches' features are ordered by channel, then row, then column.
        return patches @ kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[-1])

    net = build("convolution", convolution=of_patches)
    f, params, state = cg.functional(net)
    got, _ = jax.jit(f)(params, state, X)
    assert sorted(strides) == [1] * 8 + [2, 2]
    # Sums in another order, in float32.
    np.testing.assert_allclose(got, plain("convolution", "train")[0], rtol=1e-3, atol=1e-3)


def test_convolutions_in_bfloat16_keep_the_weights_and_logits():
    net = build("convolution", dtype=jnp.bfloat16)
    f, params, state = cg.functional(net)
    assert {p.dtype for p in jax.tree.leaves((params, state))} == {jnp.dtype(jnp.float32)}
    text = str(jax.make_jaxpr(f)(params, state, X))
    lines = [line for line in text.splitlines() if "conv_general_dilated[" in line]
    assert len(lines) == 10 and all(":bf16[" in line for line in lines)
    (logits, new), (exact, _) = jax.jit(f)(params, state, X), plain("convolution", "train")
    assert logits.dtype == jnp.float32
    assert {p.dtype for p in jax.tree.leaves(new)} == {jnp.dtype(jnp.float32)}
    # Eight bits of mantissa, through ten layers.
    np.testing.assert_allclose(logits, exact, atol=0.1)
    assert abs(logits - exact).max() > 1e-4


def test_dropout_at_every_place_at_a_rate_that_may_be_traced():
    f, params, state = functions("convolution", "train")
    sampled = cg.pcff(f, 0.0)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def run(rate, keys):
        return cg.with_nodes(sampled)(keys, params, state, X, rate)

    (logits, _), nodes = run(jnp.array([0.0, 0.5, 1.0]), KEY)
    exact, _ = plain("convolution", "train")
    np.testing.assert_allclose(logits[0], exact, rtol=1e-3, atol=1e-3)  # float32's rounding
    # What is dropped altogether leaves the bias of the last layer.
    expected = jnp.broadcast_to(params["output"]["bias"][...], exact.shape)
    np.testing.assert_array_equal(logits[2], expected)
    masks = {name: m for name, m in nodes.items() if name.endswith("_dropout")}
    assert len(masks) == PLACES == len(nodes) - PLACES
    for mask in masks.values():
        assert (mask[0] == 1).all() and (mask[2] == 0).all()
        kept, n = mask[1].mean(), mask[1].size
        assert abs(kept - 0.5) < 5 * 0.5 / n**0.5


@pytest.mark.parametrize(("side", "stride"), [(8, 1), (8, 2), (7, 2)])
def test_padding_is_one_on_both_sides(side, stride):
    """A kernel that picks its first element sees the zeros above and to the left."""
    x = jnp.arange(1.0, side * side + 1).reshape(1, side, side, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0)
    got = convolved(x, kernel, stride)[0, :, :, 0]
    expected = np.pad(np.asarray(x)[0, :, :, 0], ((1, 1), (1, 1)))[:-2:stride, :-2:stride]
    np.testing.assert_array_equal(got, expected)


def test_initial_weights_are_uniform_in_the_number_of_inputs():
    net = ResNet(blocks=1, widths=(32,), rngs=nnx.Rngs(0))
    seen = 0
    modules: Any = nnx.iter_modules(net)
    for _, module in modules:
        if not hasattr(module, "kernel"):
            continue
        kernel = module.kernel[...]
        bound = math.prod(kernel.shape[:-1]) ** -0.5
        # Of 160 and more uniform values, the largest is above 0.9 of the bound but for 0.9^160.
        assert 0.9 * bound < abs(kernel).max() <= bound
        # Their variance is a third of the bound's square; that of a square, 4/45 of its square.
        error = (4 / 45 / kernel.size) ** 0.5
        assert abs((kernel**2).mean() / bound**2 - 1 / 3) < 5 * error
        assert abs(kernel.mean()) < 5 * bound / (3 * kernel.size) ** 0.5
        seen += 1
    assert seen == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shortcut": "none"}, "shortcut is one of convolution, pad, got 'none'"),
        ({"blocks": 0}, r"expected a block and a width, got 0 and \(16, 32, 64\)"),
        ({"widths": ()}, r"expected a block and a width, got 3 and \(\)"),
        ({"shortcut": "pad", "widths": (8, 4)}, r"not removed: got widths \(8, 4\)"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**options, rngs=nnx.Rngs(0))
