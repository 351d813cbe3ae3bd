"""One epoch of many runs as one compiled program.

An epoch is a `lax.scan` over batches gathered from data on the device; validation, the learning
rate, early stopping and the copy of the best weights are in the same program. Runs (seeds, rates,
regularisers) are its leading axis: mapped by `vmap`, and split over a mesh of devices if there is
one. Nothing here touches files; `train/engine/runs.py` does.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Shaped, UInt8, UInt32

from cgjax import metrics
from train.engine import devices
from train.engine.recipes import Recipe
from train.engine.settings import Mode

# What has become of a run.
RUNNING, STOPPED, DIVERGED, CAPPED, SETTLED = range(5)
STATUS = (
    *("running", "stopped early", "diverged", "reached the last epoch"),
    "reached the smallest learning rate",
)

# Each run's key is split by these into streams that no two uses share.
_INIT, _SHUFFLE, _NOISE, TEST = range(4)
# Without it XLA copies the second layer's weights in every step, for fear that the update in place
# comes before the backward pass has read them: a twentieth of a step at batch 32.
_CPU_OPTIONS = {"xla_cpu_copy_insertion_use_region_analysis": True}
_EVALUATION_BATCH = 1000  # bounds the memory of a validation; the recipe does not depend on it


class Variables(NamedTuple):
    """What a network is a function of besides its input."""

    params: Any  # what is trained
    state: Any  # what changes otherwise: running statistics


# loss(variables, key, hyper, x, y) ->
#     (mean loss of the batch, (number of wrong predictions, state after it))
Loss = Callable[[Variables, Any, Any, Array, Array], tuple[Array, tuple[Array, Any]]]


class First(NamedTuple):
    """Another loss of the first epochs."""

    epochs: int
    loss: Loss


class Learner(NamedTuple):
    """What is trained, as pure functions of one run."""

    # init(key) -> variables
    init: Callable[[Any], Variables]
    loss: Loss
    # log_probs(variables, x): float[batch, classes], without noise; none where there are `figures`
    log_probs: Callable[[Variables, Array], Array] | None
    # At learning rate 1, since the loop multiplies by each run's own; none: the recipe's.
    optimiser: optax.GradientTransformation | None = None
    # project(params) -> params: brings parameters back into their bounds after every update
    project: Callable[[Any], Any] | None = None
    # figures(variables, hyper, x, y) -> (loss, error) of validation examples; none: by `log_probs`
    figures: Callable[[Variables, Any, Array, Array], tuple[Array, Array]] | None = None
    # Whether classes are predicted. Else `log_probs` are those of the inputs, float[batch], and the
    # errors that are told are 0.
    classifies: bool = True
    # What is minimised before; validation, optimiser and recipe know nothing of it.
    first: First | None = None

    def of_epoch(self, epoch: int) -> "Learner":
        """What is trained in an epoch, numbered from 0; equal for epochs of one loss, so that each
        loss is compiled once."""
        first = self.first
        if first is None:
            return self
        return self._replace(loss=first.loss if epoch < first.epochs else self.loss, first=None)


class Data(NamedTuple):
    """A data set on the device; see `train.data.Dataset`."""

    train_x: UInt8[Array, "train features"]
    train_y: Int[Array, " train"]
    validation_x: UInt8[Array, "validation features"]
    validation_y: Int[Array, " validation"]
    largest: Float[Array, ""]


class RunState(NamedTuple):
    """What the next epoch of a run needs, and the best it has seen. Arrays of all runs are stacked
    along a leading axis."""

    variables: Variables
    momentum: Any  # the optimiser's state
    best: Variables  # those of the best epoch, as the recipe counts
    kept: Any  # the optimiser's state then, where the recipe goes back to it
    key: UInt32[Array, "2"]  # `jax.random.key_data`
    progress: Any  # what the recipe remembers; its `learning_rate` is that of the next epoch
    epoch: Int[Array, ""]
    status: Int[Array, ""]


class Record(NamedTuple):
    """What is told of an epoch of a run. Training figures are means over the epoch's batches, with
    noise and changing weights; validation figures are those of its last weights."""

    train_loss: Float[Array, ""]
    train_error: Float[Array, ""]
    validation_loss: Float[Array, ""]
    validation_error: Float[Array, ""]
    learning_rate: Float[Array, ""]


def _optimiser(learner: Learner, recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    return optax.with_extra_args_support(learner.optimiser or recipe.optimiser())


def scaled(x: UInt8[Array, "*batch"], largest: Float[Array, ""]) -> Float[Array, "*batch"]:
    """Bytes as numbers in [0, 1]."""
    return x.astype(jnp.float32) / largest


def init_run(learner: Learner, recipe: Recipe, key: UInt32[Array, "2"]) -> RunState:
    """A run before its first epoch, by the data of its key."""
    variables = learner.init(jax.random.fold_in(jax.random.wrap_key_data(key), _INIT))
    momentum = _optimiser(learner, recipe).init(variables.params)
    return RunState(
        variables=variables,
        momentum=momentum,
        best=jax.tree.map(jnp.copy, variables),
        kept=jax.tree.map(jnp.copy, momentum) if recipe.goes_back else (),
        key=key,
        progress=recipe.begin(),
        epoch=jnp.int32(0),
        status=jnp.int32(RUNNING),
    )


def in_batches(
    function: Callable[[Array, Any], Array], x: Shaped[Array, "n features"]
) -> Float[Array, "n *rest"]:
    """`function(rows, number of the batch)`, row by row, of a thousand rows at a time, which bounds
    its memory."""
    whole = len(x) // _EVALUATION_BATCH
    boundary = whole * _EVALUATION_BATCH
    batches = x[:boundary].reshape(whole, _EVALUATION_BATCH, *x.shape[1:])
    parts = []
    if whole:
        values = jax.lax.map(lambda args: function(*args), (batches, jnp.arange(whole)))
        parts.append(values.reshape(boundary, *values.shape[2:]))
    if boundary < len(x):
        parts.append(function(x[boundary:], whole))
    return jnp.concatenate(parts)


def run_epoch(
    learner: Learner,
    recipe: Recipe,
    state: RunState,
    hyper: Any,
    data: Data,
    split: Callable[[Array], Array] = lambda x: x,
) -> tuple[RunState, Record]:
    """One epoch of one run.

    A step's batch and noise depend on nothing but the run's key and the number of the step.
    Examples left over after the last whole batch are skipped; as every epoch has its own
    permutation, they are others each time.

    The state after it, and what to tell of it; a run that is not running any more keeps its best
    weights and its status. Its loss depends on `hyper` besides (rates); `split` may split a batch
    of inputs over devices.
    """
    key = jax.random.wrap_key_data(state.key)
    shuffle = jax.random.fold_in(jax.random.fold_in(key, _SHUFFLE), state.epoch)
    noise = jax.random.fold_in(key, _NOISE)
    steps = recipe.steps(len(data.train_x))
    order = jax.random.permutation(shuffle, len(data.train_x))[: steps * recipe.batch_size]
    update = _optimiser(learner, recipe).update
    rate, extra = state.progress.learning_rate, recipe.extra_arguments(state.progress)

    def step(carry: Any, inputs: Any) -> Any:
        variables, momentum = carry
        rows, number = inputs
        x, y = split(scaled(data.train_x[rows], data.largest)), data.train_y[rows]

        def loss(params: Any) -> tuple[Array, Any]:
            variables_now = Variables(params, variables.state)
            return learner.loss(variables_now, jax.random.fold_in(noise, number), hyper, x, y)

        differentiate = jax.value_and_grad(loss, has_aux=True)
        (value, (wrong, after)), gradient = differentiate(variables.params)
        change, momentum = update(gradient, momentum, variables.params, **extra)
        params = optax.apply_updates(variables.params, jax.tree.map(lambda c: rate * c, change))
        if learner.project is not None:
            params = learner.project(params)
        return (Variables(params, after), momentum), (value, wrong)

    numbers = state.epoch * steps + jnp.arange(steps)
    (variables, momentum), (losses, wrong) = jax.lax.scan(
        step, (state.variables, state.momentum), (order.reshape(steps, recipe.batch_size), numbers)
    )
    loss, error = _validated(learner, variables, hyper, data, split)
    record = Record(
        train_loss=losses.mean(),
        train_error=wrong.sum() / (steps * recipe.batch_size),
        validation_loss=loss,
        validation_error=error,
        learning_rate=rate,
    )
    return _after(recipe, state, variables, momentum, record), record


def _validated(
    learner: Learner, variables: Variables, hyper: Any, data: Data, split: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Loss and error of the validation examples."""
    if learner.figures is not None:
        x = scaled(data.validation_x, data.largest)
        return learner.figures(variables, hyper, x, data.validation_y)
    log_probs = learner.log_probs
    assert log_probs is not None  # where there are no figures
    predicted = in_batches(
        lambda x, _: log_probs(variables, split(scaled(x, data.largest))), data.validation_x
    )
    if not learner.classifies:
        return -predicted.mean(), jnp.zeros(())
    return metrics.nll(predicted, data.validation_y), metrics.error(predicted, data.validation_y)


