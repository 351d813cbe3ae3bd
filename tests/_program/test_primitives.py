"""The table of primitives knows all that JAX can bind, and what it claims is true of numbers."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from cgjax._program.facts import ALL, FIRST, NONE, Facts
from cgjax._program.inline import inlined
from cgjax._program.primitives import classify, facts, facts_of, is_classified

# What binds primitives that `import jax` alone does not load.
_MODULES = (
    "jax.scipy.special jax.scipy.linalg jax.nn jax.random jax.export jax.experimental.sparse "
    "jax.experimental.shard_map jax.experimental.checkify jax.experimental.compute_on "
    "jax.experimental.pallas jax.experimental.pallas.tpu jax.experimental.pallas.triton "
    "jax.experimental.pallas.mosaic_gpu jax.experimental.fused jax.experimental.rnn"
).split()


def primitives() -> dict[str, Primitive]:
    """The primitives of JAX and cgjax by name: in their modules, and in JAX's tables of rules."""
    for module in _MODULES:
        try:
            import_module(module)
        except ImportError:  # another version of JAX, or another machine
            continue
    tables = (ad.primitive_jvps, ad.primitive_transposes, batching.fancy_primitive_batchers)
    found = {p for table in (*tables, mlir._lowerings) for p in table}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("jax", "cgjax"):
            found.update(v for v in vars(module).values() if isinstance(v, Primitive))
    found = {p for p in found if isinstance(p, Primitive)}
    return {p.name: p for p in found if not p.name.startswith("test_")}


ALIVE = primitives()


def test_every_primitive_is_classified():
    assert len(ALIVE) > 300
    missing = sorted(name for name, p in ALIVE.items() if not is_classified(p))
    rows = "\n".join(f'    ("{name}", _OPAQUE),' for name in missing)
    assert not missing, (
        "Nobody has classified these primitives. Write each into a row of `_CLASSES` in "
        "cgjax/_program/primitives.py that says what is true of it, such as `_SMOOTH` or `_MOVE`, "
        f"or claim nothing:\n{rows}"
    )


def test_what_is_not_classified_is_opaque():
    new = Primitive("a primitive of tomorrow")
    assert not is_classified(new) and facts_of(new) == Facts(opaque=True)
    # Another primitive under a name that the table has for one of JAX's.
    assert facts_of(Primitive("tanh")) == Facts(opaque=True)


def test_other_libraries_classify_their_own():
    mine, other = Primitive("a primitive of a library"), Primitive("a primitive of a library")
    classify(mine, Facts(linear=FIRST))
    assert is_classified(mine) and facts_of(mine).is_linear([True])
    assert not is_classified(other)  # of the same name
    for known in (lax.tanh_p, next(p for p in ALIVE.values() if p.name == "cgjax_node")):
        with pytest.raises(ValueError, match="take another name, or edit it"):
            classify(known, Facts(linear=FIRST))
    assert facts_of(lax.tanh_p).rises


# -- examples: a function that binds the primitive to its arguments

X = np.array([[0.31, -0.52, 0.83], [-0.14, 0.65, -0.26]], np.float32)
Y = np.array([[0.72, 0.43, -0.94], [0.35, -0.16, 0.57]], np.float32)
ROW = X[0]
POSITIVE = np.abs(X)
FIVE = np.array([0.31, -0.52, 0.83, 0.44, -0.15], np.float32)
Z = (X + 1j * Y).astype(np.complex64)
WHOLE = np.array([[3, -5, 7], [1, 0, 6]], np.int32)
CHOICE = np.array([[True, False, False], [True, True, False]])
PLACE = np.array([[2], [0]], np.int32)
LOWER = np.tril(np.full((3, 3), 0.4, np.float32)) + np.eye(3, dtype=np.float32)

Example = tuple[Callable[..., Any], tuple[np.ndarray | np.generic, ...]]

