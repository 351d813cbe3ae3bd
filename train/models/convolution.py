"""A 3 x 3 convolution whose derivatives are fast inside loops, too.

XLA's compiler for CPUs has fast kernels for convolutions whose axes are ordered in one way. Outside
loops it reorders the others; inside a `lax.scan` it does not (jax-ml/jax#12868), and the derivative
by the kernel is 30 times slower. Here derivatives are written in that order.
"""

from functools import partial

import jax
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


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolved(x: Images, kernel: Kernel, stride: int) -> Images:
    return _plain(x, kernel, stride)


def _plain(x: Images, kernel: Kernel, stride: int) -> Images:
    strides, padding = (stride, stride), ((1, 1), (1, 1))
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_NUMBERS)


def _forward(x: Images, kernel: Kernel, stride: int) -> tuple[Images, tuple[Images, Kernel]]:
    return _convolved(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Images, Kernel], gradient: Images) -> tuple[Images, Kernel]:
    def usual(x: Images, kernel: Kernel, gradient: Images) -> tuple[Images, Kernel]:
        _, pull = jax.vjp(partial(_plain, stride=stride), x, kernel)
        return pull(gradient)

    # One size that the stride leaves over at the end of each axis.
    over = [
        n + 2 - _SIDE - (m - 1) * stride
        for n, m in zip(saved[0].shape[1:3], gradient.shape[1:3], strict=True)
    ]

    def in_one_order(x: Images, kernel: Kernel, gradient: Images) -> tuple[Images, Kernel]:
        by_x = lax.conv_general_dilated(
            gradient,
            kernel[::-1, ::-1].swapaxes(2, 3),
            (1, 1),
            [(1, 1 + rest) for rest in over],
            lhs_dilation=(stride, stride),
            dimension_numbers=_NUMBERS,
        )
        # Channels in the place of the batch, which is summed over.
        by_kernel = lax.conv_general_dilated(
            x.transpose(3, 1, 2, 0),
            gradient.transpose(1, 2, 0, 3),
            (1, 1),
            [(1, 1 - rest) for rest in over],
            rhs_dilation=(stride, stride),
            dimension_numbers=_NUMBERS,
        )
        return by_x, by_kernel.transpose(1, 2, 0, 3)

    return lax.platform_dependent(*saved, gradient, cpu=in_one_order, default=usual)


_convolved.defvjp(_forward, _backward)
