"""Modules as networks.

The procedures work on functions. `functional` turns a module into one; the wrappers below let a
module that holds its parameters be passed to a procedure directly, which then also writes the
updated variables of a Flax NNX module back.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

import jax
from flax import errors as flax_errors
from flax import nnx

from cgjax import _graph, _lift, _modules, inference
from cgjax._cache import recent
from cgjax._chain_graph import ChainGraph
from cgjax._lift.parameters import chosen
from cgjax._modules import holds_parameters, split_for_calls
from cgjax._of_beliefs import means
from cgjax._procedure import already_a_procedure, check_network, split_lead
from cgjax._program import trace
from cgjax._static import Function, Leaf, Tree

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class _Output:
    """A function that returns `(out, new_state)`, with the state left out."""

    function: Function

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        return self.function(*args, **kwargs)[0]


# One object for each function, so that what is cached by it outlives a single call.
output_of = recent(256)(_Output)


@dataclass(frozen=True, eq=False)
class ModuleProcedure:
    """A procedure on a module, or a network made from one; the module holds the parameters.

    Attributes:
        module: the module, or a network made from it.
        build: makes the procedure of a pure function.
        name: the name of the function that makes such procedures.
        lead: what the first argument is, before the network's: "key", "values" or None.
        is_network: whether nodes survive, so that further procedures apply.
        evaluates: whether the result is a figure about the network, not its output; then the
            module's variables may not change.
        capture: whether the nodes' statistics are returned too.
    """

    module: "nnx.Module | ModuleProcedure"
    build: Function
    name: str
    lead: str | None = None
    is_network: bool = False
    evaluates: bool = False
    capture: bool = False

    def with_nodes(self) -> "ModuleProcedure":
        """The procedure that also returns its nodes' statistics."""
        return replace(self, capture=True)

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        f, params, state = split_held(self.module)
        lead, args = split_lead(self.lead, args)
        inputs = (params, state, *args)
        changes = changes_state(f, inputs, kwargs)
        if self.evaluates and changes:
            raise no_use_for_changes(self.module)
        procedure = self.build(output_of(f) if self.evaluates else f)
        if self.capture:
            procedure = inference.with_nodes(procedure)
        result = procedure(*lead, *inputs, **kwargs)
        if self.evaluates:
            return result
        nodes = None
        if self.capture:
            result, nodes = result
        out, new_state = result
        if changes:
            write_back(self.module, new_state)
        return (out, nodes) if self.capture else out


@dataclass(frozen=True, eq=False)
class LiftedModule(ModuleProcedure):
    """A module whose activations are nodes."""

    def report(self, *args: Tree, **kwargs: Tree) -> _lift.LiftReport:
        """What was lifted, what was not, and why; see `lift`."""
        f, params, state = split_held(self.module)
        return self.build(f).report(params, state, *args, **kwargs)


def functional(
    module: object, *variables: Tree, method: str | Function | None = None
) -> tuple[Function, Tree, Tree]:
    """Splits a module into a pure function, its parameters and its other state.

    | library | call | f's own keywords |
    |---|---|---|
    | Flax NNX | `functional(module)` | |
    | Flax Linen | `functional(module, variables)`, or a bound module | `rngs={"dropout": key}` |
    | Equinox | `functional(module)`, `functional(module, state)` | those of the module: `key=key` |
    | Haiku | `functional(transformed, params)`, or with its state after them | `rng=key` |

    Args:
        module: an `nnx.Module`; a Linen module; an Equinox module; what `hk.transform` or
            `hk.transform_with_state` returned; or what `clamp` or `lift` made of a module.
        *variables: what the library keeps beside the module: the variables that Linen's `init`
            returned, the `eqx.nn.State` of `eqx.nn.make_with_state`, what Haiku's `init` returned.
        method: the method of the module that f is, by its name or itself; its call if None.

    Returns:
        `f, params, state` with `f(params, state, *args) -> (out, new_state)`. `params` holds what
        is trained: `nnx.Param` variables, Linen's collection "params", the floating-point arrays
        of an Equinox module, Haiku's parameters. `state` is everything else that changes or counts:
        BatchNorm statistics, the other collections, the random state of an NNX module. f is a
        network for every procedure, and equal for modules of equal structure and settings.

    Raises:
        TypeError: if the argument is no module, or what goes beside it is missing; when f is
            called, for trees that do not fit.
        ImportError: for a version of the module's library that is too old.
        ValueError: when f is called, if it draws random numbers and has no key.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> from flax import linen, nnx
        >>> f, params, state = cg.functional(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
        >>> out, state = f(params, state, jnp.ones((5, 2)))
        >>> out.shape
        (5, 3)
        >>> dense, x = linen.Dense(3), jnp.ones((5, 2))
        >>> f, params, state = cg.functional(dense, dense.init(jax.random.key(0), x))
        >>> f(params, state, x)[0].shape
        (5, 3)
    """
    if isinstance(module, ModuleProcedure) and module.is_network:
        f, params, state = functional(module.module, *variables, method=method)
        return module.build(f), params, state
    return _modules.split(module, variables, method)