def _after(
    recipe: Recipe, old: RunState, variables: Variables, momentum: Any, record: Record
) -> RunState:
    """The state after an epoch that led to these variables and figures."""
    epoch = old.epoch + 1
    progress, verdict = recipe.advance(old.progress, record, epoch)
    finite = jnp.isfinite(record.train_loss) & jnp.isfinite(record.validation_loss)
    last = recipe.last_epoch
    capped = jnp.bool_(False) if last is None else epoch >= last
    status = jnp.select(
        [~finite, verdict.stops, verdict.settled, capped],
        [DIVERGED, STOPPED, SETTLED, CAPPED],
        RUNNING,
    )
    running = old.status == RUNNING

    def if_running(new: Array, kept: Array) -> Array:
        return jnp.where(running, new, kept)

    def if_better(new: Array, kept: Array) -> Array:
        return jnp.where(running & finite & verdict.improved, new, kept)

    best = jax.tree.map(if_better, variables, old.best)
    kept: Any = ()
    if recipe.goes_back:
        kept = jax.tree.map(if_better, momentum, old.kept)
        back, here = (best, kept), (variables, momentum)
        variables, momentum = jax.tree.map(
            lambda then, now: jnp.where(verdict.back, then, now), back, here
        )
    return old._replace(
        variables=variables,
        momentum=momentum,
        best=best,
        kept=kept,
        progress=jax.tree.map(if_running, progress, old.progress),
        epoch=if_running(epoch, old.epoch),
        status=if_running(status, old.status).astype(jnp.int32),
    )


