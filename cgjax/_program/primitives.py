"""THE table of primitives: what is known about each operation of JAX, written once.

Every analysis (the flow between nodes, linearity, lifting, beliefs, noisy weights, the graph) asks
this table in place of keeping names of its own, so that equal functions get equal treatment however
they are written. A primitive that JAX adds takes one line in `_CLASSES` below; a test lists those
that nobody has classified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Literal

import jax.extend.core.primitives
from jax import lax
from jax.extend.core import JaxprEqn, Primitive


@dataclass(frozen=True)
class Operands:
    """Some of an operation's operands: every `step`-th from `start` to before `stop`."""

    start: int = 0
    stop: int | None = None
    step: int = 1

    def of(self, number: int) -> range:
        """Their positions among a number of operands."""
        return range(number)[self.start : self.stop : self.step]


ALL = Operands()
NONE = Operands(stop=0)
FIRST = Operands(stop=1)
TWO = Operands(stop=2)
CASES = Operands(1)  # of a selection, whose first operand decides
ARRAY_AND_UPDATES = Operands(step=2)  # of a scatter, whose second operand says where

Curvature = Literal["straight", "smooth", "kinked", "stepped"]
Reduction = Literal["sum", "product", "largest", "smallest", "logical", "index", "custom"]


@dataclass(frozen=True)
class Facts:
    """What is known about a primitive.

    The operands that are no data say where, which, or how: indices, decisions, sizes.

    Attributes:
        data: the operands that hold data.
        moves: every element of a result is an element of a data operand, or a constant that fills.
        paired: result k is made of operand k alone.
        mixes: beside the first operand's elements a result has those of others, or a filling.
        converts: the same numbers, in another dtype or under another name.
        linear: the operands that the results are jointly linear in, for fixed others.
        bilinear: linear in each data operand for fixed others, not in all of them together.
        curvature: of an element-wise function: "straight", "smooth", "kinked" (somewhere its
            derivative jumps), or "stepped" (it jumps at each whole number).
        rises: an element-wise function of one argument that never falls.
        decides: the result is a decision (booleans), or an index.
        signs: of a sum or difference of its operands, their signs.
        commutes: the operands may change places.
        mirror: the primitive that it becomes when the operands change places.
        positive: only positive numbers, or none near 0, have a result: logarithms, roots.
        powers: a power, a root, an exponential or a logarithm, of which losses and normalisers are
            made.
        reduces: how many elements become one, over axes, in windows, or up to each element.
        running: the reduction is up to each element ("cumsum").
        windowed: the reduction is in windows.
        contracts: a product that sums over an axis: a matrix product, a convolution.
        call: holds a function that is evaluated as it stands: "jit", "custom", "remat",
            "component".
        loop: "scan", "while" or "cond".
        random: random bits come from it.
        opaque: nothing is known: it may do anything with its operands.
    """

    data: Operands = ALL
    moves: bool = False
    paired: bool = False
    mixes: bool = False
    converts: bool = False
    linear: Operands = NONE
    bilinear: bool = False
    curvature: Curvature | None = None
    rises: bool = False
    decides: bool = False
    signs: tuple[int, ...] = ()
    commutes: bool = False
    mirror: str = ""
    positive: bool = False
    powers: bool = False
    reduces: Reduction | None = None
    running: bool = False
    windowed: bool = False
    contracts: bool = False
    call: Literal["jit", "custom", "remat", "component"] | None = None
    loop: Literal["scan", "while", "cond"] | None = None
    random: bool = False
    opaque: bool = False

    @property
    def elementwise(self) -> bool:
        """Whether each element of the result is a function of those at its place."""
        return self.curvature is not None

    @property
    def entered(self) -> bool:
        """Whether it holds functions that nodes may lie in."""
        return self.call is not None or self.loop is not None

    def is_data(self, operand: int, number: int) -> bool:
        """Whether one of a number of operands holds data."""
        return operand in self.data.of(number)

    def is_linear(self, random: Sequence[bool]) -> bool:
        """Whether the results are linear in the operands that are random, for fixed others."""
        if self.bilinear and sum(random) > 1:
            return False
        inside = (self.data if self.bilinear else self.linear).of(len(random))
        return not any(is_random and k not in inside for k, is_random in enumerate(random))