def split_held(module: "Leaf | ModuleProcedure") -> tuple[Function, Tree, Tree]:
    """The parts of a module that a procedure was given, or of a network made from one."""
    if isinstance(module, ModuleProcedure) and module.is_network:
        f, params, state = split_held(module.module)
        return module.build(f), params, state
    return split_for_calls(module)


def is_module(net: object) -> bool:
    """Whether something is a module that procedures take directly, or a network made from one."""
    return holds_parameters(net) or (isinstance(net, ModuleProcedure) and net.is_network)


def _name(module: object) -> str:
    return _name(module.module) if isinstance(module, ModuleProcedure) else type(module).__name__


def changes_state(f: Function, inputs: tuple[Tree, ...], kwargs: dict[str, Tree]) -> bool:
    """Whether some variable comes back other than it went in.

    In evaluation mode none does, and nothing is written: so a module whose call changes nothing
    works inside jit, grad and vmap.
    """
    inputs, kwargs = means((inputs, kwargs))
    params, state, *_ = inputs
    program = trace(f, inputs, kwargs)
    _, new_state = jax.tree.unflatten(program.out_tree, program.returned_inputs)
    first, count = len(jax.tree.leaves(params)), len(jax.tree.leaves(state))
    unchanged = list(range(first, first + count))
    return jax.tree.leaves(new_state, is_leaf=lambda x: x is None) != unchanged


def no_use_for_changes(module: nnx.Module | ModuleProcedure) -> ValueError:
    return ValueError(
        f"{_name(module)} changes its own variables when called (BatchNorm statistics, random "
        "state), and this procedure has no use for the change. Put the module into evaluation mode "
        "with `module.eval()`, or use `cgjax.functional`."
    )


def write_back(module: nnx.Module | ModuleProcedure, new_state: Tree) -> None:
    while isinstance(module, ModuleProcedure):
        module = module.module
    try:
        nnx.update(module, new_state)
    except flax_errors.TraceContextError as error:
        raise ValueError(
            f"{type(module).__name__} changes its own variables when called (BatchNorm "
            "statistics, random state), which it cannot do inside a JAX transformation that it was "
            "not passed through. Split it first: `f, params, state = cgjax.functional(module)`, "
            "apply the procedure to f, and carry the state yourself."
        ) from error


def _accepts_modules(
    build: Callable[P, R], procedure: type[ModuleProcedure] = ModuleProcedure, **options: Leaf
) -> Callable[P, R]:
    """Lets a builder of procedures or networks take a module in place of a function."""

    make: Function = build

    @functools.wraps(build)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tree:
        if args and isinstance(args[0], ModuleProcedure) and not args[0].is_network:
            raise already_a_procedure(build.__name__, args[0].name)
        if not args or not is_module(args[0]):
            return build(*args, **kwargs)
        net: Leaf = args[0]
        rest = args[1:]
        make(unused, *rest, **kwargs)  # bad options raise here, not at the first call
        name = build.__name__
        return procedure(net, lambda f: make(f, *rest, **kwargs), name=name, **options)

    return wrapped


def unused() -> None:
    """Stands for a network where only the options of a procedure are checked."""


