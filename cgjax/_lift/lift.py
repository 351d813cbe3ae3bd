"""Lifting: a network written without cgjax becomes a chain graph.

This file says which families the recognised activations become; the others of this package
recognise activations, tell their roles, mark them and report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import jax
import numpy as np
from jaxtyping import ArrayLike

from cgjax import _cache, nodes
from cgjax._lift.insert import Activation, Activations, activations, evaluate, nobody_looks
from cgjax._lift.others import Other
from cgjax._lift.parameters import Argument, chosen, parameters_of, variables
from cgjax._lift.report import LiftEntry, LiftReport
from cgjax._node import node
from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Program, Site, trace
from cgjax._static import Tree
from cgjax.nodes import Family


@dataclass(frozen=True, eq=False)
class _Plan:
    """What lifting does to one program.

    Attributes:
        program: the program with its activations marked.
        found: all activations.
        sites: for those that were marked the index of their site in the marked program.
        results: for each flat result whether `output` makes it a node.
        others: the functions of data that are no activations.
    """

    program: Program
    found: tuple[Activation, ...]
    sites: dict[int, int]
    results: tuple[bool, ...]
    others: tuple[Other, ...]


@method
class Lift(Method):
    """Options of `lift`."""

    include: tuple[str, ...]
    output: Family | None
    parameters: tuple[Argument, ...] | None
    is_network = True

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        plan = self.plan(program)
        flat = evaluate(plan.program, arrays)
        if self.output is not None:
            results = zip(flat, plan.results, strict=True)
            flat = [node(self.output, x) if chosen else x for x, chosen in results]
        return jax.tree.unflatten(program.out_tree, flat), {}

    def plan(self, program: Program) -> _Plan:
        """What to mark, found once for each program."""
        known = _cache.plans.of(program)
        key = (self.include, self.output is not None, self.parameters)
        if key not in known:
            known[key] = self._plan(program)
        return known[key]

    def _plan(self, program: Program) -> _Plan:
        found = activations(program, parameters_of(program, self.parameters))
        return _plan(found, self.include, self.output is not None)


def _plan(activities: Activations, include: tuple[str, ...], with_output: bool) -> _Plan:
    program = activities.program
    found = activities.found
    included = _included(found, include)
    families = {i: _family(a) for i, a in enumerate(found) if a.role is None or i in included}
    marked, sites = activities.mark(families)
    results = tuple(False for _ in range(program.out_tree.num_leaves))
    if with_output:
        plain = activities.plain_results(families)
        theirs = variables(program.out_tree)
        results = tuple(p and not v for p, v in zip(plain, theirs, strict=True))
        if not any(results):
            raise ValueError(
                "`output` makes floating-point results that are computed from data nodes, and the "
                "network returns none, or they are nodes already. Leave it out."
            )
    return _Plan(marked, found, sites, results, activities.others)


_FAMILIES: dict[str, Callable[[], Family]] = {
    "relu": nodes.ReLU,
    "tanh": nodes.Spin,
    "logistic": nodes.Bernoulli,
    "softplus": nodes.Softplus,
    "gelu": nodes.GELU,
    "exact gelu": partial(nodes.GELU, approximate=False),
    "silu": nodes.SiLU,
    "mish": nodes.Mish,
    "hard_silu": nodes.HardSiLU,
    "selu": nodes.SELU,
    "hard_sigmoid": nodes.HardSigmoid,
    "sparse_sigmoid": nodes.SparseSigmoid,
    "sparse_plus": nodes.SparsePlus,
    "relu6": nodes.ReLU6,
    "hard_tanh": nodes.HardTanh,
    "soft_sign": nodes.SoftSign,
    "arctan": nodes.Arctan,
    "sine": nodes.Sine,
}
# Of a number, which a value may take the place of.
_PARAMETRIC: dict[str, Callable[[ArrayLike], Family]] = {
    "leaky_relu": nodes.LeakyReLU,
    "elu": nodes.ELU,
    "celu": nodes.CELU,
    "swish": nodes.SiLU,
}


def _family(activation: Activation) -> Family:
    name = activation.function
    if name in _PARAMETRIC:
        # A number that is computed takes the place of this array.
        return _PARAMETRIC[name](np.ones(()) if activation.slope is None else activation.slope)
    if name == "softmax":
        assert activation.axis is not None
        return nodes.Categorical(activation.axis)
    return _FAMILIES[name]()


def _matches(activation: Activation, pattern: str) -> bool:
    return fnmatchcase(activation.label, pattern) or fnmatchcase(activation.function, pattern)


def _included(found: Iterable[Activation], include: tuple[str, ...]) -> set[int]:
    """The activations that patterns ask for, of those that are optional."""
    included = set()
    for pattern in include:
        matching = {i: a for i, a in enumerate(found) if _matches(a, pattern)}
        optional = {i for i, a in matching.items() if a.role is None or a.role.optional}
        if not optional:
            never = "; ".join(f"{a.label} ({a.role.reason})" for a in matching.values() if a.role)
            why = f"matches only what is never lifted: {never}" if never else "matches nothing"
            known = ", ".join(a.label for a in found if a.role and a.role.optional) or "none"
            raise ValueError(
                f"The pattern {pattern!r} of `include` {why}. Activations that can be included: "
                f"{known}."
            )
        included |= optional
    return included


@dataclass(frozen=True, eq=False)
class Lifted(Procedure):
    """A network whose activations are nodes; made by `lift`."""

    method: Lift

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        if self.method.output is None and nobody_looks():
            # No procedure would see a mark, so this is the network itself, to the last bit.
            self.method.plan(trace(self.net, args, kwargs))
            return self.net(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def report(self, *args: Tree, **kwargs: Tree) -> LiftReport:
        """What was lifted, what was not, and why.

        Args:
            *args, **kwargs: the network's arguments; only their shapes matter.
        """
        plan = self.method.plan(trace(self.net, args, kwargs))
        sites = trace(self, args, kwargs).sites
        entries = [
            LiftEntry(a.label, a.function, a.shape, a.source, *_named(sites[plan.sites[i]]))
            if i in plan.sites
            else _skipped(a)
            for i, a in enumerate(plan.found)
        ]
        for k in range(sum(plan.results)):
            site = sites[k - sum(plan.results)]
            entries.append(
                LiftEntry(f"output_{k}", "output", site.shape, site.source, *_named(site))
            )
        others = tuple(LiftEntry(o.function, *o[:3], reason=o.reason) for o in plan.others)
        return LiftReport(tuple(entries), others)


def _named(site: Site) -> tuple[str, str]:
    return site.name, site.family_type.__name__


def _skipped(a: Activation) -> LiftEntry:
    assert a.role is not None
    reason, optional = a.role.reason, a.role.optional
    return LiftEntry(a.label, a.function, a.shape, a.source, reason=reason, optional=optional)


def lift(
    net: Network,
    *,
    include: Iterable[str] | str = (),
    output: Family | None = None,
    parameters: int | str | Sequence[int | str] | None = None,
) -> Lifted:
    """Turns the activations of a network written without cgjax into nodes.

    Recognised are, under `jit`, `vmap`, `remat`, in scans and branches, in any precision:

    | node family | written as |
    |---|---|
    | `ReLU` | `jax.nn.relu`, `jnp.maximum(x, 0)`, `jnp.where(x > 0, x, 0)`, `x * (x > 0)` |
    | `LeakyReLU(a)` | `jax.nn.leaky_relu`, `where(x > 0, x, a * x)`, `relu(x) - a * relu(-x)` |
    | `Spin` | `jnp.tanh` |
    | `Bernoulli` | `jax.nn.sigmoid`, `1 / (1 + exp(-x))`, `(1 + tanh(x / 2)) / 2` |
    | `Softplus` | `jax.nn.softplus`, `jnp.logaddexp(x, 0)`, `log(1 + exp(x))` |
    | `GELU` | `jax.nn.gelu` in both forms, by `tanh`, `erf`, `erfc` or `ndtr` |
    | `SiLU(beta)` | `jax.nn.silu`, `x * sigmoid(beta * x)` |
    | `Mish`, `HardSiLU` | `jax.nn.mish`, `x * tanh(softplus(x))`; `jax.nn.hard_silu` |
    | `ELU`, `SELU`, `CELU` | `jax.nn.elu`, `where(x > 0, x, alpha * (exp(x) - 1))`, and so on |
    | `ReLU6`, `HardSigmoid` | `jax.nn.relu6`, `min(max(x, 0), 6)`; `jax.nn.hard_sigmoid` |
    | `HardTanh`, `SoftSign` | `jax.nn.hard_tanh`, `jax.nn.soft_sign` |
    | `SparsePlus`, `SparseSigmoid` | `jax.nn.sparse_plus`, `jax.nn.sparse_sigmoid` |
    | `Arctan`, `Sine` | `jnp.arctan`; `jnp.sin` if included |
    | `Categorical(axis)` | `jax.nn.softmax`, `exp(x) / exp(x).sum(axis)` |

    Values and derivatives stay what they are, and so do nodes that are marked already. What an
    activation is there for decides whether it becomes a node. "Goes into" means: through sums,
    movements of data, and products with parameters, constants, masks, noise or normalisers.

    - Never lifted: an activation that goes into a logarithm, a root or a denominator, or (a
      rectifier that no parameters follow) is applied or added to products and powers of data: a
      normaliser or a loss. A clip: a relu bounded from the other side too, or `jnp.clip`. An
      activation of parameters alone. One inside a function with a custom derivative of its own.
    - Lifted if included: a *gate*, which goes into a product with data that do not come from the
      activation itself, be it through other functions such as an exponential (both activations of
      `tanh(a) * sigmoid(b)`, the silu of a SwiGLU, the cells of LSTM and GRU); *attention or
      pooling*, a softmax that is not returned as the result, and scores that go into it; a *wave*,
      a sine of data; a clip to [-1, 1] by hand.
    - Everything else is lifted, except where no node can be: in functions that procedures do not
      enter, such as `lax.custom_linear_solve`, `shard_map` and custom kernels.

    What the network itself differentiates through is not lifted either: a derivative of the
    activation is not one of a sample.

    Data is what depends on the arguments, parameters apart. Parameters are arrays that the function
    closes over; variables of modules; and, in a function that takes no trained ones, the
    first of several arguments that is a container of arrays, or those that `parameters` names.

    Args:
        net: a network, as a function of arrays; or a module that holds its parameters.
        include: patterns, over functions ("logistic", "softmax") or the labels that the report
            shows ("logistic_0", "tanh_*"), of gates and attention to lift too.
        output: a node family for all floating-point results that are no nodes yet. With `Gaussian`
            the results keep their values; with another family they become its activation.
        parameters: which of the network's arguments are parameters: a position, a name, or several
            of these; `()` if none is.

    Returns:
        A network with the same arguments. Its nodes are named `family_k` in walking order, within
        the modules and the scopes of `jax.named_scope` that they lie in: `blocks/0/relu_0`. Modules
        of Linen and Haiku say their names; those of Flax NNX and Equinox are called after their
        place in what is lifted, or among the arguments. `lifted.report(*args)` lists what was
        lifted, what was not, and why.

    Raises:
        ValueError: when called, for an `include` that matches nothing that can be lifted, or an
            `output` where every result is a node already; for an argument that `parameters` names
            and the network does not have.
        TypeError: if `output` is no node family, or `parameters` no position or name.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> def net(w, x):
        ...     return jnp.tanh(x @ w) @ w
        >>> w, x = jnp.eye(2), jnp.zeros((1, 2))
        >>> lifted = cg.lift(net)
        >>> [(entry.node, entry.family) for entry in lifted.report(w, x).lifted]
        [('spin_0', 'Spin')]
        >>> cg.pcff(lifted, 1.0)(jax.random.key(0), w, x).shape
        (1, 2)

    Source: [A] section 3.
    """
    patterns = (include,) if isinstance(include, str) else tuple(include)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"`include` is made of patterns such as 'logistic', got {pattern!r}.")
    if output is not None and not isinstance(output, Family):
        raise TypeError(
            f"`output` is a node family such as `cgjax.nodes.Gaussian(1.0)`, got {output!r}."
        )
    lifted = intern(Lifted(net, Lift(patterns, output, chosen(net, parameters))))
    assert isinstance(lifted, Lifted)
    return lifted
