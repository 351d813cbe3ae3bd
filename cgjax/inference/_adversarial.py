"""Learning an implicit model against a critic: bounds on divergences (f-GAN), and their kin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cgjax import _static
from cgjax._procedure import Arrays, Network, Procedure, check_network
from cgjax._program import Program, Site, trace
from cgjax._static import Tree
from cgjax._walk import Visitor, walk
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._of_observed import of_two_networks
from cgjax.inference._sampling import Estimator, forward_sample
from cgjax.nodes import Bernoulli, Family

Divergence = Literal[
    "kl",
    "reverse_kl",
    "pearson",
    "hellinger",
    "jensen_shannon",
    "gan",
    "non_saturating",
    "hinge",
    "wasserstein",
]
REAL = "real"


class AdversarialLosses(NamedTuple):
    """What a critic and a generator minimise, and what they are made of.

    Attributes:
        critic: the negative bound on the divergence, a scalar with a derivative by what only the
            critic depends on: none flows through the generated example.
        generator: the generator's loss, a scalar whose derivative flows through the generated
            example alone: the critic's own parameters are constants of it.
        of_real, of_generated: the critic's numbers, before the divergence's activation.
    """

    critic: Float[Array, ""]
    generator: Float[Array, ""]
    of_real: Float[Array, "..."]
    of_generated: Float[Array, "..."]

    @property
    def bound(self) -> Float[Array, ""]:
        """The bound on the divergence, an estimate: the critic's loss with the other sign."""
        return -self.critic


class _Losses(NamedTuple):
    """Functions of the critic's number v: the bound is E_real[real(v)] - E_generated[conjugate(v)].

    Attributes:
        real: the activation g(v).
        conjugate: f*(g(v)).
        generator: what the generator minimises; None for the bound itself.
    """

    real: Callable[[Array], Array]
    conjugate: Callable[[Array], Array]
    generator: Callable[[Array], Array] | None = None


_LOG_2 = 0.6931471805599453
_LOSSES: Mapping[str, _Losses] = {
    "kl": _Losses(lambda v: v, lambda v: jnp.exp(v - 1)),
    "reverse_kl": _Losses(lambda v: -jnp.exp(-v), lambda v: v - 1),
    "pearson": _Losses(lambda v: v, lambda v: v**2 / 4 + v),
    "hellinger": _Losses(lambda v: -jnp.expm1(-v), jnp.expm1),
    "jensen_shannon": _Losses(
        lambda v: _LOG_2 - jax.nn.softplus(-v), lambda v: jax.nn.softplus(v) - _LOG_2
    ),
    "gan": _Losses(lambda v: -jax.nn.softplus(-v), jax.nn.softplus),
    "non_saturating": _Losses(
        lambda v: -jax.nn.softplus(-v), jax.nn.softplus, lambda v: jax.nn.softplus(-v)
    ),
    "hinge": _Losses(lambda v: -jax.nn.relu(1 - v), lambda v: jax.nn.relu(1 + v), lambda v: -v),
    "wasserstein": _Losses(lambda v: v, lambda v: v),
}


@dataclass(frozen=True)
class _LogOdds(Visitor):
    """Collapses every node, and records the natural parameter of the one named "real"."""

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, Array | None]:
        return activation, e if site.name == REAL else None


@dataclass(frozen=True)
class _AdversarialOf:
    """The losses as a function of a key, real data, and the generator's arguments."""

    generator: Network
    critic: Network
    divergence: Divergence
    estimator: Estimator

    @property
    def name(self) -> str:
        return "adversarial"

    def __call__(self, key: Array, real: Tree, /, *args: Tree, **kwargs: Tree) -> AdversarialLosses:
        _check_derivative(trace(self.generator, args, kwargs), self.estimator)
        sample = forward_sample(self.generator, estimator=self.estimator)
        generated = sample(key, *args, **kwargs)
        _check_alike(real, generated)
        losses = _LOSSES[self.divergence]
        others = _static.split((args, kwargs), numbers=True)[1]

        def number(x: Tree, others: Arrays, *, fixed: bool = False) -> Array:
            program = trace(self.critic, (x, *args), kwargs)
            if fixed:
                program = program.closing_over(jax.lax.stop_gradient(program.constants))
                others = jax.lax.stop_gradient(list(others))
            return _number(program, [*_static.split(x, numbers=True)[1], *others])

        of_real = number(real, others)
        of_generated = number(jax.lax.stop_gradient(generated), others)
        through = number(generated, others, fixed=True)
        critic = jnp.mean(losses.conjugate(of_generated)) - jnp.mean(losses.real(of_real))
        minimised = losses.generator or (lambda v: -losses.conjugate(v))
        return AdversarialLosses(critic, jnp.mean(minimised(through)), of_real, of_generated)


def _number(critic: Program, arrays: Arrays) -> Array:
    """What the critic says of an example, or of each: its result, or the log-odds of "real"."""
    out, records = walk(critic, _LogOdds(), arrays)
    outputs = [site for site in critic.sites if site.output]
    judge = critic.by_name.get(REAL)
    if judge is not None and judge.family_type is Bernoulli:
        return records[judge.index]
    if judge is not None or outputs:
        site = judge or outputs[0]
        raise ValueError(
            f"The critic's node {site.name!r} is a {site.family_type.__name__} ({site.source}). A "
            "critic returns a number, of any size and without an activation, or has a node of "
            f'the family Bernoulli that is named "{REAL}".'
        )
    leaves = jax.tree.leaves(out)
    if len(leaves) != 1 or not jnp.issubdtype(jnp.result_type(leaves[0]), jnp.floating):
        raise TypeError(
            "A critic returns one number for an example, or an array of one for each, got "
            f"{_static.described(out)}."
        )
    return leaves[0]


