"""The compiled epoch: against a plain Python loop, and on what randomness depends."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cgjax import metrics
from tests.train import tiny
from train.engine import devices, loop, sweep
from train.engine.loop import Data
from train.engine.recipes import PlateauRecipe, SteppedRecipe
from train.models.resnet import ResNet
from train.resnet import experiment as resnet

FEATURES, CLASSES = 6, 3
RECIPE = PlateauRecipe(batch_size=4, learning_rate=0.1)


def init(key):
    return {"w": 0.1 * jax.random.normal(key, (FEATURES, CLASSES)), "b": jnp.zeros(CLASSES)}


def log_probs(params, x):
    return jax.nn.log_softmax(x @ params["w"] + params["b"][None])


def loss(params, key, hyper, x, y):
    """A linear classifier with noise of scale `hyper` on its inputs."""
    predicted = log_probs(params, x + hyper * jax.random.normal(key, x.shape))
    wrong = (predicted.argmax(-1) != y).sum(dtype=jnp.int32)
    return metrics.nll(predicted, y), wrong


LEARNER = tiny.stateless(init, loss, log_probs)


def data(n=18, validation=7):
    generator = np.random.default_rng(0)
    y = generator.integers(0, CLASSES, n + validation).astype(np.int32)
    x = generator.integers(0, 200, (n + validation, FEATURES)).astype(np.uint8)
    x[np.arange(len(y)), y] += 55  # something to learn
    parts = [jnp.asarray(a) for a in (x[:n], y[:n], x[n:], y[n:])]
    return Data(parts[0], parts[1], parts[2], parts[3], jnp.float32(255))


def key_data(seed):
    return jax.random.key_data(jax.random.key(seed))


def start(seeds=(0,)):
    keys = jnp.stack([key_data(seed) for seed in seeds])
    return loop.programs(LEARNER, RECIPE, "vmap", None)[0](keys)


def one(tree, row=0):
    return jax.tree.map(lambda leaf: leaf[row], tree)


def test_an_epoch_is_sgd_with_momentum_over_a_permutation():
    """Against the update of PyTorch's SGD, v = 0.9 v + g, w = w - rate v, in a Python loop."""
    state, given = one(start()), data()
    new, record = jax.jit(functools.partial(loop.run_epoch, LEARNER, RECIPE))(
        state, jnp.float32(0), given
    )
    order = jax.random.permutation(
        jax.random.fold_in(jax.random.fold_in(jax.random.key(0), loop._SHUFFLE), 0), 18
    )
    params = jax.tree.map(np.asarray, state.variables.params)
    velocity = jax.tree.map(np.zeros_like, params)
    differentiated = jax.jit(jax.value_and_grad(loss, has_aux=True))
    losses, wrong = [], 0
    for step in range(18 // 4):
        rows = order[4 * step : 4 * step + 4]
        x, y = given.train_x[rows].astype(np.float32) / 255, given.train_y[rows]
        (value, missed), gradient = differentiated(params, jax.random.key(0), 0.0, x, y)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
        params = jax.tree.map(lambda p, v: p - 0.1 * v, params, velocity)
        losses.append(value)
        wrong += int(missed)
    # Four steps of float32 in another order of rounding.
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5), new.variables.params, params
    )
    np.testing.assert_allclose(record.train_loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(record.train_error, wrong / 16, rtol=1e-6)
    predicted = log_probs(params, given.validation_x / np.float32(255))
    np.testing.assert_allclose(
        record.validation_loss, metrics.nll(predicted, given.validation_y), rtol=1e-5
    )
    assert record.learning_rate == np.float32(0.1)
    assert int(new.epoch) == 1 and int(new.status) == loop.RUNNING


def epochs(state, hyper, count, given=None, recipe=RECIPE, mode="vmap", mesh=None, width=None):
    step = loop.programs(LEARNER, recipe, mode, mesh, width)[1]
    records = []
    for _ in range(count):
        state, record = step(state, hyper, given or data())
        records.append(jax.device_get(record))
    return jax.device_get(state), records


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_batches_and_noise_depend_on_key_and_epoch_alone():
    hyper = jnp.full(2, 0.3)
    whole = epochs(start((0, 1)), hyper, 3)
    again = epochs(start((0, 1)), hyper, 3)
    assert_same(whole, again)
    halfway, _ = epochs(start((0, 1)), hyper, 1)
    continued = epochs(jax.tree.map(jnp.asarray, halfway), hyper, 2)
    assert_same(continued[0], whole[0])
    assert_same(continued[1], whole[1][1:])


class Seen(NamedTuple):
    """What a step was given, by its number."""

    count: Any
    rows: Any  # [steps, batch]
    keys: Any  # [steps, 2]


def watched(steps: int) -> loop.Learner:
    """A learner whose state remembers what the loop gave to it."""

    def init(key):
        seen = Seen(
            jnp.int32(0), jnp.zeros((steps, 4), jnp.int32), jnp.zeros((steps + 1, 2), jnp.uint32)
        )
        told = seen._replace(keys=seen.keys.at[-1].set(jax.random.key_data(key)))
        return loop.Variables({"w": jnp.zeros(())}, told)

    def loss(variables, key, hyper, x, y):
        seen = variables.state
        rows = jnp.round(x[:, 0] * 255).astype(jnp.int32)
        after = Seen(
            seen.count + 1,
            seen.rows.at[seen.count].set(rows),
            seen.keys.at[seen.count].set(jax.random.key_data(key)),
        )
        return variables.params["w"] ** 2, (jnp.int32(0), after)

    def log_probs(variables, x):
        return jax.nn.log_softmax(jnp.zeros((len(x), CLASSES)) + variables.params["w"])

    return loop.Learner(init, loss, log_probs)


def told_rows() -> Data:
    """Eighteen images that tell their number."""
    given = data()
    return given._replace(
        train_x=jnp.broadcast_to(jnp.arange(18, dtype=jnp.uint8)[:, None], (18, 6))
    )


def test_epochs_shuffle_anew_and_seeds_differ():
    learner = watched(3 * 4)  # three epochs of four batches
    begin, step = loop.programs(learner, RECIPE, "vmap")
    state = begin(jnp.stack([key_data(seed) for seed in (0, 1)]))
    for _ in range(3):
        state, _ = step(state, jnp.zeros(2), told_rows())
    seen: Any = jax.device_get(state.variables.state)
    assert seen.count.tolist() == [12, 12]
    orders = seen.rows.reshape(2 * 3, 16).tolist()
    for order in orders:
        assert len(set(order)) == 16 and set(order) <= set(range(18))
    assert len(set(map(tuple, orders))) == 6
    # What is left out differs too: six times the same two of 18 have a chance below 1e-10.
    assert len({frozenset(range(18)) - set(order) for order in orders}) > 1
    # Every step has noise of its own, and so has every run.
    assert len({key.tobytes() for key in seen.keys.reshape(-1, 2)}) == 2 * 13


def test_the_streams_of_a_run_are_disjoint(monkeypatch):
    """No key is used twice, and none of them is one that another splits into by a number."""
    permute, shuffles = jax.random.permutation, []

    def permutation(key, *rest):
        jax.debug.callback(lambda words: shuffles.append(words), jax.random.key_data(key))
        return permute(key, *rest)

    monkeypatch.setattr(loop.jax.random, "permutation", permutation)
    learner = watched(2 * 4)
    begin, epoch = (
        jax.jit(functools.partial(part, learner, RECIPE))
        for part in (loop.init_run, loop.run_epoch)
    )
    state = begin(key_data(7))
    for _ in range(2):
        state, _ = epoch(state, jnp.float32(0), told_rows())
    jax.effects_barrier()
    test = jax.random.key_data(jax.random.fold_in(jax.random.key(7), loop.TEST))
    used = [*state.variables.state.keys, *shuffles, test, key_data(7)]
    assert len(shuffles) == 2 and len(used) == 13
    keys = {np.asarray(key).tobytes() for key in used}
    assert len(keys) == 13
    for key in used[:-1]:
        parts = jax.vmap(jax.random.fold_in, (None, 0))(
            jax.random.wrap_key_data(key), jnp.arange(10)
        )
        assert not keys & {part.tobytes() for part in np.asarray(jax.random.key_data(parts))}


def test_runs_do_not_touch_each_other():
    """A run among others gives what it gives alone, in each mode, and one with NaN harms none."""
    hyper = jnp.array([0.0, 0.2, jnp.nan])
    together, _ = epochs(start((0, 1, 2)), hyper, 3)
    assert together.status.tolist() == [loop.RUNNING, loop.RUNNING, loop.DIVERGED]
    for row in (0, 1):
        alone, _ = epochs(start((row,)), hyper[row : row + 1], 3, mode="sequential")
        # Another program: matrix products of one run and of three are rounded differently.
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
            one(together.variables, row),
            one(alone.variables),
        )


