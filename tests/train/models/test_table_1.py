"""The networks of [B] Table 1: their sizes, and their values and gradients by NumPy."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from tests.helpers import filled
from tests.train.models import plain
from tests.train.models.test_resnet import multiply_adds
from train.models.densenet import DenseNetBC
from train.models.efficientnet import EfficientNet, Stage
from train.models.mixer import Mixer
from train.models.parts import Parts
from train.models.residual import PostActivationBlock, PreActivationResNet, wide_resnet
from train.models.table_1 import NETWORKS, network

PARAMETERS = {
    "tiny": 5_234,
    "densenet-bc-100-12": 769_162,
    "densenet-bc-40-12": 176_122,
    "preact-resnet-18": 11_171_146,
    "resnet-18": 11_173_962,
    "preact-resnet-110": 1_727_962,
    "preact-resnet-164": 1_703_258,
    "wrn-28-10": 36_479_194,
    "wrn-16-4": 2_748_890,
    "efficientnet-b0": 4_020_358,
    "efficientnet-b0-cifar": 3_599_686,
    "mixer-s-2": 17_879_562,
    "mixer-s-4": 17_110_026,
    "mixer-s-8": 16_986_762,
    "mixer-nano": 1_132_170,
}
# In millions, for an image of 32 x 32 pixels.
MULTIPLY_ADDS = {
    "densenet-bc-40-12": 72.4,
    "preact-resnet-18": 555.4,
    "resnet-18": 555.4,
    "wrn-16-4": 392.6,
    "mixer-s-4": 1210,
}
RNGS = functools.partial(nnx.Rngs, 0)
IMAGE = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)


def parts(**options: Any) -> Parts:
    return Parts(RNGS(), **options)


@functools.cache
def abstract(name: str) -> Any:
    """A network without values."""
    return nnx.eval_shape(lambda: network(name, parts()))


def size(net: Any) -> int:
    return sum(math.prod(p.shape) for p in jax.tree.leaves(nnx.state(net, nnx.Param)))


@pytest.mark.parametrize("name", NETWORKS)
def test_number_of_parameters(name):
    assert size(abstract(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_multiply_adds(name):
    graph, state = nnx.split(abstract(name))
    traced = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x))(state, IMAGE)
    assert traced.out_avals[0].shape == (1, 10)
    expected = MULTIPLY_ADDS[name]
    digits = 1 if expected < 1000 else 0
    assert round(multiply_adds(traced.jaxpr) / 1e6, digits) == expected


def test_without_normalisation_there_are_biases_and_scales():
    """Scale and bias of a normalisation go; a bias for each channel of a convolution, and a number
    for each block, come."""
    net = nnx.eval_shape(lambda: network("wrn-16-4", parts(norm="none")))
    usual = abstract("wrn-16-4")
    kinds: Any = [m for _, m in nnx.iter_modules(usual)]
    of_norms = sum(2 * m.num_features for m in kinds if isinstance(m, nnx.BatchNorm))
    channels = sum(m.kernel.get_raw_value().shape[-1] for m in kinds if hasattr(m, "kernel"))
    assert size(net) == size(usual) - of_norms + (channels - 10) + 6
    assert not any(isinstance(m, nnx.BatchNorm) for _, m in nnx.iter_modules(net))


# -- values and gradients

STAGES = (Stage(1, 3, 1, 4, 1), Stage(3, 5, 2, 6, 2))
SMALL: dict[str, tuple[Callable[[], Any], Callable[[Any, Any], np.ndarray]]] = {
    "densenet": (lambda: DenseNetBC(10, 2, parts=parts(classes=3)), plain.densenet),
    "preactivation": (
        lambda: PreActivationResNet(
            (2, 1), (4, 7), first=4, shortcut="pad", parts=parts(classes=3)
        ),
        functools.partial(plain.preactivation, strides=[1, 1, 2]),
    ),
    "preactivation, none": (
        lambda: PreActivationResNet(
            (1, 1),
            (2, 3),
            first=5,
            bottleneck=True,
            parts=parts(classes=3, norm="none", standardised=True),
        ),  # fmt: skip
        functools.partial(plain.preactivation, strides=[1, 2]),
    ),
    "postactivation": (
        lambda: PostActivationBlock(3, 4, 2, 4, parts(norm="batch")),
        functools.partial(plain.postactivation, stride=2),
    ),
    "efficientnet": (
        lambda: EfficientNet(STAGES, first=4, head=7, parts=parts(classes=3)),
        functools.partial(plain.efficientnet, strides=[1, 2, 1], factor=1),
    ),
    "efficientnet, none": (
        lambda: EfficientNet(STAGES[:1], first=4, head=7, parts=parts(classes=3, norm="none")),
        functools.partial(plain.efficientnet, strides=[1], factor=2),
    ),
    "mixer": (
        lambda: Mixer(2, 4, 5, 6, 1, parts=parts(side=8, classes=3)),
        functools.partial(plain.mixer, patch=2),
    ),
    "mixer, none": (
        lambda: Mixer(4, 4, 5, 6, 1, parts=parts(side=8, classes=3, norm="none")),
        functools.partial(plain.mixer, patch=4),
    ),
}
X = np.random.default_rng(3).normal(size=(2, 8, 8, 3)).astype(np.float32)


def numbers(tree: Any) -> Any:
    """Nested dictionaries of float64 arrays."""
    if isinstance(tree, dict):
        return {key: numbers(value) for key, value in tree.items()}
    return np.asarray(tree, np.float64)


def moved(tree: Any, direction: Any, by: float) -> Any:
    """`tree` where `direction` has no such array, else so far into it."""
    if isinstance(tree, dict):
        return (
            {key: moved(tree[key], direction.get(key), by) for key in tree} if direction else tree
        )
    return tree if direction is None else tree + by * direction


@pytest.mark.parametrize("name", SMALL)
def test_values_and_gradients_by_numpy(name):
    make, expected = SMALL[name]
    net = filled(make)
    net.eval()
    f, params, state = cg.functional(net)

    def total(params, weights):
        out = f(params, state, X)[0]
        return jnp.vdot(out, weights), out

    # Of the values as functions of the parameters: one output at random weights.
    generator = np.random.default_rng(5)
    shape = expected(numbers(nnx.to_pure_dict(nnx.state(net))), X.astype(np.float64)).shape
    weights = generator.normal(size=shape)
    gradient, out = jax.jit(jax.grad(total, has_aux=True))(params, jnp.float32(weights))
    tree = numbers(nnx.to_pure_dict(nnx.state(net)))
    # float32's rounding, through a dozen layers.
    np.testing.assert_allclose(out, expected(tree, X.astype(np.float64)), rtol=1e-4, atol=1e-4)

    # Along a direction, by a central difference in float64 that no kink lies within.
    flat, structure = jax.tree.flatten(gradient)
    directions = [generator.normal(size=g.shape) for g in flat]
    direction = numbers(nnx.to_pure_dict(jax.tree.unflatten(structure, directions)))
    step = 1e-6
    above, below = (
        np.vdot(weights, expected(moved(tree, direction, by), X.astype(np.float64)))
        for by in (step, -step)
    )
    slope = sum(float(np.vdot(g, d)) for g, d in zip(flat, directions, strict=True))
    size = math.sqrt(sum(float(np.vdot(g, g)) for g in flat))
    assert abs(slope - (above - below) / (2 * step)) < 2e-4 * size


def test_with_stochastic_normalisation_kernels_have_norm_one():
    """Without noise, the network with batch normalisation at test time and divided kernels."""
    make = functools.partial(PreActivationResNet, (1,), (4,), first=4)
    net = filled(lambda: make(parts=parts(norm="stochastic", classes=3)))
    expected = functools.partial(plain.preactivation, strides=[1])
    net.eval()
    tree = numbers(nnx.to_pure_dict(nnx.state(net)))

    def divided(tree: Any) -> Any:
        if not isinstance(tree, dict):
            return plain.unit(tree) if tree.ndim == 4 else tree
        return {key: divided(value) for key, value in tree.items()}

    f, params, state = cg.functional(net)
    posterior = cg.weights.mean_field(params, {"first/kernel": 1e-3})
    moments = cg.weights.deterministic(f)

    @jax.jit
    def run(key, x):
        sampled = cg.with_nodes(cg.forward_sample(f))(key, params, state, x)
        return f(params, state, x)[0], sampled, moments(key, posterior, state, x)

    out, ((sampled, _), nodes), (belief, _) = run(jax.random.key(1), X)
    # float32's rounding, through a dozen layers.
    np.testing.assert_allclose(out, expected(divided(tree), X.astype(np.float64)), 1e-4, 1e-4)
    assert size(net) == size(nnx.eval_shape(lambda: make(parts=parts(classes=3))))
    places = sum(isinstance(m, cg.layers.StochasticNorm) for _, m in nnx.iter_modules(net))
    assert len(nodes) == 2 * places and abs(sampled - out).max() > 1e-3
    assert jnp.isfinite(belief.mean).all() and (belief.variance > 0).all()


def test_branches_begin_with_one_over_the_root_of_their_number():
    net = wide_resnet(10, 1, parts=parts(norm="none"))
    assert [float(block.scale.factor[...]) for block in net.blocks] == pytest.approx([3**-0.5] * 3)
    skip = wide_resnet(10, 1, parts=parts(norm="none", scale=0.0))
    assert [float(block.scale.factor[...]) for block in skip.blocks] == [0, 0, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: network("vgg", parts()),
            "network is one of tiny, .*got 'vgg'",
        ),
        (lambda: DenseNetBC(41, parts=parts()), r"6 n \+ 4, n at least 1, got 41"),
        (lambda: wide_resnet(27, 10, parts=parts()), r"6 n \+ 4, n at least 1, got 27"),
        (lambda: wide_resnet(10, 1, parts=parts(norm="group")), "norm is one of batch.*'group'"),
        (
            lambda: DenseNetBC(10, parts=parts(standardised=True)),
            "stand in for a normalisation, got norm='batch'",
        ),
        (
            lambda: PreActivationResNet((2, 0), (4, 8), parts=parts()),
            r"each width, got \(2, 0\)",
        ),
        (
            lambda: PreActivationResNet((1,), (4,), shortcut="none", parts=parts()),  # type: ignore[arg-type]
            "'project' or 'pad', got 'none'",
        ),
        (
            lambda: PreActivationResNet((1,), (4,), shortcut="pad", parts=parts()),
            "padded, not removed: got 4 of 16",
        ),
        (lambda: EfficientNet((), parts=parts()), "at least one stage"),
        (lambda: Mixer(5, parts=parts()), "Patches of 5 pixels do not tile images of 32"),
        (lambda: Mixer(4, parts=parts(standardised=True)), "no convolutions to standardise"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
