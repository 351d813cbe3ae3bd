"""A model and its guide: which node proposes which, and what both say of the proposals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cgjax import _static
from cgjax._procedure import Arrays, check_capture, named
from cgjax._program import Program, Site, parents
from cgjax._static import Leaf
from cgjax._walk import walk
from cgjax.inference._clamp import PartlyKnown, is_numeric
from cgjax.inference._condition import SoftEvidence, seen
from cgjax.inference._drawing import Drawn
from cgjax.inference._evidence import Evidence
from cgjax.inference._scoring import Natural, Scored, Scoring, together


@dataclass(frozen=True)
class Pair:
    """A model, a guide for its latent nodes, and what is observed.

    Attributes:
        model, guide: the traced networks.
        observed: what is observed of the model's nodes, by number.
        readings: of latent nodes, by name, the log-weights of their states: soft evidence.
        analytic: the latent nodes for which a divergence between the guide's and the model's
            conditional may stand in place of a difference of log-probabilities.
    """

    model: Program
    guide: Program
    observed: Evidence
    analytic: frozenset[str]
    readings: Mapping[str, Array]

    @property
    def latent(self) -> list[Site]:
        """The guide's nodes."""
        return _random(self.guide)

    def of_guide(self, names: frozenset[str]) -> frozenset[int]:
        """The numbers of nodes in the guide."""
        return frozenset(self.guide.by_name[name].index for name in names)

    def score(self, arrays: Arrays, latent: Mapping[str, Array]) -> dict[str, Scored]:
        """What the model says of the observed nodes and of values of the latent ones, and readings
        of these, which are observed besides."""
        by_name = self.model.by_name
        given = {**self.observed.all, **{by_name[name].index: v for name, v in latent.items()}}
        read = {by_name[name].index: weights for name, weights in self.readings.items()}
        for index, weights in read.items():
            given[index] = together(self.model.sites[index], given[index], weights)
        natural = frozenset(by_name[name].index for name in self.analytic)
        visitor = Scoring.of(self.observed, frozenset(given), natural, frozenset(read))
        found = named(self.model, walk(self.model, visitor, arrays, given=given)[1])
        of_readings = {
            f"a reading of {name}": Scored(scored.reading)
            for name, scored in found.items()
            if scored.reading is not None
        }
        return found | of_readings

    def natural(self, arrays: Arrays, latent: Mapping[str, Array]) -> dict[str, Natural]:
        """Of the observed and the latent nodes, what the model makes their laws of."""
        given = frozenset(self.observed.all) | {self.model.by_name[name].index for name in latent}
        names = frozenset(self.model.sites[index].name for index in given)
        found = replace(self, analytic=names).score(arrays, latent)
        return {n: Natural(x.e, x.parameters) for n, x in found.items() if x.e is not None}

    def log_prob(self, name: str, natural: Natural, latent: Mapping[str, Array]) -> Array:
        """What the model says of a node's value, given what it makes the node's law of."""
        site = self.model.by_name[name]
        value = latent[name] if name in latent else self.observed.all[site.index]
        visitor = Scoring.of(self.observed, frozenset((site.index,)))

        def of_step(e: Array, arrays: list[Leaf], value: Array) -> Array:
            return visitor.log_prob(site, _static.join(site.family, arrays), value, e)

        of_all: Callable[..., Array] = of_step
        for _ in site.lengths:
            of_all = jax.vmap(of_all)
        value = jnp.broadcast_to(value, (*site.lengths, *visitor.handed(site)))
        return jnp.sum(of_all(natural.e, list(natural.parameters), value))

    def fixed_log_prob(self, arrays: Arrays, latent: Mapping[str, Array]) -> Array:
        """The guide's log-probability of values, as a function of these alone."""
        guide = self.guide.closing_over(jax.lax.stop_gradient(self.guide.constants))
        given = {guide.by_name[name].index: value for name, value in latent.items()}
        visitor = Scoring(scored=frozenset(given))
        records = walk(guide, visitor, jax.lax.stop_gradient(list(arrays)), given=given)[1]
        return sum((jnp.sum(record.log_prob) for record in records.values()), jnp.zeros(()))

    def divergences(
        self, drawn: Mapping[str, Drawn], scored: Mapping[str, Scored]
    ) -> dict[str, Array]:
        """KL(guide || model) of the nodes that have it in closed form, given the others drawn."""
        found = {}
        for name in self.analytic:
            ours, theirs = self.guide.by_name[name], self.model.by_name[name]
            guide, model = drawn[name], scored[name]
            steps = len(ours.lengths)
            # The arrays of one step say whether both are of one kind.
            first = [x[(0,) * steps] for x in (*guide.parameters, *model.parameters)]
            count = len(guide.parameters)
            of_guide = _static.join(ours.family, first[:count])
            if not of_guide.has_kl(_static.join(theirs.family, first[count:])):
                continue
            found[name] = _divergence(ours, theirs, guide, model)
        return found