def test_a_diverged_run_keeps_its_best_weights():
    after_one, _ = epochs(start((0,)), jnp.zeros(1), 1)
    state = jax.tree.map(jnp.asarray, after_one)
    diverged, records = epochs(state, jnp.full(1, jnp.nan), 2)
    assert np.isnan(records[0].train_loss[0])
    assert int(diverged.status[0]) == loop.DIVERGED
    assert int(diverged.epoch[0]) == 2  # the second epoch diverged; the third is not counted
    assert_same(diverged.best, after_one.best)
    assert_same(after_one.best, after_one.variables)


def test_best_weights_are_those_of_the_lowest_validation_loss():
    recipe = PlateauRecipe(batch_size=4, learning_rate=3.0, stop_patience=3)
    step = loop.programs(LEARNER, recipe, "vmap", None)[1]
    state = loop.programs(LEARNER, recipe, "vmap", None)[0](jnp.stack([key_data(3)]))
    losses, params = [], []
    while int(state.status[0]) == loop.RUNNING:
        state, record = step(state, jnp.zeros(1), data())
        losses.append(float(record.validation_loss[0]))
        params.append(jax.device_get(state.variables))
    best = int(np.argmin(losses))
    assert int(state.status[0]) == loop.STOPPED
    assert len(losses) == best + 1 + 4  # the fourth strike in a row
    assert best > 0  # else the test says little
    assert_same(jax.device_get(state.best), params[best])


