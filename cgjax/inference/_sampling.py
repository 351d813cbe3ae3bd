"""Forward sampling and the partially collapsed feed-forward ([A] section 5, Eq. 14)."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method, own_key
from cgjax._program import Program, Site
from cgjax._rate import Rate
from cgjax._static import Leaf, Tree
from cgjax._walk import Visitor, walk
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._rates import Rates, all_sampled, asks, check_rate, resolve_rates
from cgjax.kernels.random_bits import uniform
from cgjax.nodes import Family

Words = tuple[Array, Array]
Estimator = Literal["pathwise", "straight_through"]


@dataclass(frozen=True)
class _Sampler(Visitor):
    """Samples each node with a probability: a number here, or an array handed in (None)."""

    rates: tuple[float | None, ...] = ()
    estimator: Estimator = "pathwise"

    def draws(self, site: Site) -> bool:
        return self.rates[site.index] != 0.0

    def changes(self, site: Site) -> bool:
        return self.draws(site)

    def passes(self, site: Site) -> bool:
        return not self.capture and not self.draws(site)

    def value(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> Array:
        rate = self.rates[site.index]
        if rate == 0.0:
            return activation
        if rate is None:
            assert given is not None  # a rate that is no number is given as an array
            rate = _fitted(site, given, family.mask_shape(site.shape))
        words = draw()
        if self.estimator == "pathwise" and _has_derivative(site, family):
            return _value(family, words, rate, activation, e)
        return _mixture(family, words, rate, activation, e, self.estimator)

    def rate(self, site: Site, given: Array | None) -> Rate:
        rate = self.rates[site.index]
        known = given if rate is None else rate
        assert known is not None
        return known


def _mixture(
    family: Family, words: Words, rate: Rate, activation: Array, e: Array, estimator: Estimator
) -> Array:
    """A sample with probability `rate`, else the activation."""
    mask_word, sample_word = words
    sample = family.from_words(sample_word, e)
    if estimator == "straight_through" and not family.reparameterised:
        # The sample's value with the activation's derivative; the difference is exactly 0.
        fixed = jax.lax.stop_gradient
        sample = fixed(sample) + (activation - fixed(activation))
    if isinstance(rate, float) and rate == 1.0:
        return sample
    # One mask for each random variable: along a class axis the first word decides for all.
    shape = family.mask_shape(e.shape)
    mask_word = mask_word[tuple(slice(n) for n in shape)]
    uncollapsed = uniform(mask_word, jnp.float32) < rate
    return jnp.where(jnp.broadcast_to(uncollapsed, e.shape), sample, activation)


def _has_derivative(site: Site, family: Family) -> bool:
    """Whether the family gives the derivative of a value, precise enough at this dtype."""
    wide = jnp.finfo(site.dtype).bits >= 32
    known = site.family.num_arrays == 0
    return wide and known and site.family_type.derivative is not Family.derivative


def _value(family: Family, words: Words, rate: Rate, activation: Array, e: Array) -> Array:
    """The mixture, with its derivative as a function of e and the value alone.

    Differentiating the mixture itself makes XLA generate the random words again in the backward
    pass, in every fusion that uses them; this derivative needs neither words nor mask.
    """

    known = isinstance(rate, float)

    @jax.custom_jvp
    def mixture(words: Words, rates: Tree, activation: Array, e: Array) -> Array:
        return _mixture(family, words, rate if known else rates, activation, e, "pathwise")

    @mixture.defjvp
    def jvp(primals: Sequence[Tree], tangents: Sequence[Tree]) -> tuple[Array, Array]:
        value = mixture(*primals)
        # The value is a call of the same function, so that higher derivatives are right too.
        return value, tangents[-1] * family.derivative(primals[-1], value)

    return mixture(words, () if known else rate, activation, e)


def _fitted(site: Site, rate: Array, shape: tuple[int, ...]) -> Array:
    if any(n not in (1, m) for n, m in zip(rate.shape, shape, strict=True)):
        raise ValueError(
            f"A rate of shape {rate.shape} does not broadcast against the node {site.name!r}, "
            f"which has one mask for each of its variables, of shape {shape} ({site.source})."
        )
    return jnp.broadcast_to(rate, shape)


def _sample(
    program: Program,
    key: Array,
    arrays: Arrays,
    rates: list[Rate],
    options: "ForwardSample | Pcff",
    capture: bool,
    implementation: str,
) -> Result:
    given = {i: rate for i, rate in enumerate(rates) if not isinstance(rate, float)}
    visitor = _Sampler(
        capture,
        options.rounds,
        options.inline,
        # An implementation knows the pathwise derivative only.
        None if capture or options.estimator != "pathwise" else implementation,
        tuple(rate if isinstance(rate, float) else None for rate in rates),
        options.estimator,
    )
    return walk(program, visitor, arrays, key=own_key(key), given=given)


def _warn_if_nothing_is_sampled(
    method: Method, net: Network, program: Program, rates: Sequence[Rate]
) -> None:
    """Warns of a network without nodes, or with none that the procedure ever samples.

    Args:
        method: the procedure's options.
        net: the network.
        program: its program.
        rates: the rate of each node.
    """
    if any(map(asks, rates)):
        return
    while isinstance(net, Procedure):
        if net.method.removes_nodes:
            return
        net = net.net
    name = method.procedure()
    if not program.sites:
        warnings.warn(
            f"The network has no nodes, so {name} computes just what the network does. Mark nodes "
            "with `cgjax.node`, or let `cgjax.lift(net)` mark its activations; where it does not, "
            "`cgjax.lift(net).report(*args)` says why.",
            stacklevel=4,
        )
        return
    outputs = [site for site in program.sites if site.output and site.kind == "node"]
    only = all(site.output or site.kind == "observe" for site in program.sites)
    if outputs and only and isinstance(method, Pcff) and asks(method.rate):
        known = ", ".join(repr(site.name) for site in outputs)
        warnings.warn(
            f"{name} samples nothing here: output nodes stay collapsed unless a pattern of `rate` "
            f"names them, and the network has no others ({known}). Name them, or mark nodes inside "
            "the network; of one that is lifted `cgjax.lift(net).report(*args)` lists what "
            "`include=` makes nodes too.",
            stacklevel=4,
        )


@method
class ForwardSample(Method):
    """Options of `forward_sample`."""

    estimator: Estimator
    rounds: int
    inline: bool
    lead = "key"

    def check(self, net: Network, program: Program) -> None:
        _warn_if_nothing_is_sampled(self, net, program, all_sampled(program))

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        rates = all_sampled(program)
        return _sample(program, lead, arrays, rates, self, capture, "forward_sample")


@method
class Pcff(Method):
    """Options of `pcff`; `rate` is a number, an array, or pairs of a pattern and one of these."""

    rate: Rates
    estimator: Estimator
    rounds: int
    inline: bool
    lead = "key"

    def check(self, net: Network, program: Program) -> None:
        rates = resolve_rates(program, self.rate)
        _warn_if_nothing_is_sampled(self, net, program, rates)

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        rates = resolve_rates(program, self.rate)
        return _sample(program, lead, arrays, rates, self, capture, "pcff")


def _check_options(estimator: str, rounds: int) -> None:
    if estimator not in ("pathwise", "straight_through"):
        raise ValueError(f"The estimator is 'pathwise' or 'straight_through', got {estimator!r}.")
    if rounds not in (13, 20):
        raise ValueError(
            "rounds is 20, as `jax.random` uses, or 13, the smallest number that passes the "
            f"published statistical tests, got {rounds!r}."
        )


def forward_sample(
    net: Network,
    *,
    estimator: Estimator = "pathwise",
    rounds: int = 20,
    inline: bool = False,
) -> Procedure:
    """Forward (ancestral) sampling: each node is sampled given its parents' samples.

    One call is one unbiased joint sample: `x_l ~ P(X_l | e_l(T(x_{l-1})))`, output nodes included.
    Nodes marked by `observe` keep their values.

    Args:
        net: a network, as a function of arrays.
        estimator: the derivative of samples that have none without bias. "pathwise" passes none for
            discrete ones, as in [A], and for self-gated ones and exponential units that of the
            value given the decision; "straight_through" passes the activation's for all of these.
            Gaussian, rectified and uniform samples carry their reparameterised derivative in either
            case.
        rounds: rounds of the threefry generator, 20 or (faster) 13.
        inline: whether functions with a custom derivative that contain nodes may be differentiated
            as plain functions; otherwise they raise.

    Returns:
        `procedure(key, *args)`, with the network's result under the samples.

    Raises:
        TypeError: if net is no network; when called, if the first argument is no key, or nodes lie
            in a custom-derivative function.

    Warns:
        UserWarning: when called, if the network has no nodes.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> net = lambda e: cg.node(cg.nodes.Bernoulli(), e)
        >>> draws = jax.vmap(cg.forward_sample(net), (0, None))(
        ...     jax.random.split(jax.random.key(0), 1000), jnp.zeros(()))
        >>> bool(abs(draws.mean() - 0.5) < 0.08)
        True

    Source: [A] section 5.
    """
    _check_options(estimator, rounds)
    return intern(Procedure(net, ForwardSample(estimator, rounds, inline)))


def pcff(
    net: Network,
    rate: Leaf | Mapping[str, Leaf],
    *,
    estimator: Estimator = "pathwise",
    rounds: int = 20,
    inline: bool = False,
) -> Procedure:
    """Partially collapsed feed-forward: each node is sampled with probability `rate`.

        q_i = activation(e_i)                     if collapsed,
              T(x_i),  x_i ~ P(X_i | e_i)         if uncollapsed, with probability `rate`.

    Rate 0 is feed-forward exactly, and rate 1 is forward sampling with the same key exactly, except
    at output nodes, which stay collapsed unless a pattern names them. Noise nodes are sampled at
    any rate. The rate never changes which random numbers are drawn.

    Args:
        net: a network, as a function of arrays.
        rate: the probability that a node is sampled: a number; an array that broadcasts against
            every node's variables (a class axis counts as one); or a dict from glob patterns over
            node names to these. In a dict the first match wins, unmatched nodes stay collapsed,
            and `"*"` names neither output nodes nor observed ones. May be traced.
        estimator: as in `forward_sample`.
        rounds: as in `forward_sample`.
        inline: as in `forward_sample`.

    Returns:
        `procedure(key, *args)`, with the network's result.

    Raises:
        ValueError: for a rate outside [0, 1], a pattern that matches nothing, or a rate that does
            not broadcast.
        TypeError: as `forward_sample`.

    Warns:
        UserWarning: as `forward_sample`; and if all nodes of the network are output nodes, of which
            no pattern names one.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> net = lambda x: cg.node(cg.nodes.Spin(), x, name="hidden") ** 2
        >>> cg.pcff(net, 1.0)(jax.random.key(0), jnp.zeros(3))
        Array([1., 1., 1.], dtype=float32)
        >>> cg.pcff(net, {"hid*": 0.0})(jax.random.key(0), jnp.zeros(3))
        Array([0., 0., 0.], dtype=float32)

    Source: [A] Eq. 14.
    """
    _check_options(estimator, rounds)
    return intern(Procedure(net, Pcff(check_rate(rate), estimator, rounds, inline)))
