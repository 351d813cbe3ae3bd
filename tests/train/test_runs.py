"""Training to the end: compaction, divergence, checkpoints and continuing to the same bits."""

import dataclasses
import functools
import itertools
import os
import signal
from typing import Any

import jax
import numpy as np
import pytest

from tests.train import tiny
from train.engine import groups, loop
from train.engine.checkpoint import CheckpointError, Checkpoints
from train.engine.groups import Layout
from train.engine.progress import Display
from train.engine.recipes import PlateauRecipe
from train.engine.runs import Keeping, train
from train.engine.settings import Mode
from train.report import commandline, machine


class Recorder(Display):
    """A display that remembers, and can fail in place of a killed process, or be told to end."""

    def __init__(self, fail_at=None, signals=(), signal_at=None):
        self.messages, self.updates, self.fail_at = [], [], fail_at
        self.signals, self.signal_at = signals, signal_at

    def message(self, text):
        self.messages.append(text)

    def update(self, progress):
        self.updates.append(progress._asdict())
        if progress.epoch == self.fail_at:
            raise KeyboardInterrupt
        if progress.epoch == self.signal_at:
            for number in self.signals:
                os.kill(os.getpid(), number)


def run(hyper=(0.0, 0.1, 0.4), mode: Mode = "vmap", recipe=tiny.RECIPE, **options):
    if mode == "sequential":
        made = [tiny.group(hyper)]
        groups = [
            made[0]._replace(
                name=name,
                runs=(name,),
                keys=made[0].keys[i : i + 1],
                hyper=made[0].hyper[i : i + 1],
            )
            for i, name in enumerate(made[0].runs)
        ]
    else:
        groups = [tiny.group(hyper)]
    layout = Layout(mode, options.pop("mesh", None), options.pop("width", None))
    kept = {name: options.pop(name) for name in Keeping._fields if name in options}
    return train(groups, tiny.dataset(), recipe, layout, Keeping(**kept), **options)


def test_all_runs_come_to_an_end():
    display = Recorder()
    finished = run(display=display)
    assert [f.name for f in finished] == ["linear 0", "linear 1", "linear 2"]
    for f in finished:
        assert f.history.shape == (f.epochs, 5) and np.isfinite(f.history).all()
        losses = f.history[:, 2]
        assert f.best_epoch == 1 + int(np.argmin(losses)) > 1
        if f.status == "stopped early":
            assert f.epochs == f.best_epoch + tiny.RECIPE.stop_patience + 1
        else:
            assert (f.status, f.epochs) == ("reached the last epoch", 40)
        # The weights are those of that epoch.
        data = tiny.dataset()
        x = data.validation_x / np.float32(data.largest)
        predicted = tiny.log_probs(f.best.params, x)
        found = -predicted[np.arange(len(x)), data.validation_y].mean()
        np.testing.assert_allclose(found, losses.min(), rtol=1e-5)
    last = display.updates[-1]
    assert last["finished"] == 3 and last["rate"] > 0


def test_the_modes_agree_to_rounding():
    for a, b in zip(run(recipe=SHORT), run(recipe=SHORT, mode="sequential"), strict=True):
        assert a.name == b.name
        # Four epochs of six float32 steps, rounded in another order.
        np.testing.assert_allclose(a.history, b.history, rtol=1e-3, atol=1e-5)


SHORT = PlateauRecipe(batch_size=8, learning_rate=0.3, epochs=4)


def test_stopped_runs_are_left_out_and_change_nothing(monkeypatch):
    """Runs that stop at very different times, with and without compaction."""
    recipe = PlateauRecipe(batch_size=8, learning_rate=0.3, stop_patience=2, epochs=30)
    hyper = (3.0, 0.0, 4.0, 5.0)
    slots = []
    original = groups.Active.compact

    def watched(self):
        original(self)
        slots.append(len(self.slots))

    monkeypatch.setattr(groups.Active, "compact", watched)
    compacted = run(hyper, recipe=recipe, width=1)
    assert slots[0] == 4 and 0 < min(s for s in slots if s) <= 2 and slots[-1] == 0
    monkeypatch.setattr(groups.Active, "compact", lambda self: None)
    # One run at a time in both programs, so that every bit can be compared.
    assert tiny.flat(compacted) == tiny.flat(run(hyper, recipe=recipe, width=1))
    assert len({f.epochs for f in compacted}) > 1