_MOVE = Facts(data=FIRST, moves=True, linear=FIRST)
_SAME = replace(_MOVE, converts=True, curvature="straight")
_SMOOTH = Facts(curvature="smooth")
_KINKED = Facts(curvature="kinked")
_STEPPED = Facts(curvature="stepped")
_DECIDES = Facts(curvature="kinked", decides=True)
_SUM = Facts(curvature="straight", linear=ALL)
_LINEAR = Facts(linear=FIRST, data=FIRST)
_PRODUCT = Facts(bilinear=True, contracts=True, data=TWO)
_REDUCE = Facts(data=FIRST)
_RANDOM = Facts(random=True, data=NONE)
_CONSTANT = Facts(data=NONE)
_OPAQUE = Facts(opaque=True)
# Communication between devices moves data as they are, or sums them.
_COLLECTIVE_MOVE = Facts(moves=True, linear=ALL, paired=True)
_COLLECTIVE_SUM = Facts(linear=ALL, paired=True, reduces="sum")

_CLASSES: tuple[tuple[str, Facts], ...] = (
    # -- the same numbers
    ("convert_element_type reduce_precision to_edtype from_edtype", _SAME),
    ("copy copy_p name sharding_constraint reshard layout_constraint device_put", _SAME),
    ("with_memory_space_constraint copy_to_host pvary reduced_vary_cast_p", _SAME),
    ("vary_unreduced_cast_p pbroadcast preduced unreachable pin unpin annotate", _SAME),
    ("optimization_barrier", replace(_SAME, data=ALL, linear=ALL, paired=True)),
    ("stop_gradient", replace(_SAME, linear=NONE)),
    # -- the same elements, elsewhere
    ("reshape transpose slice squeeze expand_dims broadcast_in_dim broadcast_to rev tile", _MOVE),
    ("split unstack dynamic_slice gather", _MOVE),
    ("concatenate stack", replace(_MOVE, data=ALL, linear=ALL)),
    ("pad", replace(_MOVE, data=TWO, linear=TWO, mixes=True)),
    ("dynamic_update_slice", replace(_MOVE, data=TWO, linear=TWO, mixes=True)),
    ("scatter", replace(_MOVE, data=ARRAY_AND_UPDATES, linear=ARRAY_AND_UPDATES, mixes=True)),
    ("select_n", Facts(CASES, moves=True, mixes=True, linear=CASES, curvature="kinked")),
    ("real imag", replace(_SAME, moves=False)),
    ("conj", replace(_SAME, moves=False)),
    ("complex", Facts(linear=ALL, curvature="straight")),
    ("bitcast_convert_type", Facts(data=FIRST, decides=True)),
    # -- sums and differences
    ("add add_any", replace(_SUM, signs=(1, 1), commutes=True)),
    ("sub", replace(_SUM, signs=(1, -1))),
    ("neg", replace(_SUM, signs=(-1,))),
    ("zeros_like", _CONSTANT),
    # -- products
    ("mul", Facts(curvature="smooth", bilinear=True, commutes=True)),
    ("div", Facts(curvature="smooth", linear=FIRST)),
    ("dot_general conv_general_dilated", _PRODUCT),
    ("ragged_dot ragged_dot_general", _PRODUCT),
    ("scaled_dot scaled_matmul scaled_matmul_wrapper", Facts(contracts=True)),
    ("symmetric_product", Facts(contracts=True)),
    # -- smooth functions of elements
    ("tanh logistic erf asinh", replace(_SMOOTH, rises=True)),
    ("exp exp2 expm1", replace(_SMOOTH, rises=True, powers=True)),
    ("log log1p", replace(_SMOOTH, rises=True, positive=True, powers=True)),
    ("sqrt", replace(_SMOOTH, rises=True, positive=True, powers=True)),
    ("rsqrt", replace(_SMOOTH, positive=True, powers=True)),
    ("cbrt", replace(_KINKED, rises=True, powers=True)),  # infinitely steep at 0
    ("atan sinh erf_inv", replace(_SMOOTH, rises=True)),
    ("integer_pow square", replace(_SMOOTH, powers=True)),
    ("pow", replace(_SMOOTH, positive=True, powers=True)),
    ("lgamma digamma", replace(_SMOOTH, positive=True)),
    ("sin cos tan asin acos atan2 cosh acosh atanh erfc", _SMOOTH),
    ("bessel_i0e bessel_i1e igamma igammac igamma_grad_a polygamma zeta", _SMOOTH),
    ("regularized_incomplete_beta random_gamma_grad nextafter", _SMOOTH),
    # -- functions with kinks, jumps and decisions
    ("abs", replace(_KINKED, powers=True)),
    ("max min", replace(_KINKED, rises=True, commutes=True)),
    ("clamp", replace(_KINKED, rises=True)),
    ("sign", _KINKED),
    ("floor ceil round rem", _STEPPED),
    ("eq ne", replace(_DECIDES, commutes=True)),
    ("lt", replace(_DECIDES, mirror="gt")),
    ("le", replace(_DECIDES, mirror="ge")),
    ("gt ge eq_to lt_to le_to is_finite not", _DECIDES),
    ("and or xor", replace(_DECIDES, commutes=True)),
    ("shift_left shift_right_arithmetic shift_right_logical", _DECIDES),
    ("population_count clz mulhi", _DECIDES),
    # -- reductions
    ("reduce_sum", replace(_REDUCE, reduces="sum", linear=FIRST)),
    ("cumsum", replace(_REDUCE, reduces="sum", running=True, linear=FIRST)),
    ("reduce_window_sum", replace(_REDUCE, reduces="sum", windowed=True, linear=FIRST)),
    ("reduce_prod", replace(_REDUCE, reduces="product")),
    ("cumprod", replace(_REDUCE, reduces="product", running=True)),
    ("reduce_max", replace(_REDUCE, reduces="largest")),
    ("cummax", replace(_REDUCE, reduces="largest", running=True)),
    ("reduce_window_max", replace(_REDUCE, reduces="largest", windowed=True)),
    ("reduce_min", replace(_REDUCE, reduces="smallest")),
    ("cummin", replace(_REDUCE, reduces="smallest", running=True)),
    ("reduce_window_min", replace(_REDUCE, reduces="smallest", windowed=True)),
    ("reduce_and reduce_or reduce_xor", replace(_REDUCE, reduces="logical", decides=True)),
    ("argmax argmin", replace(_REDUCE, reduces="index", decides=True)),
    ("cumlogsumexp", replace(_REDUCE, reduces="custom", running=True)),
    ("reduce", Facts(reduces="custom")),
    ("reduce_window", Facts(reduces="custom", windowed=True)),
    ("select_and_gather_add select_and_scatter select_and_scatter_add", _OPAQUE),
    # -- writing into arrays with a function
    ("scatter-add scatter_add", Facts(ARRAY_AND_UPDATES, linear=ARRAY_AND_UPDATES)),
    ("scatter-sub scatter_sub", Facts(ARRAY_AND_UPDATES, linear=ARRAY_AND_UPDATES)),
    ("scatter-mul scatter_mul scatter-max scatter_max", Facts(ARRAY_AND_UPDATES)),
    ("scatter-min scatter_min", Facts(ARRAY_AND_UPDATES)),
    # -- order
    ("sort top_k approx_top_k", Facts()),
    # -- linear maps, and solutions of linear systems
    ("fft", _LINEAR),
    ("triangular_solve", Facts(linear=Operands(1))),
    ("tridiagonal_solve", Facts(linear=Operands(3))),
    ("custom_lin", _OPAQUE),
    # -- matrices
    ("cholesky cholesky_update lu lu_pivots_to_permutation qr geqrf geqp3 ormqr", Facts()),
    ("householder_product eig eigh svd schur hessenberg tridiagonal", Facts()),
    # -- communication
    ("psum psum_invariant unreduced_psum psum_start psum_done", _COLLECTIVE_SUM),
    ("psum_invariant_start unreduced_psum_start", _COLLECTIVE_SUM),
    ("reduce_scatter unreduced_reduce_scatter reduce_scatter_start", _COLLECTIVE_SUM),
    ("reduce_scatter_done unreduced_reduce_scatter_start", _COLLECTIVE_SUM),
    ("all_gather all_gather_invariant all_gather_reduced all_to_all ppermute", _COLLECTIVE_MOVE),
    ("all_gather_start all_gather_done all_gather_reduced_start", _COLLECTIVE_MOVE),
    ("all_to_all_start all_to_all_done ppermute_start ppermute_done", _COLLECTIVE_MOVE),
    ("pbroadcast_start pbroadcast_done psend precv ragged_all_to_all", _COLLECTIVE_MOVE),
    ("pmax pmin", Facts(paired=True)),
    ("axis_index", _CONSTANT),
    # -- functions inside
    ("jit pjit closed_call core_call call", Facts(call="jit")),
    ("custom_jvp_call custom_vjp_call", Facts(call="custom")),
    ("remat2 checkpoint", Facts(call="remat")),
    ("cgjax_component", Facts(call="component")),
    ("scan", Facts(loop="scan")),
    ("while", Facts(loop="while")),
    ("cond", Facts(loop="cond")),
    # -- random numbers
    ("random_bits random_split random_fold_in random_seed random_gamma", _RANDOM),
    ("random_clone random_wrap random_unwrap threefry2x32 threefry4x32", _RANDOM),
    ("philox2x32 philox4x32 rng_bit_generator rng_uniform iota_2x32_shape", _RANDOM),
    # -- no data
    ("iota empty empty2 create_token after_all dimension_size dim_as_value", _CONSTANT),
    ("platform_index shape_assertion", _CONSTANT),
    # -- effects, references to memory, code of others
    ("custom_linear_solve custom_jvp_call_jaxpr custom_vmap_call custom_partitioning", _OPAQUE),
    ("composite core_map shard_map linear_call remat_opt eval_jaxpr run_state", _OPAQUE),
    ("call_exported call_hi_primitive call_hi_primitive_linearized stage tie dce_sink", _OPAQUE),
    ("cudnn_fusion ffi_call pure_callback io_callback debug_callback debug_print", _OPAQUE),
    ("check inspect_sharding accum_grad_in_ref addupdate get swap new_ref empty_ref", _OPAQUE),
    ("free_ref freeze box_get box_set new_box create_linear", _OPAQUE),
    ("log_extend log_read new_log", _OPAQUE),
    ("dot_product_attention_bwd dot_product_attention_bwd_wrapper", _OPAQUE),
    ("dot_product_attention_fwd dot_product_attention_fwd_wrapper", _OPAQUE),
    ("dot_product_attention_fp8_bwd dot_product_attention_fp8_bwd_wrapper", _OPAQUE),
    ("dot_product_attention_fp8_fwd dot_product_attention_fp8_fwd_wrapper", _OPAQUE),
)  # fmt: skip


