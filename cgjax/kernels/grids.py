"""Random fields on grids: messages, mean fields and Gibbs samples of labels that touch neighbours.

Every array of labels has the shape (height, width, labels). Couplings are a pair of matrices: of a
label and the one below it, and of a label and the one to its right; entry (k, l) is the additive
score of k above l, or of k to the left of l.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Key

Labels = Float[Array, "height width labels"]
# Of the label below given the one above, and of the right one given the left one.
Couplings = Float[Array, "2 labels labels"]
# What comes to each place from above, below, the left and the right.
Messages = Float[Array, "4 height width labels"]


def pull(x: Labels, couplings: Couplings) -> Labels:
    """What the neighbours of each place add to the score of each of its labels.

    Args:
        x: one-hot labels, or probabilities of labels, whose average pull is the result.
        couplings: finite.
    """
    down, right = couplings
    zero_row, zero_column = jnp.zeros_like(x[:1]), jnp.zeros_like(x[:, :1])
    above = jnp.concatenate([zero_row, x[:-1] @ down])
    below = jnp.concatenate([x[1:] @ down.T, zero_row])
    left = jnp.concatenate([zero_column, x[:, :-1] @ right], axis=1)
    beside = jnp.concatenate([x[:, 1:] @ right.T, zero_column], axis=1)
    return above + below + left + beside


def even_places(height: int, width: int) -> Bool[Array, "height width 1"]:
    """The white squares of a checkerboard, no two of which are neighbours."""
    return ((jnp.arange(height)[:, None] + jnp.arange(width)[None]) % 2 == 0)[..., None]


def mean_field(
    e: Labels, couplings: Couplings, iterations: int, damping: float, schedule: str
) -> Labels:
    """Probabilities of independent labels that come near the law of the field.

        q_i <- softmax(e_i + sum over neighbours j of q_j C)

    Sequential updates take the places of one colour of a checkerboard, then the others: none of
    them touch, so that each update lowers the free energy. Parallel ones take all at once.

    Args:
        e: scores of the labels of each place.
        couplings: finite.
        iterations: number of updates of every place.
        damping: share of its old probabilities that a place keeps, in [0, 1).
        schedule: "sequential" or "parallel".

    Source: Wainwright and Jordan 2008, section 5.3 (naive mean field).
    """
    q = jax.nn.softmax(e)
    even = even_places(*e.shape[:2])
    places = [even, ~even] if schedule == "sequential" else [jnp.ones_like(even)]

    def update(q: Labels, _: None) -> tuple[Labels, None]:
        for here in places:
            new = jax.nn.softmax(e + pull(q, couplings))
            q = jnp.where(here, (1 - damping) * new + damping * q, q)
        return q, None

    return lax.scan(update, q, None, length=iterations)[0]


def free_energy(q: Labels, e: Labels, couplings: Couplings) -> Float[Array, ""]:
    """Of independent labels with probabilities q, in nats: at least -log Z, by Jensen.

    sum q log q - sum q e - sum over neighbours of q_i C q_j
    """
    entropy = -jnp.sum(jax.scipy.special.xlogy(q, q))
    scores = jnp.sum(jnp.where(q > 0, q * e, 0)) + jnp.sum(q * pull(q, couplings)) / 2
    return -scores - entropy


def belief_propagation(
    e: Labels, couplings: Couplings, iterations: int, damping: float, schedule: str
) -> Labels:
    """Approximate marginals by loopy belief propagation (the sum-product algorithm).

    A message from i to j is the logarithm of sum_k exp(e_i(k) + C(k, l) + what i heard from its
    other neighbours). Sequential updates sweep down, up, right and left, so that a message runs
    along a whole line at once: on a field of one line one sweep is exact. Parallel ones take all
    messages at once, and need as many as the field is long.

    Args: as `mean_field`; damping mixes logarithms of messages.

    Source: Pearl 1988; sweeps as in Tappen and Freeman 2003.
    """
    step = _sweep if schedule == "sequential" else _flood
    messages = jnp.zeros((4, *e.shape), e.dtype)

    def update(messages: Messages, _: None) -> tuple[Messages, None]:
        return step(messages, e, couplings, damping), None

    messages, _ = lax.scan(update, messages, None, length=iterations)
    return jax.nn.softmax(e + messages.sum(0))


def _sent(scores: Float[Array, "... labels"], coupling: Float[Array, "labels labels"]) -> Array:
    """The message of places whose labels have these scores: logarithms of probabilities.

    Normalised with its derivative: without, what all labels of a message share would cancel in
    values alone, and grow threefold at each step of the derivative.
    """
    message = jax.nn.logsumexp(scores[..., :, None] + _like(coupling, scores), axis=-2)
    return jax.nn.log_softmax(message)


def _like(coupling: Float[Array, "labels labels"], scores: Array) -> Array:
    return coupling.reshape((1,) * (scores.ndim - 1) + coupling.shape)


def _flood(messages: Messages, e: Labels, couplings: Couplings, damping: float) -> Messages:
    down, right = couplings
    above, below, left, beside = messages
    # To the place below goes what did not come from it.
    to_below = _sent((e + above + left + beside)[:-1], down)
    to_above = _sent((e + below + left + beside)[1:], down.T)
    to_right = _sent((e + above + below + left)[:, :-1], right)
    to_left = _sent((e + above + below + beside)[:, 1:], right.T)
    row, column = jnp.zeros_like(e[:1]), jnp.zeros_like(e[:, :1])
    new = jnp.stack(
        [
            jnp.concatenate([row, to_below]),
            jnp.concatenate([to_above, row]),
            jnp.concatenate([column, to_right], axis=1),
            jnp.concatenate([to_left, column], axis=1),
        ]
    )
    return (1 - damping) * new + damping * messages


def _sweep(messages: Messages, e: Labels, couplings: Couplings, damping: float) -> Messages:
    down, right = couplings
    above, below, left, beside = messages

    def along(scores: Array, old: Array, coupling: Array, *, reverse: bool) -> Array:
        """Messages along the leading axis; old ones have the place they come to."""

        def pass_on(message: Array, place: tuple[Array, Array]) -> tuple[Array, Array]:
            score, before = place
            new = (1 - damping) * _sent(score + message, coupling) + damping * before
            return new, new

        if reverse:
            rest, its_old = scores[1:], old[:-1]
        else:
            rest, its_old = scores[:-1], old[1:]
        first = jnp.zeros_like(old[0])
        _, new = lax.scan(pass_on, first, (rest, its_old), reverse=reverse)
        return jnp.concatenate([new, first[None]] if reverse else [first[None], new])

    above = along(e + left + beside, above, down, reverse=False)
    below = along(e + left + beside, below, down.T, reverse=True)
    across = jnp.swapaxes(e + above + below, 0, 1)
    left = along(across, jnp.swapaxes(left, 0, 1), right, reverse=False)
    beside = along(across, jnp.swapaxes(beside, 0, 1), right.T, reverse=True)
    return jnp.stack([above, below, jnp.swapaxes(left, 0, 1), jnp.swapaxes(beside, 0, 1)])


def gibbs(
    key: Key[Array, ""], start: Labels, e: Labels, couplings: Couplings, sweeps: int
) -> Labels:
    """One-hot labels after a number of sweeps of Gibbs sampling over a checkerboard.

    Args:
        key: one typed key.
        start: one-hot labels.
        e: scores.
        couplings: finite.
        sweeps: each draws every place anew, first one colour, then the other.

    Source: Geman and Geman 1984.
    """
    even = even_places(*e.shape[:2])

    def sweep(x: Labels, key: Key[Array, ""]) -> tuple[Labels, None]:
        for here, its_key in zip((even, ~even), jax.random.split(key), strict=True):
            x = jnp.where(here, drawn(its_key, e + pull(x, couplings)), x)
        return x, None

    return lax.scan(sweep, start, jax.random.split(key, sweeps))[0]


def drawn(key: Key[Array, ""], scores: Float[Array, "*places labels"]) -> Array:
    """One-hot labels, drawn independently with probabilities softmax(scores)."""
    chosen = jax.random.categorical(key, scores)
    return jax.nn.one_hot(chosen, scores.shape[-1], dtype=scores.dtype)


def conditional_modes(start: Labels, e: Labels, couplings: Couplings, sweeps: int) -> Labels:
    """One-hot labels, each of which was set to the best one given its neighbours, again and again.

    No sweep lowers the probability of the whole: the end is a local maximum if nothing changes.

    Source: Besag 1986 (iterated conditional modes).
    """
    even = even_places(*e.shape[:2])

    def sweep(x: Labels, _: None) -> tuple[Labels, None]:
        for here in (even, ~even):
            x = jnp.where(here, best(e + pull(x, couplings)), x)
        return x, None

    return lax.scan(sweep, start, None, length=sweeps)[0]


def best(scores: Float[Array, "*places labels"]) -> Array:
    """The one-hot label of the highest score; of equal ones, the first."""
    return jax.nn.one_hot(scores.argmax(-1), scores.shape[-1], dtype=scores.dtype)