def monte_carlo(sampler: Leaf, num_samples: int, *, batch_size: int = 64) -> Function:
    build = functools.partial(inference.monte_carlo, num_samples=num_samples, batch_size=batch_size)
    if holds_parameters(sampler):
        raise TypeError(
            "monte_carlo takes a sampling procedure, such as `cgjax.forward_sample(module)`, got "
            f"the module {type(sampler).__name__}."
        )
    if not isinstance(sampler, ModuleProcedure):
        return build(sampler)
    build(sampler.build(unused))  # bad options raise here

    # The key leads; the output of each sample is averaged, and the state does not change.
    def average(f: Leaf) -> Function:
        procedure = sampler.build(f)
        return build(inference.with_nodes(procedure) if sampler.capture else procedure)

    return ModuleProcedure(sampler.module, average, "monte_carlo", lead="key", evaluates=True)


monte_carlo.__doc__ = inference.monte_carlo.__doc__


def chain_graph(
    net: Leaf,
    *,
    operations: bool = False,
    parameters: int | str | Sequence[int | str] | None = None,
) -> Callable[..., ChainGraph]:
    if isinstance(net, ModuleProcedure) and not net.is_network:
        raise already_a_procedure("chain_graph", net.name)
    if not is_module(net):
        check_network(net, "chain_graph")
        return _graph.chain_graph(net, operations=operations, parameters=parameters)
    chosen(split_held(net)[0], parameters)  # those of a module are its variables

    def procedure(*args: Tree, **kwargs: Tree) -> ChainGraph:
        f, params, state = split_held(net)

        # Parameters are no vertices of the graph; inputs are called as in the module's own call.
        @functools.wraps(type(_innermost(net)).__call__)
        def call(_: object, *args: Tree, **kwargs: Tree) -> Tree:
            return f(params, state, *args, **kwargs)[0]

        graph = _graph.chain_graph(
            functools.partial(call, None), operations=operations, parameters=()
        )
        return graph(*args, **kwargs)

    return procedure


def _innermost(module: nnx.Module | ModuleProcedure) -> nnx.Module:
    return _innermost(module.module) if isinstance(module, ModuleProcedure) else module


chain_graph.__doc__ = _graph.chain_graph.__doc__

feed_forward = _accepts_modules(inference.feed_forward)
forward_sample = _accepts_modules(inference.forward_sample, lead="key")
pcff = _accepts_modules(inference.pcff, lead="key")
clamp = _accepts_modules(inference.clamp, is_network=True)
collapse = _accepts_modules(inference.collapse, is_network=True)
lift = _accepts_modules(_lift.lift, LiftedModule, is_network=True)
log_joint = _accepts_modules(inference.log_joint, lead="values", evaluates=True)
pseudo_likelihood = _accepts_modules(inference.pseudo_likelihood, lead="values", evaluates=True)
log_evidence = _accepts_modules(inference.log_evidence, lead="values", evaluates=True)
_exact_marginals = _accepts_modules(inference.exact_marginals, evaluates=True)
_mode = _accepts_modules(inference.mode)
_belief_propagation = _accepts_modules(inference.belief_propagation, evaluates=True)


def _of_observed_modules(
    build: Function, net: Leaf, options: Mapping[str, Leaf]
) -> Function | None:
    """A procedure on a module with evidence; None if this is something else."""
    module: Leaf = net.net if isinstance(net, inference.Conditioned) else None
    if module is None or not is_module(module):
        return None
    values = dict(net.values)

    def of_function(f: Function) -> Function:
        return build(inference.condition(f, values), **options)

    of_function(unused)  # bad options raise here
    return ModuleProcedure(module, of_function, build.__name__, evaluates=True)


def exact_marginals(net: Leaf, **options: Leaf) -> Function:
    found = _of_observed_modules(inference.exact_marginals, net, options)
    return _exact_marginals(net, **options) if found is None else found


def mode(net: Leaf, **options: Leaf) -> Function:
    found = _of_observed_modules(inference.mode, net, options)
    return _mode(net, **options) if found is None else found


exact_marginals.__doc__ = inference.exact_marginals.__doc__


def belief_propagation(net: Leaf, **options: Leaf) -> Function:
    found = _of_observed_modules(inference.belief_propagation, net, options)
    return _belief_propagation(net, **options) if found is None else found


belief_propagation.__doc__ = inference.belief_propagation.__doc__
mode.__doc__ = inference.mode.__doc__
condition = inference.condition
moments = _accepts_modules(inference.moments)