def _public() -> dict[str, Primitive]:
    """The primitives that JAX shows under a public name."""
    modules: tuple[ModuleType, ...] = (jax.extend.core.primitives, lax)
    found = [v for m in modules for v in vars(m).values() if isinstance(v, Primitive)]
    return {p.name: p for p in found}


def _by_object() -> tuple[dict[Primitive, Facts], dict[str, Facts]]:
    """The table by primitive, and by name for those that JAX shows under no public name."""
    public = _public()
    objects, names = {}, {}
    for listed, facts in _CLASSES:
        for name in listed.split():
            if name in public:
                objects[public[name]] = facts
            else:
                names[name] = facts
    return objects, names


_OBJECTS, _NAMES = _by_object()
_UNKNOWN = Facts(opaque=True)


def is_classified(primitive: Primitive) -> bool:
    """Whether the table knows a primitive."""
    return primitive in _OBJECTS or primitive.name in _NAMES


def facts_of(primitive: Primitive) -> Facts:
    """What is known about a primitive; nothing about one that JAX or a library has added."""
    return _OBJECTS.get(primitive) or _NAMES.get(primitive.name, _UNKNOWN)


def facts(eqn: JaxprEqn) -> Facts:
    """What is known about the primitive of an equation, with its parameters."""
    known = facts_of(eqn.primitive)
    if known.mixes and eqn.params.get("update_jaxpr") is not None and eqn.primitive in _APPLIES:
        return _UNKNOWN  # `x.at[i].apply(f)` hides f in a scatter
    if eqn.primitive.name == "custom_linear_solve":
        # What the matrix is made of comes before the right-hand sides.
        return replace(known, linear=Operands(sum(eqn.params["const_lengths"])))
    return known


_APPLIES = (lax.scatter_p,)
