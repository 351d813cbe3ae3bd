"""A 3 x 3 convolution whose derivatives are fast inside loops, too, and one as a matrix product.

XLA's compiler for CPUs has fast kernels for convolutions whose axes are ordered in one way. Outside
loops it reorders the others; inside a `lax.scan` it does not (jax-ml/jax#12868), and the derivative
by the kernel is 30 times slower. In that order it would still be eight times slower than a product
of matrices where there are many rows and few channels: the kernel of that convolution is as large
as the images. So here, on a CPU, one derivative is written in that order, the other as a product.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_NUMBERS = ("NHWC", "HWIO", "NHWC")
_SIDE = 3

Images = Float[Array, "batch rows columns channels"]
Kernel = Float[Array, "3 3 inputs outputs"]


def convolved(x: Images, kernel: Kernel, stride: int) -> Images:
    """A 3 x 3 convolution of images that are padded by one zero on all sides, at any stride.

    JAX's padding "SAME" at stride 2 would put the only zero of an even side at its end, and shift
    the grid of the results by a pixel.
    """
    return _convolved(x, kernel, stride)


def _plain(x: Images, kernel: Kernel, stride: int) -> Images:
    strides, padding = (stride, stride), ((1, 1), (1, 1))
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_NUMBERS)


_convolved = jax.custom_vjp(_plain, nondiff_argnums=(2,))


def _forward(x: Images, kernel: Kernel, stride: int) -> tuple[Images, tuple[Images, Kernel]]:
    return _convolved(x, kernel, stride), (x, kernel)


def _by_kernel(x: Images, gradient: Images, stride: int) -> Kernel:
    """The derivative by the kernel, as one product of matrices over images, rows and columns. The
    images shifted by columns meet the gradient shifted by rows: a third of the memory that patches
    of the images take."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    rows, (m, n) = x.shape[1], gradient.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    end = (n - 1) * stride + 1
    images = [padded[:, :, j : j + end : stride] for j in range(_SIDE)]
    left = rows - (m - 1) * stride - 1  # after the last row that the gradient meets in the middle
    zero, whole = jnp.zeros((), x.dtype), (0, 0, 0)
    edges = [(i - 1, left - (i - 1), stride - 1) for i in range(_SIDE)]
    gradients = [lax.pad(gradient, zero, [whole, edge, whole, whole]) for edge in edges]

    def matrix(shifted: list[Images]) -> Float[Array, "places shifted"]:
        return jnp.concatenate(shifted, -1).reshape(-1, _SIDE * shifted[0].shape[-1])

    product = jnp.matmul(matrix(images).T, matrix(gradients), preferred_element_type=wide)
    inputs, outputs = x.shape[-1], gradient.shape[-1]
    return product.reshape(_SIDE, inputs, _SIDE, outputs).transpose(2, 0, 1, 3)


def _backward(stride: int, saved: tuple[Images, Kernel], gradient: Images) -> tuple[Images, Kernel]:
    def usual(x: Images, kernel: Kernel, gradient: Images) -> tuple[Images, Kernel]:
        _, pull = jax.vjp(partial(_plain, stride=stride), x, kernel)
        return pull(gradient)

    # One size that the stride leaves over at the end of each axis.
    over = [
        n + 2 - _SIDE - (m - 1) * stride
        for n, m in zip(saved[0].shape[1:3], gradient.shape[1:3], strict=True)
    ]

    def for_cpu(x: Images, kernel: Kernel, gradient: Images) -> tuple[Images, Kernel]:
        flipped, padding = kernel[::-1, ::-1].swapaxes(2, 3), [(1, 1 + rest) for rest in over]
        by_x = lax.conv_general_dilated(
            gradient, flipped, (1, 1), padding, (stride, stride), dimension_numbers=_NUMBERS
        )
        return by_x, _by_kernel(x, gradient, stride).astype(kernel.dtype)

    return lax.platform_dependent(*saved, gradient, cpu=for_cpu, default=usual)


_convolved.defvjp(_forward, _backward)


@partial(jax.checkpoint, static_argnums=(2,))
def products(x: Images, kernel: Kernel, stride: int) -> Images:
    """`convolved` as a product of patches and the kernel.

    Mapped over kernels, it is one batched product of matrices, where `convolved` is one grouped
    convolution. The patches are nine times as large as what they are made of: they are made again
    for the derivative, not kept.
    """
    rows, columns = (-(-side // stride) for side in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def shifted(i: int, j: int) -> Images:
        ends = (len(x), i + stride * (rows - 1) + 1, j + stride * (columns - 1) + 1, x.shape[3])
        return lax.slice(padded, (0, i, j, 0), ends, (1, stride, stride, 1))

    patches = jnp.concatenate([shifted(i, j) for i in range(_SIDE) for j in range(_SIDE)], -1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])
