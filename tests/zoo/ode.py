"""A neural ordinary differential equation, solved with a fixed step."""

from tests.zoo.build import equinox_parts
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    width = 3

    class NeuralODE(eqx.Module):
        field: eqx.nn.MLP
        head: eqx.nn.Linear

        def __init__(self, key):
            first, second = jax.random.split(key)
            self.field = eqx.nn.MLP(width, width, 8, 1, activation=jnp.tanh, key=first)
            self.head = eqx.nn.Linear(width, 2, key=second)

        def __call__(self, y):
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, args: self.field(y)),
                diffrax.Euler(),
                t0=0.0,
                t1=1.0,
                dt0=0.25,
                y0=y,
                adjoint=diffrax.DirectAdjoint(),
                max_steps=4,
            )
            assert solution.ys is not None
            return self.head(solution.ys[-1])

    parts = equinox_parts(NeuralODE, normal(2, width))
    return parts._replace(f=jax.jit(parts.f))  # a solver takes half a second to trace


EXAMPLES = (
    Example(
        "Neural ODE",
        "equinox",
        "equation",
        _make,
        activations=1,
        errors={
            "local_reparameterization": "anew wherever it is used",
        },
    ),
)
