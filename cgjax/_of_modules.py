"""Modules in procedures of two networks, and in those with results of their own."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from cgjax import inference
from cgjax._functional import (
    ModuleProcedure,
    changes_state,
    is_module,
    no_use_for_changes,
    split_held,
    unused,
    write_back,
)
from cgjax._procedure import split_lead
from cgjax._static import Function, Leaf, Tree

P = ParamSpec("P")
R = TypeVar("R")
# What builders call their two networks.
_NAMES = {"model", "guide", "generator", "critic"}


@dataclass(frozen=True, eq=False)
class SampledModule(ModuleProcedure):
    """Samples of a module, with the nodes and their log-probability."""

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        f, params, state = split_held(self.module)
        lead, args = split_lead(self.lead, args)
        inputs = (params, state, *args)
        (out, new_state), nodes, log_prob = self.build(f)(*lead, *inputs, **kwargs)
        if changes_state(f, inputs, kwargs):
            write_back(self.module, new_state)
        return out, nodes, log_prob


def _accepts_two_modules(build: Callable[P, R]) -> Callable[P, R]:
    """Lets a builder of procedures of two networks take modules in place of functions."""

    make: Function = build

    @functools.wraps(build)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tree:
        nets, names = list(args[:2]), _NAMES & kwargs.keys()
        if not any(map(is_module, (*nets, *(kwargs[name] for name in names)))):
            return build(*args, **kwargs)
        make(*map(_or_nothing, args), **{k: _or_nothing(v) for k, v in kwargs.items()})

        def procedure(*inputs: Tree, **named: Tree) -> Tree:
            # Anew at each call: the modules hold the parameters.
            functions = [_closed(net) for net in args]
            options = {k: _closed(v) for k, v in kwargs.items()}
            return make(*functions, **options)(*inputs, **named)

        return procedure

    return wrapped


def _or_nothing(net: Leaf) -> Leaf:
    return unused if is_module(net) else net


def _closed(net: Leaf) -> Leaf:
    """A module as a function of its arguments alone; anything else as it is."""
    if not is_module(net):
        return net
    f, params, state = split_held(net)

    def call(*args: Tree, **kwargs: Tree) -> Tree:
        if changes_state(f, (params, state, *args), kwargs):
            raise no_use_for_changes(net)
        return f(params, state, *args, **kwargs)[0]

    return call


def with_log_prob(procedure: Leaf) -> Function:
    if not isinstance(procedure, ModuleProcedure) or procedure.name != "forward_sample":
        return inference.with_log_prob(procedure)
    build = procedure.build
    return SampledModule(
        procedure.module, lambda f: inference.with_log_prob(build(f)), "with_log_prob", lead="key"
    )


with_log_prob.__doc__ = inference.with_log_prob.__doc__


adversarial = _accepts_two_modules(inference.adversarial)
deterministic_elbo = _accepts_two_modules(inference.deterministic_elbo)
elbo = _accepts_two_modules(inference.elbo)
importance_weighted = _accepts_two_modules(inference.importance_weighted)
log_likelihood = _accepts_two_modules(inference.log_likelihood)
