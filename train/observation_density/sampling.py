"""Hamiltonian Monte Carlo by BlackJAX, and whether its chains agree."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

CONVERGED = 1.05  # the largest R-hat of chains that agree


class Chains(NamedTuple):
    """What Hamiltonian Monte Carlo made."""

    positions: Any  # as the initial ones, with axes [chains, draws] in front
    log_density: Float[Array, "chains draws"]
    acceptance: Float[Array, "chains draws"]
    divergent: Any  # bool[chains, draws]
    steps: Any  # int[chains, draws], leapfrog steps of each draw
    step_size: Float[Array, " chains"]


def hamiltonian(
    density: Callable[[Any], Array], key: Key[Array, ""], initial: Any, *, warmup: int, draws: int
) -> Chains:
    """Samples a density by Hamiltonian Monte Carlo, with chains side by side.

    Args:
        density: the logarithm of a density of a tree of arrays, but for a constant.
        key: of `jax.random`.
        initial: where the chains start: a tree with a leading axis of chains.
        warmup: steps in which each chain finds its own step size and diagonal mass matrix.
        draws: steps after that.

    Returns:
        The draws of all chains.
    """
    import blackjax

    # Its annotations do not name what its functions return.
    windows: Any = blackjax.window_adaptation
    nuts: Any = blackjax.nuts

    def chain(key: Any, position: Any) -> Chains:
        first, second = jax.random.split(key)
        adapted, _ = windows(nuts, density).run(first, position, num_steps=warmup)
        kernel = nuts(density, **adapted.parameters)

        def step(state: Any, key: Any) -> Any:
            state, info = kernel.step(key, state)
            told = (
                state.position,
                state.logdensity,
                info.acceptance_rate,
                info.is_divergent,
                info.num_integration_steps,
            )
            return state, told

        columns: Any = jax.lax.scan(step, adapted.state, jax.random.split(second, draws))[1]
        return Chains(*columns, step_size=adapted.parameters["step_size"])

    count = len(jax.tree.leaves(initial)[0])
    return jax.jit(jax.vmap(chain))(jax.random.split(key, count), initial)


def diagnostics(columns: dict[str, Float[Array, "chains draws"]]) -> dict[str, Any]:
    """Whether chains agree: rank-normalised split R-hat and effective sample size of each column.

    Args:
        columns: what is looked at, by name.

    Returns:
        "R-hat" and "effective sample size" by name, the largest and the smallest of them, and
        "converged": whether no R-hat exceeds 1.05.
    """
    from blackjax.diagnostics import ess_bulk, rhat

    stacked = jnp.stack(list(columns.values()), axis=-1)
    # Inside, BlackJAX relies on what the strict setting forbids.
    with jax.numpy_rank_promotion("allow"):
        both = jax.jit(lambda draws: (rhat(draws), ess_bulk(draws)))(stacked)
    ratios, sizes = (np.asarray(each, np.float64).reshape(-1) for each in both)
    # A column that never moves has none; it did not converge.
    ratios = np.where(np.isfinite(ratios), ratios, 1e6)
    sizes = np.where(np.isfinite(sizes), sizes, 0.0)
    return {
        "R-hat": dict(zip(columns, ratios.round(4).tolist(), strict=True)),
        "effective sample size": dict(zip(columns, sizes.round(1).tolist(), strict=True)),
        "largest R-hat": float(ratios.max()),
        "smallest effective sample size": float(sizes.min()),
        "converged": bool(ratios.max() <= CONVERGED),
    }