def test_a_run_that_diverges_is_named_and_the_others_go_on():
    display = Recorder()
    # One run at a time: which runs share a program's vector lanes depends on who has stopped.
    diverging = run((0.0, np.nan, 0.4), width=1, display=display)
    assert [f.status for f in diverging][1] == "diverged"
    assert diverging[1].epochs == 1 and diverging[1].best_epoch == 0
    assert any("linear 1: stopped at epoch 1" in m and "finite" in m for m in display.messages)
    healthy = run(width=1)
    for i in (0, 2):
        assert tiny.flat([diverging[i]]) == tiny.flat([healthy[i]])


def test_splitting_over_devices_changes_nothing():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("runs",))
    hyper = (0.0, 0.1, 0.2, 0.3, 0.4)  # five runs: slots are padded to eight
    recipe = PlateauRecipe(batch_size=8, learning_rate=0.3, stop_patience=3, epochs=12)
    split = run(hyper, recipe=recipe, mesh=mesh, width=1)
    assert tiny.flat(split) == tiny.flat(run(hyper, recipe=recipe, width=1))


@pytest.mark.parametrize("mode", ["vmap", "sequential"])
def test_first_epochs_by_another_loss(tmp_path, mode, monkeypatch):
    """Without interruption and with one in either part: the epochs of that loss are those of a
    training by it alone, and validation is the same function in both parts."""
    own = tiny.LEARNER.loss

    def other(variables, *rest):
        value, told = own(variables, *rest)
        return 0.1 * value, told

    first = tiny.LEARNER._replace(loss=other)
    both = tiny.LEARNER._replace(first=loop.First(2, other))
    assert len({both.of_epoch(epoch) for epoch in range(4)}) == 2  # each is compiled once
    monkeypatch.setattr(tiny, "LEARNER", first)
    alone = run(recipe=SHORT, mode=mode)
    monkeypatch.setattr(tiny, "LEARNER", both)
    display = Recorder()
    expected = run(recipe=SHORT, mode=mode, display=display)
    assert [told["exact"] for told in display.updates] == [
        epoch > 2 for epoch in range(1, 5) for _ in range(1 if mode == "vmap" else 3)
    ]
    for a, b in zip(alone, expected, strict=True):
        np.testing.assert_array_equal(a.history[:2], b.history[:2])
        assert (b.history[2:, 0] > 5 * a.history[2:, 0]).all()
        assert (b.history[2:, 2] < 2 * a.history[2:, 2]).all()
    for epoch in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            options = {"folder": tmp_path / "c", "save_seconds": 0}
            run(recipe=SHORT, mode=mode, display=Recorder(fail_at=epoch), **options)
    continued = run(recipe=SHORT, mode=mode, folder=tmp_path / "c")
    assert tiny.flat(continued) == tiny.flat(expected)


@pytest.mark.parametrize("mode", ["vmap", "sequential"])
def test_continuing_gives_the_same_bits(tmp_path, mode):
    expected = tiny.flat(run(mode=mode))
    for epoch in (1, 9, 17):
        display = Recorder(fail_at=epoch)
        with pytest.raises(KeyboardInterrupt):
            run(mode=mode, folder=tmp_path / "c", save_seconds=0, display=display)
        assert epoch == 1 or "continuing after epoch" in display.messages[0]
    display = Recorder()
    assert tiny.flat(run(mode=mode, folder=tmp_path / "c", display=display)) == expected
    assert display.updates[0]["epoch"] == 17
    # Once more: nothing is left to train, and the result is the same.
    display = Recorder()
    assert tiny.flat(run(mode=mode, folder=tmp_path / "c", display=display)) == expected
    assert display.updates == []


