"""THE table of primitives: what is known about each operation of JAX, written once.

Every analysis (the flow between nodes, linearity, lifting, beliefs, noisy weights, the graph) asks
this table in place of keeping names of its own, so that equal functions get equal treatment however
they are written.

A primitive that JAX adds is classified in one place: its name goes into a row of `_CLASSES`, or
into a new row, `("name", facts)`, where `facts` says what is true of it at *every* parameter and
operand (`Facts` has the words). What depends on the parameters of an equation goes into
`_BY_PARAMETERS`. `_OPAQUE` claims nothing and is always right. `tests/_program/test_primitives.py`
lists what nobody has classified, in whatever version of JAX it runs on, and holds the claims to
numbers: operands to try them on go into its table of examples. Other libraries use `classify`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import jax.extend.core.primitives
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, Primitive

from cgjax import _cache
from cgjax._program.facts import (
    ALL,
    ARRAY_AND_UPDATES,
    CASES,
    FIRST,
    NONE,
    TWO,
    Curvature,
    Facts,
    Operands,
    Reduction,
)
from cgjax._program.jaxprs import dtype

__all__ = [
    "ALL",
    "ARRAY_AND_UPDATES",
    "CASES",
    "FIRST",
    "NONE",
    "TWO",
    "Curvature",
    "Facts",
    "Operands",
    "Reduction",
    "classify",
    "facts",
    "facts_of",
    "is_classified",
]

_MOVE = Facts(data=FIRST, moves=True, linear=FIRST)
# Of several arrays at once, each result is one of them.
_SAME = Facts(moves=True, linear=ALL, converts=True, curvature="straight", paired=True)
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
_WRAPS = Facts(opaque=True, wraps=True)
# Communication between devices moves data as they are, or sums them.
_COLLECTIVE_MOVE = Facts(moves=True, linear=ALL, paired=True)
_COLLECTIVE_SUM = Facts(linear=ALL, paired=True, reduces="sum")

_CLASSES: tuple[tuple[str, Facts], ...] = (
    # -- the same numbers
    ("convert_element_type reduce_precision", replace(_SAME, rounds=True)),
    ("copy name sharding_constraint reshard layout_constraint relayout device_put", _SAME),
    ("with_memory_space_constraint pvary reduced_vary_cast_p reduced_vary_cast", _SAME),
    ("vary_unreduced_cast_p vary_unreduced_cast pbroadcast pbroadcast_dynamic preduced", _SAME),
    ("xla_metadata_value optimization_barrier to_edtype from_edtype", _SAME),
    ("stop_gradient", replace(_SAME, linear=NONE)),
    ("add_dependency", replace(_SAME, data=FIRST, linear=FIRST, paired=False)),
    ("tie", replace(_SAME, data=CASES, linear=CASES, paired=False)),
    # -- the same elements, elsewhere
    ("reshape transpose slice squeeze broadcast_in_dim broadcast_to rev tile", _MOVE),
    ("split unstack dynamic_slice gather", _MOVE),
    ("concatenate stack", replace(_MOVE, data=ALL, linear=ALL)),
    ("pad", replace(_MOVE, data=TWO, linear=TWO, mixes=True)),
    ("dynamic_update_slice", replace(_MOVE, data=TWO, linear=TWO, mixes=True)),
    ("scatter", replace(_MOVE, data=ARRAY_AND_UPDATES, linear=ARRAY_AND_UPDATES, mixes=True)),
    ("select_n", Facts(CASES, moves=True, mixes=True, linear=CASES, curvature="kinked")),
    # -- parts of complex numbers, and bits of numbers
    ("real imag conj complex", Facts(linear=ALL, curvature="straight")),
    ("bitcast_convert_type", Facts(data=FIRST)),
    # -- sums and differences
    ("add add_any", replace(_SUM, signs=(1, 1), commutes=True)),
    ("sub", replace(_SUM, signs=(1, -1))),
    ("neg", replace(_SUM, signs=(-1,))),
    ("zeros_like", _CONSTANT),
    # -- products
    ("mul", Facts(curvature="smooth", bilinear=True, commutes=True)),
    ("div", Facts(curvature="smooth", linear=FIRST)),
    ("dot_general conv_general_dilated", _PRODUCT),
    ("ragged_dot_general", _PRODUCT),
    ("scaled_dot scaled_matmul scaled_matmul_wrapper", Facts(contracts=True)),
    ("symmetric_product", Facts(contracts=True)),
    # -- smooth functions of elements
    ("tanh logistic erf asinh", replace(_SMOOTH, rises=True)),
    ("exp exp2 expm1", replace(_SMOOTH, rises=True, powers=True)),
    ("log log1p log2", replace(_SMOOTH, rises=True, positive=True, powers=True)),
    ("sqrt", replace(_SMOOTH, rises=True, positive=True, powers=True)),
    ("rsqrt", replace(_SMOOTH, positive=True, powers=True)),
    ("reciprocal", replace(_SMOOTH, powers=True)),
    ("cbrt", replace(_KINKED, rises=True, powers=True)),  # infinitely steep at 0
    ("atan sinh asin acosh atanh erf_inv", replace(_SMOOTH, rises=True)),
    ("integer_pow square one_minus_square", replace(_SMOOTH, powers=True)),
    ("polynomial", replace(_SMOOTH, linear=Operands(1))),
    ("pow", replace(_SMOOTH, positive=True, powers=True)),
    ("lgamma digamma", replace(_SMOOTH, positive=True)),
    ("sin cos tan acos atan2 cosh erfc", _SMOOTH),
    ("bessel_i0e bessel_i1e igamma igammac igamma_grad_a polygamma zeta", _SMOOTH),
    ("regularized_incomplete_beta", _SMOOTH),
    ("nextafter", Facts()),
    # -- functions with kinks, jumps and decisions
    ("abs", replace(_KINKED, powers=True)),
    ("max min", replace(_KINKED, rises=True, commutes=True)),
    ("clamp", replace(_KINKED, rises=True)),
    ("sign", replace(_KINKED, rises=True)),
    ("_copysign", _KINKED),
    ("floor ceil round", replace(_STEPPED, rises=True)),
    ("rem", _STEPPED),
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
    ("select_and_gather_add select_and_scatter_add", Facts(linear=FIRST)),
    ("select_and_scatter", _OPAQUE),
    # -- writing into arrays with a function
    ("scatter-add scatter-sub", Facts(ARRAY_AND_UPDATES, linear=ARRAY_AND_UPDATES)),
    ("scatter-mul", Facts(ARRAY_AND_UPDATES, linear=FIRST)),
    ("scatter-max scatter-min", Facts(ARRAY_AND_UPDATES)),
    # -- order
    ("sort top_k approx_top_k", Facts()),
    # -- linear maps, and solutions of linear systems
    ("fft", _LINEAR),
    ("triangular_solve", Facts(linear=Operands(1))),
    ("tridiagonal_solve", Facts(linear=Operands(3))),
    ("custom_linear_solve", _OPAQUE),
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
    ("pbroadcast_start pbroadcast_done", _COLLECTIVE_MOVE),
    ("ragged_all_to_all", replace(_MOVE, data=TWO, linear=TWO, mixes=True)),
    ("pmax pmin unreduced_pmax unreduced_pmin", Facts(paired=True)),
    ("psend precv", _OPAQUE),
    ("axis_index", _CONSTANT),
    # -- functions inside
    ("jit pjit closed_call core_call call", Facts(call="jit")),
    ("custom_jvp_call custom_vjp_call", Facts(call="custom")),
    ("remat2 checkpoint", Facts(call="remat")),
    ("cgjax_component", Facts(call="component")),
    ("scan", Facts(loop="scan")),
    ("while", Facts(loop="while")),
    ("cond", Facts(loop="cond")),
    ("custom_vmap_call custom_partitioning composite shard_map linear_call", _WRAPS),
    ("compute_on xla_metadata_call fused_call", _WRAPS),
    # -- nodes
    ("cgjax_node", Facts(opaque=True, marks=True)),
    # -- random numbers
    ("random_bits random_split random_fold_in random_seed", _RANDOM),
    ("random_gamma", replace(_RANDOM, data=CASES)),
    ("random_clone random_wrap random_unwrap threefry2x32 threefry4x32", _RANDOM),
    ("philox2x32 philox4x32 rng_bit_generator rng_uniform iota_2x32_shape", _RANDOM),
    # -- no data
    ("iota empty empty2 create_token after_all dimension_size dim_as_value", _CONSTANT),
    ("platform_index shape_assertion", _CONSTANT),
    # -- effects, references to memory, code of others
    ("custom_jvp_call_jaxpr core_map remat_opt eval_jaxpr run_state", _OPAQUE),
    ("call_exported call_hi_primitive call_hi_primitive_linearized stage dce_sink", _OPAQUE),
    ("cudnn_fusion ffi_call pure_callback io_callback debug_callback debug_print", _OPAQUE),
    ("buffer_callback tpu_custom_call mpmd_map check inspect_sharding unreachable", _OPAQUE),
    ("accum_grad_in_ref addupdate get swap new_ref empty_ref free_ref freeze pin unpin", _OPAQUE),
    ("box_get box_set new_box create_linear log_extend log_read new_log trace_value", _OPAQUE),
    ("global_array_to_host_local_array host_local_array_to_global_array", _OPAQUE),
    ("dot_product_attention_bwd dot_product_attention_bwd_wrapper", _OPAQUE),
    ("dot_product_attention_fwd dot_product_attention_fwd_wrapper", _OPAQUE),
    ("dot_product_attention_fp8_bwd dot_product_attention_fp8_bwd_wrapper", _OPAQUE),
    ("dot_product_attention_fp8_fwd dot_product_attention_fp8_fwd_wrapper", _OPAQUE),
    ("rnn_bwd rnn_fwd get_variable new_variable set_variable", _OPAQUE),
    ("cgjax_only_on_gpu cgjax_recurrence_tangent", _OPAQUE),
    # -- sparse arrays
    ("bcoo_dot_general bcoo_dot_general_sampled bcoo_extract bcoo_fromdense", _OPAQUE),
    ("bcoo_sort_indices bcoo_spdot_general bcoo_sum_duplicates bcoo_todense", _OPAQUE),
    ("bcoo_transpose bcsr_dot_general bcsr_extract bcsr_fromdense bcsr_todense", _OPAQUE),
    ("coo_fromdense coo_matmat coo_matvec coo_spmm coo_spmv coo_todense", _OPAQUE),
    ("csr_fromdense csr_matmat csr_matvec csr_spmm csr_spmv csr_todense spsolve todense", _OPAQUE),
)  # fmt: skip


# Those of the languages for kernels: they read and write memory, and lie inside kernels.
_KERNELS = """
    async_copy_scales_to_tmem async_copy_smem_to_tmem async_copy_sparse_metadata_to_tmem async_load
    async_prefetch async_store_smem async_store_tmem atomic_cas atomic_rmw barrier_arrive
    barrier_arrive_and_wait barrier_test barrier_wait bitcast commit_group commit_smem commit_tmem
    conv copy_gmem_to_smem copy_smem_to_gmem custom_fusion debug_barrier debug_barrier_p delay
    dma_start dma_wait einshape_lo elementwise_inline_asm elementwise_inline_asm_p emit_pipeline
    get_barrier_semaphore get_global griddepcontrol_launch_dependents griddepcontrol_wait
    has_memory_space inline_mgpu inline_mgpu_p jaxpr_call layout_cast load masked_load masked_swap
    matmul_acc_lhs matmul_lhs_fifo matmul_pop matmul_pop_fifo matmul_push_rhs max_contiguous
    mgpu_atomic_store mma mosaic_gpu_p mosaic_gpu_reduce_max mosaic_gpu_reduce_min
    mosaic_gpu_reduce_prod mosaic_gpu_reduce_sum multimem_load_reduce multimem_store multiple_of
    num_programs pack_dtype pack_elementwise pallas_call pipeline_body print_layout prng_join
    prng_random_bits prng_seed prng_split program_id query_cluster_cancel remove_memory_space roll
    run_scoped semaphore_read semaphore_signal semaphore_signal_multicast semaphore_signal_parallel
    semaphore_wait set_max_registers set_max_registers_p stochastic_round store
    tcgen05_commit_arrive tcgen05_mma try_cluster_cancel unpack_dtype unpack_elementwise
    wait_gmem_to_smem wait_load_tmem wait_smem_to_gmem wgmma wgmma_accumulator_deref
    wgmma_accumulator_deref_p wgmma_accumulator_store wgmma_accumulator_store_p wgmma_ref wgmma_wait