def test_a_run_ends_at_the_last_epoch():
    recipe = PlateauRecipe(batch_size=4, epochs=2)
    state, _ = epochs(start(), jnp.zeros(1), 2, recipe=recipe)
    assert int(state.status[0]) == loop.CAPPED and int(state.epoch[0]) == 2


@pytest.mark.parametrize("number", [2, 4])
def test_splitting_runs_over_devices_changes_no_bit(number):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:number]), ("runs",))
    runs = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("runs"))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    keys = jax.device_put(jnp.stack([key_data(seed) for seed in range(8)]), runs)
    hyper = jnp.linspace(0, 0.7, 8)
    split_start = loop.programs(LEARNER, RECIPE, "vmap", mesh, 2)[0](keys)
    assert len(split_start.variables.params["w"].sharding.device_set) == number
    split = epochs(
        split_start,
        jax.device_put(hyper, runs),
        3,
        jax.device_put(data(), everywhere),
        mesh=mesh,
        width=2,
    )
    assert_same(split, epochs(start(range(8)), hyper, 3, width=2))


@pytest.mark.parametrize("runs", [1, 2])
def test_splitting_batches_over_devices_changes_nothing_but_roundings(runs):
    mesh = devices.mesh(runs, 2)
    assert mesh is not None and mesh.size == 2 * runs
    hyper, keys = jnp.linspace(0, 0.7, 4), jnp.stack([key_data(seed) for seed in range(4)])
    programs: Any = loop.programs(LEARNER, RECIPE, "vmap", mesh, 2)
    begin, step = programs
    split = begin(devices.placed(keys, mesh, "runs"))
    placed = devices.placed(hyper, mesh, "runs"), devices.placed(data(), mesh)
    # Gradients are sums over devices.
    compiled = step.lower(split, *placed).compile()
    assert "all-reduce" in compiled.as_text()
    record = None
    for _ in range(3):
        split, record = compiled(split, *placed)
    whole, records = epochs(start(range(4)), hyper, 3, width=2)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, jax.device_get((split, record)), jax.device_get((whole, records[-1])))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"learning_rate": -0.1},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"plateau_factor": 0.0},
        {"plateau_patience": -1},
        {"plateau_threshold": 1.0},
        {"stop_patience": -1},
        {"epochs": 0},
    ],
)
def test_a_recipe_without_sense_is_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}; expected"):
        PlateauRecipe(**wrong)