def test_at_the_deadline_it_saves_and_comes_back(tmp_path):
    """By a clock that ticks once an epoch, at least."""
    expected = tiny.flat(run(recipe=SHORT))
    time = itertools.count()
    clock = functools.partial(next, time)
    options: Any = {"folder": tmp_path / "c"}
    display = Recorder()
    ended = run(recipe=SHORT, clock=clock, deadline=0.0, display=display, **options)
    assert {(f.status, f.epochs) for f in ended} == {("running", 1)}
    saved = Checkpoints(tmp_path / "c").latest()
    assert saved is not None and saved.step == 1
    ended = run(recipe=SHORT, clock=clock, deadline=next(time) + 5.0, **options)
    assert {f.status for f in ended} == {"running"} and {f.epochs for f in ended} < {2, 3}
    assert tiny.flat(run(recipe=SHORT, deadline=np.inf, **options)) == expected


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("signals", "saved"),
    [([signal.SIGINT], 3), ([signal.SIGTERM], 3), ([signal.SIGTERM, signal.SIGINT], 0)],
)
def test_a_signal_waits_until_all_is_saved_but_not_the_second(tmp_path, signals, saved):
    """Nothing is saved between the beginning and the third epoch, in which it comes."""
    folder, display = tmp_path / "c", Recorder(signals=signals, signal_at=3)
    before = signal.getsignal(signal.SIGINT)
    with commandline.interrupted_by_sigterm(), pytest.raises(KeyboardInterrupt):
        run(recipe=SHORT, folder=folder, display=display)
    assert signal.getsignal(signal.SIGINT) is before
    found = Checkpoints(folder).latest()
    assert found is not None and found.step == saved
    assert ("saved after epoch 3" in display.messages) == bool(saved)
    assert tiny.flat(run(recipe=SHORT, folder=folder)) == tiny.flat(run(recipe=SHORT))


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("folder", ["c", None])
def test_a_signal_ends_at_once_where_nothing_is_lost(tmp_path, folder):
    display = Recorder(signals=[signal.SIGINT], signal_at=1)
    with pytest.raises(KeyboardInterrupt):
        run(recipe=SHORT, folder=folder and tmp_path / folder, display=display)
    assert display.messages == [] and len(display.updates) == 1


def test_another_folder_is_continued_which_is_only_read(tmp_path):
    expected = tiny.flat(run(recipe=SHORT))
    there, here = tmp_path / "there", tmp_path / "here"
    with pytest.raises(KeyboardInterrupt):
        run(recipe=SHORT, folder=there, save_seconds=0, display=Recorder(fail_at=3))
    for path in there.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.read_bytes() for path in there.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match="nowhere: no checkpoint there"):
        run(recipe=SHORT, folder=here, earlier=tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="other settings"):
        run(recipe=SHORT, folder=here, earlier=there, settings={"rate": 1})
    display = Recorder()
    assert tiny.flat(run(recipe=SHORT, folder=here, earlier=there, display=display)) == expected
    assert display.messages[0] == f"continuing after epoch 2 of {there}"
    # Once more, with an older checkpoint at hand: nothing is left to do.
    display = Recorder()
    assert tiny.flat(run(recipe=SHORT, folder=here, earlier=there, display=display)) == expected
    assert display.messages == [f"continuing after epoch 4 of {here}"] and not display.updates
    assert {path: path.read_bytes() for path in there.rglob("*") if path.is_file()} == before


def test_a_run_whose_rate_is_too_small_to_matter_ends():
    """Plateaus at a rate that cannot fall any more, while each epoch's loss is lower."""
    recipe = PlateauRecipe(
        batch_size=8, learning_rate=1e-9, plateau_patience=2, stop_patience=90, epochs=60
    )
    display = Recorder()
    (ended,) = run((0.0,), recipe=recipe, display=display)
    assert (ended.status, ended.epochs) == ("reached the smallest learning rate", 4)
    assert (
        "linear 0: ended after epoch 4, as the validation loss has stopped" in display.messages[0]
    )
    constant = dataclasses.replace(recipe, plateau_factor=1.0, epochs=9)
    (going,) = run((0.0,), recipe=constant)
    assert (going.status, going.epochs) == ("reached the last epoch", 9)


def ticking():
    """A clock that is a second later at each look."""
    seconds = itertools.count()
    return lambda: float(next(seconds))


def test_images_per_second_are_of_the_images_trained_on():
    """Of 48 images an epoch in batches of 10 trains on 40."""
    recipe, display = PlateauRecipe(batch_size=10, epochs=2), Recorder()
    finished = run(recipe=recipe, display=display, clock=ticking())
    # The display is told a second after an epoch's beginning, the log a second later.
    assert [update["rate"] for update in display.updates] == [3 * 40, 3 * 40]
    assert finished[0].log.rates == (3 * 20, 3 * 20)