def _check_derivative(generator: Program, estimator: Estimator) -> None:
    flat = [s.name for s in generator.sites if s.output and not s.family_type.reparameterised]
    if flat and estimator == "pathwise":
        raise ValueError(
            f"adversarial: the generator's result is the sample of {', '.join(flat)}, which has no "
            'derivative: it would learn nothing. Take estimator="straight_through", or return the '
            "activation (`cgjax.collapse`)."
        )


def _check_alike(real: Tree, generated: Tree) -> None:
    """The numbers of real and generated examples may differ, if both have a leading axis."""
    shapes = [jax.tree.map(jnp.shape, x) for x in (real, generated)]
    structures = [jax.tree.structure(x) for x in (real, generated)]
    ours, theirs = map(jax.tree.leaves, (real, generated))
    alike = structures[0] == structures[1] and all(
        jnp.ndim(a) == jnp.ndim(b) and jnp.shape(a)[1:] == jnp.shape(b)[1:]
        for a, b in zip(ours, theirs, strict=True)
    )
    if not alike:
        raise ValueError(
            f"adversarial: the real example has the shape {shapes[0]}, the generated one "
            f"{shapes[1]}. Both are one example (`jax.vmap` the procedure for a batch), or both "
            "a batch."
        )


def adversarial(
    generator: Network,
    critic: Network,
    divergence: Divergence = "jensen_shannon",
    *,
    estimator: Estimator = "pathwise",
) -> Procedure:
    """The losses of a generator and of a critic that tells its examples from real ones.

        D_f(p || q) = E_q[f(p / q)] >= E_p[g(v(x))] - E_q[f*(g(v(x)))]

    p is the law of real examples, q that of the generator's, v the critic, f* the conjugate of f
    and g an activation that leads into its domain. The critic maximises the bound, which is the
    divergence for the best of all critics, and the generator minimises it.

    | divergence | f(u) | g(v) | f*(g(v)) |
    |---|---|---|---|
    | "kl", KL(p, q) | u log u | v | exp(v - 1) |
    | "reverse_kl", KL(q, p) | -log u | -exp(-v) | v - 1 |
    | "pearson" | (u - 1)^2 | v | v^2 / 4 + v |
    | "hellinger", squared | (sqrt(u) - 1)^2 | 1 - exp(-v) | exp(v) - 1 |
    | "gan", 2 JS - log 4 | u log u - (u + 1) log(u + 1) | -softplus(-v) | softplus(v) |

    "jensen_shannon" is "gan" with the constant that makes it twice the Jensen-Shannon divergence:
    f(u) + (u + 1) log 2, g(v) + log 2 and f*(g(v)) - log 2.

    Of "non_saturating" the critic's loss is that of "gan", and the generator minimises
    E_q[softplus(-v)], whose derivative does not vanish where the critic is sure. "hinge" has
    -relu(1 - v) for g(v) and relu(1 + v) for f*(g(v)), "wasserstein" v for both, which is a bound
    on that distance for critics with slopes of at most 1; with both the generator minimises
    -E_q[v].

    Args:
        generator: an implicit model, `generator(*args)`, which returns an example, or a batch. It
            is sampled.
        critic: a network, `critic(x, *args)`, which returns a number v, or has a node of the family
            Bernoulli named "real", whose natural parameter is v; of a batch, one for each. Its
            nodes are collapsed.
        divergence: a word of the table, or of those below it.
        estimator: of the generator's discrete nodes, as in `forward_sample`.

    Returns:
        `procedure(key, real, *args) -> AdversarialLosses`, of one example or of a batch, over which
        losses are averaged. As each loss is constant in what the other one learns, the gradient of
        `losses.critic + losses.generator` has both gradients in it. What is generated is
        `forward_sample(generator)(key, *args)`.

    Raises:
        ValueError: for an unknown divergence; when called, if real and generated examples differ in
            shape, the generator's result is a discrete node without a derivative, or the critic's
            a node other than "real".
        TypeError: if generator or critic is no network; when called, if the critic returns
            something else than a number.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> def generator(p):
        ...     return p["shift"] + cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(2), name="z")
        >>> critic = lambda x, p: x @ p["slope"]
        >>> p = {"shift": jnp.ones(2), "slope": jnp.array([0.5, 0.0])}
        >>> losses = cg.adversarial(generator, critic, "kl")
        >>> gradient = jax.grad(lambda p: sum(losses(jax.random.key(0), jnp.zeros(2), p)[:2]))(p)
        >>> {name: slope.shape for name, slope in gradient.items()}
        {'shift': (2,), 'slope': (2,)}

    Source: Goodfellow et al., "Generative adversarial nets", 2014; Nowozin, Cseke and Tomioka,
        "f-GAN", 2016; Arjovsky, Chintala and Bottou 2017; Lim and Ye 2017; [C].
    """
    check_network(generator, "adversarial")
    check_network(critic, "adversarial")
    words = get_args(Divergence)
    if divergence not in words:
        raise ValueError(
            f"divergence of adversarial is one of {', '.join(words)}; got {divergence!r}."
        )
    forward_sample(generator, estimator=estimator)  # says what it takes
    return of_two_networks(_AdversarialOf(generator, critic, divergence, estimator), generator)