def test_splitting_runs_of_a_residual_network_changes_nothing_but_roundings():
    net = sweep.network(lambda rngs: ResNet(blocks=1, widths=(2,), rngs=rngs))
    learner = sweep.learner(net, resnet.standardised, None, augment=resnet.augmented)
    recipe = SteppedRecipe(batch_size=4, length=2)
    images = np.random.default_rng(0).integers(0, 256, (12, 3072)).astype(np.uint8)
    labels = np.arange(12) % 10
    parts: Any = images[:8], labels[:8], images[8:], labels[8:], np.float32(255)
    given = Data(*parts)
    hyper = sweep.Rates(np.array([0.0, 0.1], np.float32), np.array([0.5, 0.0], np.float32))
    keys = np.stack([key_data(seed) for seed in range(2)])
    results = []
    for mesh in (None, devices.mesh(2)):
        begin, step = loop.programs(learner, recipe, "vmap", mesh, 1)
        state, record = begin(devices.placed(keys, mesh, "runs")), None
        for _ in range(2):
            placed = devices.placed(hyper, mesh, "runs"), devices.placed(given, mesh)
            state, record = step(state, *placed)
        split = jax.tree.leaves(state.variables.params)[0].sharding.device_set
        assert len(split) == (1 if mesh is None else 2)
        results.append(jax.device_get((state, record)))
    # Four updates at rate 0.1, of which each may turn a rounding into another.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, *results)
    losses = results[0][1].train_loss
    assert abs(losses[0] - losses[1]) > 0.01  # other runs are other


def test_a_mesh_needs_mapped_runs():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("runs",))
    with pytest.raises(ValueError, match="vmap"):
        loop.programs(LEARNER, RECIPE, "sequential", mesh)


def test_an_epoch_is_traced_once():
    traces = []

    def counted(*arguments):
        traces.append(1)
        return loss(*arguments)

    learner = tiny.stateless(init, counted, log_probs)
    for _ in range(2):
        begin, step = loop.programs(learner, RECIPE, "vmap")
        state = begin(jnp.stack([key_data(5)]))
        for _ in range(2):
            state, _ = step(state, jnp.zeros(1), data())
    # Once for value and gradient; the scan may look at its body a second time.
    assert len(traces) <= 2


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 2500])
def test_batches_of_an_evaluation_lose_no_row(n):
    x = jnp.arange(2 * n, dtype=jnp.float32).reshape(n, 2)
    found = loop.in_batches(lambda rows, _: rows.sum(-1), x)
    np.testing.assert_array_equal(found, x.sum(-1))
    numbers = loop.in_batches(lambda rows, number: jnp.broadcast_to(number, (len(rows),)), x)
    np.testing.assert_array_equal(numbers, np.arange(n) // 1000)


def test_a_learner_may_bring_its_own_optimiser():
    """Adam's first step moves every parameter by the learning rate, whatever its gradient."""
    learner = LEARNER._replace(optimiser=optax.adam(1.0))
    recipe = PlateauRecipe(batch_size=18, learning_rate=0.1)
    state = loop.init_run(learner, recipe, key_data(0))
    new, _ = loop.run_epoch(learner, recipe, state, jnp.float32(0), data())
    for name, before in state.variables.params.items():
        # Adam adds 1e-8 to the root of the squared gradient.
        np.testing.assert_allclose(jnp.abs(new.variables.params[name] - before), 0.1, rtol=1e-3)