def test_the_log_is_of_all_starts(tmp_path, monkeypatch):
    def session(commit, epochs, fail_at=None):
        monkeypatch.setattr(machine, "commit", lambda: commit)
        recipe, display = dataclasses.replace(SHORT, epochs=epochs), Recorder(fail_at)
        options = {"folder": tmp_path / "c", "save_seconds": 0, "clock": ticking()}
        try:
            return run(recipe=recipe, display=display, **options)[0].log, display.messages
        except KeyboardInterrupt:
            return None

    assert session("first", 9, fail_at=3) is None
    told = session("second", 4)
    assert told is not None
    log, messages = told
    # A look before the first save and one after it, then two in an epoch and two about its save.
    seconds = 2 + 2 + 3 + 2
    assert log.seconds == 2 * seconds and len(log.rates) == 4
    assert log.commits == ("first", "second")
    assert "the code has changed: first there, second now" in messages
    # Nothing is left to train.
    again = session("third", 4)
    assert again is not None and again[0] == log
    assert not any("changed" in message for message in again[1])
    more = session("second", 5)
    assert more is not None and more[0].commits == ("first", "second")


def test_other_settings_are_refused(tmp_path):
    run(recipe=SHORT, folder=tmp_path / "c", settings={"rate": 0.1, "kept": 1})
    with pytest.raises(CheckpointError, match="made with other settings. rate: 0.1 there, 0.2 now"):
        run(recipe=SHORT, folder=tmp_path / "c", settings={"rate": 0.2, "kept": 1})


@pytest.mark.parametrize("mode", ["vmap", "sequential"])
def test_the_last_epoch_may_be_moved(tmp_path, mode):
    def until(epochs, **options):
        recipe = dataclasses.replace(tiny.RECIPE, epochs=epochs)
        settings = {"recipe": {"epochs": epochs}}
        return run(mode=mode, width=1, recipe=recipe, settings=settings, **options)

    folder = tmp_path / "c"
    assert {f.status for f in until(3, folder=folder)} == {loop.STATUS[loop.CAPPED]}
    assert tiny.flat(until(7, folder=folder)) == tiny.flat(until(7))
    assert tiny.flat(until(None, folder=folder)) == tiny.flat(until(None))  # early stopping
    # Back before an epoch that was trained already: a run that was going on ends where it is.
    display = Recorder(fail_at=9)
    with pytest.raises(KeyboardInterrupt):
        until(None, folder=tmp_path / "d", save_seconds=0, display=display)
    ended = until(2, folder=tmp_path / "d")
    assert {(f.status, f.epochs) for f in ended} == {(loop.STATUS[loop.CAPPED], 8)}


@pytest.mark.parametrize("fact, value", [("threads", 99), ("jax", "0.0.1"), ("mode", "other")])
def test_another_machine_is_refused(tmp_path, monkeypatch, fact, value):
    run(recipe=SHORT, folder=tmp_path / "c")
    identity = machine.identity
    monkeypatch.setattr(machine, "identity", lambda *a: identity(*a) | {fact: value})
    with pytest.raises(
        CheckpointError,
        match=f"by another machine or in another way. {fact}: .* there, {value!r} now",
    ):
        run(recipe=SHORT, folder=tmp_path / "c")


def test_other_runs_are_refused(tmp_path):
    run(recipe=SHORT, folder=tmp_path / "c")
    with pytest.raises(CheckpointError, match="does not fit"):
        run((0.0, 0.1), recipe=SHORT, folder=tmp_path / "c")


def test_a_folder_that_cannot_be_written_is_known_at_once(tmp_path):
    (tmp_path / "taken").write_text("")
    display = Recorder()
    with pytest.raises(CheckpointError, match="taken"):
        run(folder=tmp_path / "taken", display=display)
    assert display.updates == []


def test_continuing_in_a_folder_that_cannot_be_written_is_known_at_once(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(folder=tmp_path / "c", save_seconds=0, display=Recorder(fail_at=2))
    # Root may write anywhere, so the answer of the operating system is made up.
    monkeypatch.setattr("os.access", lambda path, how: False)
    display = Recorder()
    with pytest.raises(CheckpointError, match="cannot be written"):
        run(folder=tmp_path / "c", display=display)
    assert display.updates == []


def test_too_few_images_for_a_batch():
    with pytest.raises(ValueError, match="48 training images are less than one batch of 64"):
        run(recipe=PlateauRecipe(batch_size=64))