def _divergence(ours: Site, theirs: Site, guide: Drawn, model: Scored) -> Array:
    def of_step(e: Array, own: list[Array], other_e: Array, others: list[Array]) -> Array:
        family, other = _static.join(ours.family, own), _static.join(theirs.family, others)
        return jnp.sum(family.kl(e, other, other_e))

    of_all: Callable[..., Array] = of_step
    for _ in ours.lengths:
        of_all = jax.vmap(of_all)
    each = of_all(guide.e, list(guide.parameters), model.e, list(model.parameters))
    return jnp.sum(jnp.where(jnp.isnan(guide.taken), 0, each))


def paired(
    model: Program,
    guide: Program,
    observed: Mapping[str, Leaf],
    procedure: str,
    *,
    analytic: bool,
    read: bool = True,
) -> Pair:
    """Checks that a guide proposes the latent nodes of a model.

    Args:
        model, guide: the traced networks.
        observed: what is known of the model's nodes, by name.
        procedure: who asks, for messages.
        analytic: whether divergences may stand in place of differences of log-probabilities.
        read: whether there may be soft evidence about nodes that the guide proposes.

    Raises:
        TypeError: an observed value is no array.
        ValueError: names do not fit.
    """
    known = observations(model, observed, procedure)
    check_capture(guide)
    latent = {site.name: site for site in _random(guide)}
    extra = [name for name in latent if name not in model.by_name]
    if extra:
        raise ValueError(
            f"{procedure}: the guide has nodes that the model lacks: {', '.join(extra)}. The "
            f"model's nodes: {', '.join(model.by_name) or 'none'}. Give a proposal the name of the "
            "node that it is for; what only helps the guide is made deterministic by "
            f'`cgjax.collapse(guide, "{extra[0]}")`.'
        )
    soft = frozenset(n for n in latent if read and isinstance(observed.get(n), SoftEvidence))
    both = [name for name in latent if name in observed and name not in soft]
    if both:
        raise ValueError(
            f"{procedure}: {', '.join(both)} is observed, and the guide proposes it too. Leave it "
            "out of the guide, or out of `observed`."
        )
    weights = {model.sites[index].name: w for index, w in known.weights.items()}
    readings = {name: weights[name] for name in latent if name in soft}
    rest = {i: w for i, w in known.weights.items() if model.sites[i].name not in soft}
    known = replace(known, weights=rest)
    for name, site in latent.items():
        _check_fit(site, model.by_name[name], procedure)
    counted = frozenset(known.all) | {model.by_name[name].index for name in latent}
    _check_rest(model, counted, known, procedure)
    closed = frozenset(filter(_closed(model, guide), latent)) if analytic else frozenset()
    return Pair(model, guide, known, closed, readings)