@functools.lru_cache(maxsize=64)
def programs(
    learner: Learner, recipe: Recipe, mode: Mode, mesh: Mesh | None = None, width: int | None = None
) -> tuple[Callable[..., RunState], Callable[..., tuple[RunState, Record]]]:
    """The two compiled programs of an experiment.

    Args:
        learner, recipe: what is trained, and how; the loss is that of the learner, whatever it is
            first.
        mode: "vmap": runs side by side; "sequential": programs for one run, whose arrays still have
            a leading axis, of length 1.
        mesh: devices along an axis "runs", over which the runs are split evenly, and perhaps along
            another, "batch", over which every batch is; only with "vmap". A split batch changes
            nothing but the order of sums.
        width: how many runs a device maps at a time, a divisor of their number there; none: all.
            Sums of mapped runs may be rounded in another order for another width. For one width,
            the number of devices changes no bit of the dense networks; in others the compiler may
            round the last bit otherwise, as it does where a device has one run.

    Returns:
        `init(keys) -> states` and `epoch(states, hyper, data) -> (states, records)`. The second
        takes the buffers of the states over.
    """
    parts = devices.size(mesh, devices.BATCH)

    def split(x: Array) -> Array:
        # Statistics of batch normalisation, gradients and noise stay those of the whole batch: the
        # compiler puts in what devices have to tell each other.
        if parts == 1 or len(x) % parts:
            return x
        return jax.lax.with_sharding_constraint(x, PartitionSpec(devices.BATCH))

    alone = mode == "sequential"
    if alone and mesh is not None:
        raise ValueError("a mesh splits runs that are mapped: use the mode 'vmap' with it")
    begin = functools.partial(init_run, learner, recipe)

    def init(keys: Array) -> RunState:
        return _alone(begin, keys) if alone else jax.vmap(begin)(keys)

    def epoch(states: RunState, hyper: Any, data: Data) -> tuple[RunState, Record]:
        def one(run: tuple[RunState, Any]) -> tuple[RunState, Record]:
            return run_epoch(learner, recipe, *run, data, split)

        if alone:
            return _alone(one, (states, hyper))
        return jax.lax.map(one, (states, hyper), batch_size=width or len(states.key))

    shardings = None
    if mesh is not None:
        runs, everywhere = PartitionSpec(devices.RUNS), PartitionSpec()
        shardings = NamedSharding(mesh, runs)
        # Runs never talk to each other, so each device simply has its own.
        own = functools.partial(
            jax.shard_map, mesh=mesh, out_specs=runs, axis_names={devices.RUNS}, check_vma=False
        )
        init = own(init, in_specs=runs)
        epoch = own(epoch, in_specs=(runs, runs, everywhere))
    options = _CPU_OPTIONS if jax.default_backend() == "cpu" else None
    return jax.jit(init, out_shardings=shardings), jax.jit(
        epoch, donate_argnums=0, compiler_options=options, out_shardings=shardings
    )


def _alone(function: Callable[[Any], Any], runs: Any) -> Any:
    """The function of one run on arrays with a leading axis of length 1, without `vmap`, whose
    batched matrix products have other bits and another speed."""
    run = jax.tree.map(lambda a: a[0], runs)
    return jax.tree.map(lambda a: a[None], function(run))