"""


def _public() -> dict[str, Primitive]:
    """The primitives that JAX shows under a public name."""
    modules: tuple[ModuleType, ...] = (jax.extend.core.primitives, lax)
    found = [v for m in modules for v in vars(m).values() if isinstance(v, Primitive)]
    return {p.name: p for p in found}


def _by_object() -> tuple[dict[Primitive, Facts], dict[str, Facts]]:
    """The table by primitive, and by name for those that JAX shows under no public name."""
    public = _public()
    objects, names = {}, {}
    for listed, facts in (*_CLASSES, (_KERNELS, _OPAQUE)):
        for name in listed.split():
            if name in public:
                objects[public[name]] = facts
            else:
                names[name] = facts
    return objects, names


_OBJECTS, _NAMES = _by_object()
_UNKNOWN = Facts(opaque=True)
_OF_OTHERS: _cache.Registry[Primitive, Facts] = _cache.Registry()


def classify(primitive: Primitive, known: Facts) -> None:
    """Says what is true of another library's primitive, at every parameter and operand.

    Raises:
        ValueError: the table has the primitive.
    """
    if primitive in _OBJECTS or primitive.name in _NAMES:
        raise ValueError(f"{primitive.name!r} stands in `_CLASSES`: take another name, or edit it.")
    _OF_OTHERS[primitive] = known


def is_classified(primitive: Primitive) -> bool:
    """Whether something is known about a primitive, or said not to be."""
    return facts_of(primitive) is not _UNKNOWN


def facts_of(primitive: Primitive) -> Facts:
    """What is known about a primitive; nothing about one that JAX or a library has added."""
    known = _OBJECTS.get(primitive) or _OF_OTHERS.get(primitive)
    return known or _NAMES.get(primitive.name, _UNKNOWN)


def _converted(eqn: JaxprEqn, known: Facts) -> Facts:
    """Conversions to whole numbers round, and those to real numbers drop a part."""
    before, after = dtype(eqn.invars[0]), eqn.params["new_dtype"]
    if jnp.issubdtype(before, jnp.complexfloating) > jnp.issubdtype(after, jnp.complexfloating):
        return replace(known, moves=False, converts=False)
    if jnp.issubdtype(before, jnp.inexact) > jnp.issubdtype(after, jnp.inexact):
        rounded = replace(known, moves=False, linear=NONE, curvature="stepped", decides=True)
        # A number is true unless it is 0.
        return replace(rounded, converts=after != jnp.bool_, rises=after != jnp.bool_)
    return known


def _scattered(eqn: JaxprEqn, known: Facts) -> Facts:
    """`x.at[i].apply(f)` hides f in a scatter."""
    return _UNKNOWN if eqn.params.get("update_jaxpr") is not None else known


def _gathered(eqn: JaxprEqn, known: Facts) -> Facts:
    """Where indices outside the array give a filling."""
    fills = eqn.params["mode"] == lax.GatherScatterMode.FILL_OR_DROP
    return replace(known, mixes=True) if fills else known


def _power(eqn: JaxprEqn, known: Facts) -> Facts:
    y = eqn.params["y"]
    if y == 1:
        return _SAME
    return replace(known, rises=y > 0 and y % 2 == 1)


def _solved(eqn: JaxprEqn, known: Facts) -> Facts:
    """The solution of A x = b is linear in b, which comes after what the functions close over."""
    return Facts(linear=Operands(sum(eqn.params["const_lengths"])))


_BY_PARAMETERS: dict[str, Callable[[JaxprEqn, Facts], Facts]] = {
    "convert_element_type": _converted,
    "scatter": _scattered,
    "gather": _gathered,
    "integer_pow": _power,
    "custom_linear_solve": _solved,
}


def facts(eqn: JaxprEqn) -> Facts:
    """What is known about the primitive of an equation, with its parameters."""
    known = facts_of(eqn.primitive)
    if known is _UNKNOWN or (by_parameters := _BY_PARAMETERS.get(eqn.primitive.name)) is None:
        return known
    return by_parameters(eqn, known)
