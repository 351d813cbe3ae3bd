"""Other ways of taking a network apart than for sums: for maxima, and for messages.

For maxima every node counts, whatever is asked about; one that nothing else depends on is maximised
by itself, given its parents. For messages each node is a variable of its own.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping

from cgjax._program import Linear
from cgjax._program.parts import Parts
from cgjax._program.reads import positions
from cgjax.inference._factors import (
    Builder,
    Factor,
    Model,
    Question,
    add_variables,
    alike,
    elements_of,
    pieces_of,
)


def for_maxima(flat: Linear, masks: Mapping[int, tuple[int, ...]]) -> Model:
    """The factors of all nodes; those of nodes that nothing depends on have no piece of their own.

    Args:
        flat: the values that are asked for.
        masks: the shapes of the nodes that are observed, by component.
    """
    builder = Builder(flat, masks)
    found = Model(flat, builder.kinds, Parts(flat.values, builder.reads))
    observed = builder.observed()
    scopes = {*builder.parents, *(scope for _, scope in observed)}
    read = functools.reduce(operator.or_, scopes, 0)
    piece_of: dict[int, list[int]] = {}
    for group in alike(list(positions(read)), builder, scopes):
        add_variables(found, builder, group, piece_of)
    alone: dict[tuple[int, int], list[int]] = {}
    for k in range(len(builder.element)):
        if not read >> k & 1:
            alone.setdefault((builder.element[k][0], builder.parents[k]), []).append(k)
    for (node, bits), group in alone.items():
        parents = pieces_of(bits, piece_of)
        found.factors.append(Factor(node, elements_of(builder, group), parents, None))
    for (node, scope), elements in observed.items():
        found.factors.append(Factor(node, tuple(elements), pieces_of(scope, piece_of), None))
    return found


def for_messages(flat: Linear, masks: Mapping[int, tuple[int, ...]]) -> Model:
    """The factors of all nodes, each a variable of its own, and what is asked about them.

    Of an observed component, too, each node has a factor of its own.

    Args:
        flat: the values that are asked for.
        masks: the shapes of the nodes that are observed, by component.
    """
    builder = Builder(flat, masks)
    found = Model(flat, builder.kinds, Parts(flat.values, builder.reads))
    piece_of: dict[int, list[int]] = {}
    for k in range(len(builder.element)):
        add_variables(found, builder, [k], piece_of)
    for (node, scope), elements in builder.observed().items():
        parents = pieces_of(scope, piece_of)
        found.factors += [Factor(node, (k,), parents, None) for k in elements]
    every = (1 << len(builder.element)) - 1  # of no node is the mean given its parents asked for
    for key, places in builder.asked([builder.reads.of(v) for v in found.parts.results], every):
        scope = pieces_of(key.scope, piece_of)
        found.questions.append(Question(key.value, key.mean, places, scope))
    return found
