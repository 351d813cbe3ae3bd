"""Whether a network that takes one example was called with a batch of them."""

import warnings

import jax

from cgjax import _cache, _static
from cgjax._procedure import Network
from cgjax._program import Program, Site, trace
from cgjax._static import Tree
from cgjax.inference._states import mask_shape


def rows(net: Network, program: Program) -> int | None:
    """How many rows a network was called with, if it does to each what it does to one alone.

    Rows are seen where all nodes have a leading axis of one length, and the same network with one
    row of its arguments has the same nodes without it. They may be examples, or parts of one that
    do not depend on each other, such as the words of a sentence.
    """
    kept = _cache.plans.of(program)
    if "rows" not in kept:
        kept["rows"] = _rows(net, program)
    return kept["rows"]


def warn_of_rows(net: Network, program: Program, procedure: str, remedy: str, depth: int) -> None:
    """Warns if a procedure is about to return one number for many rows."""
    if found := rows(net, program):
        warnings.warn(
            f"{procedure} returns one number for the {found} rows of these arguments: all nodes "
            f"have that leading axis, and each row does as it would alone. {remedy}",
            stacklevel=depth,
        )


def _rows(net: Network, program: Program) -> int | None:
    sites = [site for site in program.sites if site.kind != "observe"]
    shapes = [mask_shape(site) for site in sites]
    lengths = {shape[:1] for shape in shapes}
    # Each number of a vector of independent ones would be a row: those are one example.
    if len(lengths) != 1 or lengths in ({()}, {(1,)}) or max(map(len, shapes)) < 2:
        return None
    ((length,),) = lengths
    args, kwargs = _static.join(program.in_structure, program.arguments)
    for also_containers in (True, False):  # such as parameters, one of which may be as long
        one = _one_row((args, kwargs), length, also_containers)
        if one is not None and _has_same_nodes(net, program, one):
            return length
    return None


def _one_row(arguments: Tree, length: int, also_containers: bool) -> Tree | None:
    """The arguments with one row of those that have so many; None if none has."""
    changed = False

    def row(path: tuple[object, ...], leaf: Tree) -> Tree:
        nonlocal changed
        long = isinstance(leaf, jax.ShapeDtypeStruct) and leaf.shape[:1] == (length,)
        if not long or (len(path) > 2 and not also_containers):  # of args or kwargs, and which
            return leaf
        changed = True
        return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)

    found = jax.tree_util.tree_map_with_path(row, arguments)
    return found if changed else None


def _has_same_nodes(net: Network, program: Program, arguments: Tree) -> bool:
    leaves, treedef = jax.tree.flatten(arguments)
    places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, jax.ShapeDtypeStruct)]
    sites: tuple[Site, ...] = ()

    def look(arrays: list[jax.Array]) -> None:
        nonlocal sites
        values = dict(zip(places, arrays, strict=True))
        args, kwargs = treedef.unflatten([values.get(k, leaf) for k, leaf in enumerate(leaves)])
        sites = trace(net, args, kwargs).sites

    try:
        jax.eval_shape(look, [leaves[k] for k in places])
    except Exception:  # whatever a network raises that does not take a single row
        return False
    return [(s.name, s.shape, s.lengths) for s in sites if s.kind != "observe"] == [
        (s.name, s.shape[1:], s.lengths) for s in program.sites if s.kind != "observe"
    ]