def observations(model: Program, observed: Mapping[str, Leaf], procedure: str) -> Evidence:
    """What is observed of a model's nodes, by number."""
    if not isinstance(observed, Mapping):
        raise TypeError(
            f"{procedure} takes what is observed as a dict from node names to values, "
            f"`procedure(key, observed, *args)`, got {_static.described(observed)}."
        )
    for name, value in observed.items():
        if not isinstance(value, PartlyKnown | SoftEvidence) and not is_numeric(value):
            raise TypeError(
                f"The observed value of {name!r} must be a number, an array, `cgjax.PartlyKnown` "
                f"or `cgjax.SoftEvidence`, got {_static.described(value)}."
            )
    implicit = [name for name in observed if name not in model.by_name]
    if implicit:
        raise ValueError(
            f"{procedure}: {', '.join(map(repr, implicit))} is observed, and the model has no such "
            f"node. Its nodes: {', '.join(model.by_name) or 'none'}. What it returns besides is a "
            "function of them and has no density of its own (an implicit model): mark what is "
            "observed by `cgjax.node`, with the family of its noise."
        )
    return seen(model, observed)


def _check_fit(proposal: Site, target: Site, procedure: str) -> None:
    if proposal.stacked_shape != target.stacked_shape:
        raise ValueError(
            f"{procedure}: the guide's node {proposal.name!r} has the shape "
            f"{proposal.stacked_shape} ({proposal.source}), the model's {target.stacked_shape} "
            f"({target.source}). Both are of one example; `jax.vmap` the bound for a batch."
        )
    if proposal.family_type.discrete != target.family_type.discrete:
        raise ValueError(
            f"{procedure}: the guide's node {proposal.name!r} is a "
            f"{proposal.family_type.__name__} and the model's a {target.family_type.__name__}: "
            "the values of one can be listed and those of the other cannot, so that what one "
            "proposes is impossible under the other."
        )


def _check_rest(model: Program, counted: frozenset[int], known: Evidence, procedure: str) -> None:
    """Nodes without a value are sums over all that they can be: 1, where nothing follows them."""
    below = descendants(model)
    missing = [
        site.name
        for site in _random(model)
        if site.index not in counted and not counted.isdisjoint(below[site.index])
    ]
    if missing:
        raise ValueError(
            f"{procedure} needs a value or a proposal for every node that an observed or proposed "
            f"one depends on; missing: {', '.join(missing)}. Observe them, or give the guide nodes "
            "of these names."
        )
    for index in (*known.partly, *known.weights):
        if not counted.isdisjoint(below[index]):
            raise ValueError(
                f"{procedure}: a part of {model.sites[index].name!r} is observed, and other nodes "
                "depend on it. Observe it as a whole, or mark its parts as nodes of their own; or "
                "estimate by samples of the model, `cgjax.log_likelihood(model)`."
            )


def _closed(model: Program, guide: Program) -> Callable[[str], bool]:
    """Whether the model's conditional of a node is fixed by what the guide draws beside it.

    Only then is the expected difference of log-probabilities a divergence, given the other nodes:
    if the model's parents of the node depend on it in the guide, the divergence is another number.
    """
    above = parents(model, deciding=True)[0]
    below = descendants(guide)

    def closed(name: str) -> bool:
        site, target = guide.by_name[name], model.by_name[name]
        if site.lengths != target.lengths:
            return False
        tied = below[site.index] | {site.index}
        latent = (model.sites[i].name for i, _ in above[target.index])
        drawn = (guide.by_name[n].index for n in latent if n in guide.by_name)
        return tied.isdisjoint(drawn)

    return closed


def descendants(program: Program) -> dict[int, frozenset[int]]:
    """The nodes that depend on each node, through others too; on itself through time."""
    found = parents(program, deciding=True)[0]
    children: dict[int, set[int]] = {site.index: set() for site in program.sites}
    for index, tags in found.items():
        for parent, _ in tags:
            children[parent].add(index)

    def below(index: int) -> frozenset[int]:
        reached: set[int] = set()
        pending = list(children[index])
        while pending:
            child = pending.pop()
            if child not in reached:
                reached.add(child)
                pending += children[child]
        return frozenset(reached)

    return {site.index: below(site.index) for site in program.sites}


def _random(program: Program) -> list[Site]:
    return [site for site in program.sites if site.kind != "observe"]