ONE_ROW = lax.GatherDimensionNumbers((1,), (0,), (0,))
INTO_ROWS = lax.ScatterDimensionNumbers((1,), (0,), (0,))


def named(name: str, operands: tuple[Any, ...], **params: Any) -> Example:
    """The function of `jax.lax` that has the primitive's name, or the primitive."""
    function = getattr(lax, name, None) or ALIVE[name].bind
    return partial(function, **params), operands


def over_rows(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """A function that communicates, on devices that `vmap` stands for."""
    return jax.vmap(partial(function, axis_name="i", **options), axis_name="i")


def examples() -> Iterator[tuple[str, Example]]:
    """For each primitive that the table claims something of, an example."""
    for name in (
        "tanh logistic erf asinh exp exp2 expm1 cbrt atan sinh asin atanh erf_inv square sin cos "
        "tan acos cosh erfc bessel_i0e bessel_i1e abs sign floor ceil neg stop_gradient "
        "one_minus_square is_finite"
    ).split():
        if name in ALIVE:
            yield name, named(name, (X,))
    for name in "log log1p log2 sqrt rsqrt lgamma digamma".split():
        if name in ALIVE:
            yield name, named(name, (POSITIVE,))
    for name in "add sub mul div max min atan2 rem eq ne lt le gt ge complex".split():
        yield name, named(name, (X, Y))
    for name in "igamma igammac igamma_grad_a pow".split():
        yield name, named(name, (POSITIVE, np.abs(Y)))
    for name in "and or xor".split():
        yield name, (getattr(lax, f"bitwise_{name}"), (WHOLE, WHOLE[::-1]))
    for name in "shift_left shift_right_arithmetic shift_right_logical mulhi".split():
        yield name, named(name, (WHOLE, np.abs(WHOLE[::-1])))
    for name in "eq_to lt_to le_to".split():
        yield name, (ALIVE[name].bind, (X, Y))
    yield "not", (lax.bitwise_not, (WHOLE,))
    yield "population_count", named("population_count", (WHOLE,))
    yield "clz", named("clz", (WHOLE,))
    yield "round", named("round", (3 * X,))
    yield "acosh", named("acosh", (POSITIVE + 1.1,))
    yield "add_any", (ALIVE["add_any"].bind, (X, Y))
    yield "integer_pow", (partial(lax.integer_pow, y=3), (X,))
    yield "polygamma", named("polygamma", (POSITIVE + 1, POSITIVE))
    yield "zeta", named("zeta", (POSITIVE + 1.2, POSITIVE))
    yield "regularized_incomplete_beta", (lax.betainc, (POSITIVE, np.abs(Y), POSITIVE))
    yield "clamp", (lax.clamp, (X - 0.3, X + Y, X + 0.4))
    yield "select_n", (lax.select_n, (CHOICE, X, Y))
    yield "real", (lax.real, (Z,))
    yield "imag", (lax.imag, (Z,))
    yield "conj", (ALIVE["conj"].bind, (Z,))
    if "polynomial" in ALIVE:
        yield "polynomial", (lambda x, *c: vars(lax)["polynomial"](x, c), (X, X, Y, X * Y))
    # The same numbers.
    yield "convert_element_type", (partial(lax.convert_element_type, new_dtype=jnp.bfloat16), (X,))
    yield "reduce_precision", named("reduce_precision", (X,), exponent_bits=8, mantissa_bits=23)
    yield "copy", (ALIVE["copy"].bind, (X,))
    yield "name", (partial(ALIVE["name"].bind, name="a name"), (X,))
    yield "device_put", (lambda x, y: jax.device_put((x, y)), (X, Y))
    yield "optimization_barrier", (lambda x, y: lax.optimization_barrier((x, y)), (X, Y))
    yield "tie", (ALIVE["tie"].bind, (Y, X))
    # The same elements, elsewhere.
    yield "reshape", (partial(lax.reshape, new_sizes=(3, 2)), (X,))
    yield "transpose", (partial(lax.transpose, permutation=(1, 0)), (X,))
    yield "slice", (partial(lax.slice, start_indices=(0, 1), limit_indices=(2, 3)), (X,))
    yield "squeeze", (partial(lax.squeeze, dimensions=(0,)), (X[None],))
    yield (
        "broadcast_in_dim",
        (
            partial(lax.broadcast_in_dim, shape=(4, 2, 3), broadcast_dimensions=(1, 2)),
            (X,),
        ),
    )
    yield "rev", (partial(lax.rev, dimensions=(1,)), (X,))
    yield "tile", (partial(lax.tile, reps=(2, 1)), (X,))
    yield "split", (partial(lax.split, sizes=(1, 2), axis=1), (X,))
    if "unstack" in ALIVE:
        yield "unstack", (partial(lax.unstack, axis=0), (X,))
    if "stack" in ALIVE:
        yield "stack", (lambda x, y: lax.stack([x, y]), (X, Y))
    yield "concatenate", (lambda x, y: lax.concatenate([x, y], 1), (X, Y))
    yield "pad", (partial(lax.pad, padding_config=((1, 0, 0), (0, 1, 1))), (X, np.float32(0.2)))
    yield (
        "dynamic_slice",
        (
            lambda x, *i: lax.dynamic_slice(x, i, (1, 2), allow_negative_indices=False),
            (X, np.int32(1), np.int32(1)),
        ),
    )
    yield (
        "dynamic_update_slice",
        (
            lambda x, y, *i: lax.dynamic_update_slice(x, y, i, allow_negative_indices=False),
            (X, Y[:1, :2], np.int32(1), np.int32(1)),
        ),
    )
    yield (
        "gather",
        (
            partial(lax.gather, dimension_numbers=ONE_ROW, slice_sizes=(1, 3), mode="clip"),
            (X, PLACE),
        ),
    )
    for kind in ("", "_add", "_sub", "_mul", "_max", "_min"):
        scatter = getattr(lax, f"scatter{kind}")
        yield (
            f"scatter{kind}".replace("_", "-"),
            (partial(scatter, dimension_numbers=INTO_ROWS), (X, PLACE[:1], Y[:1])),
        )
    # Sums and products of several elements.
    for kind in "sum prod max min and or xor".split():
        operand = WHOLE if kind in ("and", "or", "xor") else X
        yield f"reduce_{kind}", (partial(getattr(lax, f"reduce_{kind}"), axes=(0,)), (operand,))
    for kind in "cumsum cumprod cummax cummin cumlogsumexp".split():
        yield kind, named(kind, (X,))
    for kind, start, name in (
        (lax.add, 0, "sum"),
        (lax.max, -np.inf, "max"),
        (lax.min, np.inf, "min"),
    ):
        window = partial(
            lax.reduce_window,
            init_value=np.float32(start),
            computation=kind,
            window_dimensions=(1, 2),
            window_strides=(1, 1),
            padding="VALID",
        )
        yield f"reduce_window_{name}", (window, (X,))
    yield "argmax", (partial(lax.argmax, axis=0, index_dtype=np.int32), (X,))
    yield "argmin", (partial(lax.argmin, axis=0, index_dtype=np.int32), (X,))
    yield "dot_general", (lax.dot, (X, Y.T))
    yield (
        "conv_general_dilated",
        (partial(lax.conv, window_strides=(1,), padding="SAME"), (X[None], Y[None])),
    )
    yield (
        "ragged_dot_general",
        (lax.ragged_dot, (X, np.stack([LOWER, 2 * LOWER]), np.array([1, 1], np.int32))),
    )
    yield "fft", (partial(lax.fft, fft_type="fft", fft_lengths=(3,)), (Z,))
    yield (
        "triangular_solve",
        (partial(lax.linalg.triangular_solve, lower=True, left_side=True), (LOWER, X.T)),
    )
    yield "tridiagonal_solve", (lax.linalg.tridiagonal_solve, (0.1 * ROW, 2 + ROW, 0.1 * Y[0], X.T))
    yield (
        "custom_linear_solve",
        (
            lambda b: lax.custom_linear_solve(lambda x: 2 * x, b, lambda _, b: b / 2),
            (Y,),
        ),
    )
    pools = {
        "window_dimensions": (1, 2),
        "window_strides": (1, 1),
        "padding": ((0, 0), (0, 0)),
        "base_dilation": (1, 1),
        "window_dilation": (1, 1),
    }
    yield (
        "select_and_gather_add",
        (partial(ALIVE["select_and_gather_add"].bind, select_prim=lax.ge_p, **pools), (X, Y)),
    )
    yield (
        "select_and_scatter_add",
        (
            partial(
                ALIVE["select_and_scatter_add"].bind,
                select_prim=lax.ge_p,
                **{k: v for k, v in pools.items() if "dilation" not in k},
            ),
            (X[:, 1:], Y),
        ),
    )
    # Communication.
    for name in "psum pmax pmin".split():
        yield name, (over_rows(getattr(lax, name)), (X,))
    yield "all_gather", (over_rows(lax.all_gather), (X,))
    yield "all_to_all", (over_rows(lax.all_to_all, split_axis=0, concat_axis=0), (X[:, :2],))
    yield "ppermute", (over_rows(lax.ppermute, perm=((0, 1), (1, 0))), (X,))
    yield "reduce_scatter", (over_rows(lax.psum_scatter), (X[:, :2],))


EXAMPLES = dict(examples())
# What the table claims of these is not tried: they need several devices or a mesh, a function
# around them, or are made by JAX alone while it compiles, differentiates or writes kernels.
UNTRIED = set(
    "sharding_constraint reshard layout_constraint relayout with_memory_space_constraint pvary "
    "reduced_vary_cast_p reduced_vary_cast vary_unreduced_cast_p vary_unreduced_cast pbroadcast "
    "pbroadcast_dynamic preduced xla_metadata_value to_edtype from_edtype add_dependency "
    "broadcast_to psum_invariant unreduced_psum psum_start psum_done psum_invariant_start "
    "unreduced_psum_start unreduced_reduce_scatter reduce_scatter_start reduce_scatter_done "
    "unreduced_reduce_scatter_start all_gather_invariant all_gather_reduced all_gather_start "
    "all_gather_done all_gather_reduced_start all_to_all_start all_to_all_done ppermute_start "
    "ppermute_done pbroadcast_start pbroadcast_done ragged_all_to_all unreduced_pmax "
    "unreduced_pmin reciprocal _copysign zeros_like".split()
)


def test_examples_are_of_primitives_that_exist():
    assert sorted(set(EXAMPLES) - set(ALIVE)) == []


def claims(known: Facts) -> bool:
    """Whether something is claimed that an example can refute."""
    return known != Facts(
        data=known.data,
        reduces=known.reduces if known.reduces in ("custom", "logical", "index") else None,
        windowed=known.windowed,
        running=known.running,
        contracts=known.contracts,
        call=known.call,
        loop=known.loop,
        random=known.random,
        opaque=known.opaque,
        wraps=known.wraps,
        marks=known.marks,
    )


def test_every_claim_has_an_example():
    claimed = {name for name, p in ALIVE.items() if claims(facts_of(p))}
    assert sorted(claimed - set(EXAMPLES) - UNTRIED) == []


# -- the claims, at numbers


def of_example(name: str) -> Facts:
    """The facts of the equation that an example makes, which has the example's arguments."""
    function, operands = EXAMPLES[name]
    closed = inlined(jax.make_jaxpr(function)(*operands), {})
    found = [eqn for eqn in closed.jaxpr.eqns if eqn.primitive.name == name]
    if not found:  # a map stands for several devices
        return facts_of(ALIVE[name])
    (eqn,) = found
    assert [v for v in eqn.invars if v in closed.jaxpr.invars] == closed.jaxpr.invars, name
    return facts(eqn)


def is_number(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def turned(x: Any) -> Any:
    """The same elements in another order, of arrays that have the shape of X."""
    return x[::-1, ::-1] if x.shape == X.shape else x


def points(known: Facts, operands: tuple[Any, ...]) -> dict[str, list[Any]]:
    """Operands at which an operation is compared with itself."""
    count = len(operands)
    rng = np.random.default_rng(count)
    others = [
        (x + rng.uniform(-1, 1, x.shape)).astype(x.dtype) if is_number(x) else x for x in operands
    ]

    def changed(positions: Any, change: Callable[[Any, Any], Any]) -> list[Any]:
        return [
            np.asarray(change(x, y), x.dtype) if k in positions and is_number(x) else x
            for k, (x, y) in enumerate(zip(operands, others, strict=True))
        ]

    sets = {"linear": known.linear.of(count)} if known.linear != NONE else {}
    if known.bilinear:
        sets |= {f"linear in {k}": [k] for k in known.data.of(count)}
    found = {"base": list(operands)}
    for name, positions in sets.items():
        found[f"{name}: other"] = changed(positions, lambda x, y: y)
        found[f"{name}: sum"] = changed(positions, lambda x, y: x + y)
        found[f"{name}: zero"] = changed(positions, lambda x, y: 0 * x)
    if known.elementwise:
        found["turned"] = list(map(turned, operands))
    if known.rises:
        found["risen"] = changed(range(count), lambda x, y: x + 0.03)
    if known.commutes or known.mirror:
        found["exchanged"] = list(operands[::-1])
    if known.moves:
        found["constant"] = changed(known.data.of(count), lambda x, y: np.full_like(x, 0.7))
        found["moved"] = changed(known.data.of(count), lambda x, y: y)
    if known.paired and count > 1:
        found["first kept"] = changed(range(1, count), lambda x, y: y)
    return found


Results = dict[str, list[np.ndarray]]  # of one example, by point


def evaluate(known: dict[str, Facts]) -> dict[str, Results]:
    """The results of examples at the points that claims are tried at, compiled as one program."""
    at = {name: points(of_one, EXAMPLES[name][1]) for name, of_one in known.items()}
    stacks = {
        name: [np.stack(operand) for operand in zip(*of_one.values(), strict=True)]
        for name, of_one in at.items()
    }

    # Compiling is what takes time here, not running.
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def results(stacks: dict[str, list[Any]]) -> dict[str, Any]:
        return {name: jax.vmap(EXAMPLES[name][0])(*stack) for name, stack in stacks.items()}

    with jax.numpy_rank_promotion("allow"):
        outs = jax.device_get(results(stacks))
    return {
        name: {point: [x[k] for x in jax.tree.leaves(outs[name])] for k, point in enumerate(of_one)}
        for name, of_one in at.items()
    }


def test_a_solution_is_linear_in_the_right_side_alone():
    def solution(a: Any, b: Any) -> Any:
        return lax.custom_linear_solve(lambda x: a * x, b, lambda _, b: b / a, symmetric=True)

    (eqn,) = jax.make_jaxpr(solution)(POSITIVE, Y).eqns
    # Each of its three functions closes over a.
    assert [v.aval.shape for v in eqn.invars] == [X.shape] * len(eqn.invars)
    assert list(facts(eqn).linear.of(len(eqn.invars))) == [len(eqn.invars) - 1]


def close(a: Any, b: Any) -> bool:
    # Three numbers of size 2 in float32, or in bfloat16.
    exact = a.dtype != jnp.bfloat16
    a, b = (
        np.asarray(x, np.result_type(x.dtype, np.float32) if exact else np.float32) for x in (a, b)
    )
    return np.allclose(a, b, rtol=1e-4, atol=1e-5 if exact else 3e-2, equal_nan=True)


def wrong(name: str, known: Facts, evaluated: dict[str, Results]) -> Iterator[str]:
    """The claims about a primitive that its example refutes."""
    at, operands = evaluated[name], EXAMPLES[name][1]
    base, data = at["base"], known.data.of(len(operands))
    for point in at:
        claim, _, last = point.partition(": ")
        if last != "sum":
            continue
        others, zeros = at[f"{claim}: other"], at[f"{claim}: zero"]
        if not all(
            map(close, at[point], [a + b - z for a, b, z in zip(base, others, zeros, strict=True)])
        ):
            yield claim
    if (
        known.curvature == "straight"
        and known.linear.of(len(operands)) != data
        and name != "stop_gradient"
    ):
        yield "straight, but not linear"
    if known.elementwise and not all(map(close, at["turned"], map(turned, base))):
        yield "element-wise"
    if known.rises and not all(np.all(a <= b) for a, b in zip(base, at["risen"], strict=True)):
        yield "rises"
    if known.commutes and not all(map(close, base, at["exchanged"])):
        yield "commutes"
    if known.mirror and not all(map(close, evaluated[known.mirror]["base"], at["exchanged"])):
        yield "mirror"
    if known.decides and any(map(is_number, base)):
        yield "decides"
    if known.signs and not close(base[0], sum(map(np.multiply, known.signs, operands))):
        yield "signs"
    if known.converts and not all(map(close, base, (operands[k] for k in data))):
        yield "converts"
    if known.paired and "first kept" in at and len(base) == len(operands):
        kept = np.array_equal(base[0], at["first kept"][0])
        if not kept or any(map(np.array_equal, base[1:], at["first kept"][1:])):
            yield "paired"
    yield from wrong_moves(known, at, operands)
    reduced = {"sum": np.add, "product": np.multiply, "largest": np.maximum, "smallest": np.minimum}
    if known.reduces in reduced and not known.windowed and len(base[0]) <= 3 and not known.paired:
        by = reduced[known.reduces]
        want = by.accumulate(operands[0]) if known.running else by.reduce(operands[0])
        if not close(base[0], want):
            yield "reduces"


def wrong_moves(known: Facts, at: Results, operands: tuple[Any, ...]) -> Iterator[str]:
    if not known.moves:
        return
    data = known.data.of(len(operands))
    for before, after in zip(at["base"], at["moved"], strict=True):
        elements = np.concatenate([np.ravel(operands[k]) for k in data]).astype(before.dtype)
        if not np.all(np.isin(before, elements) | (before == after)):
            yield "moves"
    alone = known.paired or len(data) == 1
    constant = all(np.all(x == x.dtype.type(0.7)) for x in at["constant"])
    if alone and not known.mixes and not constant:
        yield "moves without mixing"


def test_claims_are_true_of_numbers():
    known = {name: of_example(name) for name in EXAMPLES}
    evaluated = evaluate(known)
    refuted = {name: list(wrong(name, known[name], evaluated)) for name in EXAMPLES}
    refuted = {name: found for name, found in refuted.items() if found}
    assert refuted == {}, refuted


def test_false_claims_are_refuted():
    false: dict[str, dict[str, Any]] = {
        "tanh": {"linear": ALL},
        "div": {"bilinear": True},
        "cos": {"rises": True},
        "sub": {"commutes": True},
        "lt": {"mirror": "gt", "decides": False, "commutes": True},
        "gt": {"mirror": "gt"},
        "reduce_sum": {"moves": True},
        "exp": {"converts": True},
        "add": {"signs": (1, -1)},
        "pad": {"mixes": False, "data": FIRST},
        "abs": {"decides": True},
        "mul": {"curvature": "straight"},
        "cumsum": {"reduces": "product", "curvature": "smooth"},
    }
    known = {name: replace(of_example(name), **claim) for name, claim in false.items()}
    evaluated = evaluate(known)
    believed = [name for name in false if not list(wrong(name, known[name], evaluated))]
    assert believed == [], believed
