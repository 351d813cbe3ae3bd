"""Plans exact inference: in which order components enter, and what is known jointly meanwhile.

Components enter in a topological order. Between two steps the plan knows, as tables, the joint
distribution of the components that something to come still depends on; components that share no
ancestor stay in tables of their own. This file only counts: it decides before anything is computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

Set = frozenset[int]

# A step sums at most this many times the terms that a table may have entries.
TERMS_PER_STATE = 1024

_BEAM = 32
_EXPANSIONS = 20_000


class Enter(NamedTuple):
    """A component enters, its parents' tables are joined, and what nobody needs is summed out.

    Attributes:
        component: the component.
        joined: the components of the tables it needs.
        dropped: those of them that are summed out on the way.
        table: the number of entries of the largest table of this step.
        terms: how many products are summed.
    """

    component: int
    joined: Set
    dropped: Set
    table: int
    terms: int


class Ask(NamedTuple):
    """An expectation is taken over the joint distribution of some components.

    Attributes:
        question: its number.
        table: the number of joint states.
    """

    question: int
    table: int


class Forget(NamedTuple):
    """Components are summed out of the tables they are in."""

    components: Set


Step = Enter | Ask | Forget


class _State(NamedTuple):
    """What has been decided on the way."""

    peak: int
    work: int
    order: tuple[int, ...]
    entered: Set
    tables: tuple[Set, ...]


def product(components: Set, sizes: Mapping[int, int]) -> int:
    """The number of joint states of components."""
    total = 1
    for c in components:
        total *= sizes[c]
    return total


class _Planner:
    def __init__(
        self,
        sizes: Mapping[int, int],
        parents: Mapping[int, Set],
        questions: Sequence[Set],
        limit: int,
    ):
        self.sizes, self.parents, self.questions, self.limit = sizes, parents, questions, limit
        self.children: dict[int, set[int]] = {c: set() for c in sizes}
        self.asked: dict[int, list[Set]] = {c: [] for c in sizes}
        for component in sizes:
            for parent in parents[component]:
                self.children[parent].add(component)
        for question in questions:
            for component in question:
                self.asked[component].append(question)

    def needed(self, component: int, entered: Set, answered_by: Set) -> bool:
        """Whether a child is to come, or a question that was not answered before now."""
        return not self.children[component] <= entered or any(
            not question <= answered_by for question in self.asked[component]
        )

    def enter(self, state: _State, component: int) -> tuple[Enter, Set, tuple[Set, ...]]:
        """The step, the components needed for questions only now, and the tables after it."""
        joined = frozenset().union(
            *(table for table in state.tables if table & self.parents[component])
        )
        entered = state.entered | {component}
        dropped = frozenset(c for c in joined if not self.needed(c, entered, state.entered))
        result = (joined - dropped) | {component}
        size = product(joined, self.sizes)
        step = Enter(
            component,
            joined,
            dropped,
            max(size, product(result, self.sizes)),
            size * self.sizes[component],
        )
        done = frozenset(c for c in result if not self.needed(c, entered, entered))
        others = (t for t in state.tables if not t & self.parents[component])
        # A question may have been the last to need components of other tables.
        kept = [result, *others]
        done |= frozenset(c for t in kept for c in t if not self.needed(c, entered, entered))
        return step, done, tuple(t - done for t in kept if t - done)

    def extended(self, state: _State, component: int) -> _State:
        step, _, tables = self.enter(state, component)
        cost = max(step.table, -(-step.terms // TERMS_PER_STATE), self.limit)
        return _State(
            max(state.peak, cost),
            state.work + step.terms + step.table,
            (*state.order, component),
            state.entered | {component},
            tables,
        )

    def order(self) -> tuple[int, ...]:
        """A topological order with small tables, found by beam search."""
        states = [_State(self.limit, 0, (), frozenset(), ())]
        count = len(self.sizes)
        width = max(1, min(_BEAM, _EXPANSIONS // max(1, count * count)))
        for _ in range(count):
            found: dict[Set, _State] = {}
            for state in states:
                for component in self.sizes:
                    if component in state.entered or not self.parents[component] <= state.entered:
                        continue
                    new = self.extended(state, component)
                    old = found.get(new.entered)
                    if old is None or new[:3] < old[:3]:
                        found[new.entered] = new
            states = sorted(found.values(), key=lambda s: s[:3])[:width]
        return states[0].order

    def steps(self) -> Iterator[Step]:
        state = _State(0, 0, (), frozenset(), ())
        asked: set[int] = set()
        for component in (None, *self.order()):
            done: Set = frozenset()
            if component is not None:
                step, done, tables = self.enter(state, component)
                entered = state.entered | {component}
                state = _State(0, 0, (), entered, tables)
                yield step
            for number, question in enumerate(self.questions):
                if number not in asked and question <= state.entered:
                    asked.add(number)
                    yield Ask(number, product(question, self.sizes))
            if done:
                yield Forget(done)


def plan(
    sizes: Mapping[int, int],
    parents: Mapping[int, Set],
    questions: Sequence[Set],
    limit: int,
) -> list[Step]:
    """The steps of exact inference, in the order with the smallest tables that is found.

    Args:
        sizes: the number of states of each component, in a topological order.
        parents: for each component those it depends on.
        questions: sets of components whose joint distribution is needed at some time.
        limit: the largest size of a table; below it, orders are compared by work.
    """
    return list(_Planner(sizes, parents, questions, limit).steps())
