"""A group of runs that one program computes, on the device and on the host."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from train.engine import devices
from train.engine.loop import CAPPED, RUNNING, Data, Learner, init_run, programs
from train.engine.recipes import Recipe
from train.engine.settings import Mode
from train.report import machine


class Group(NamedTuple):
    """Runs that one program computes."""

    name: str
    learner: Learner
    runs: tuple[str, ...]  # a name for each
    keys: np.ndarray  # uint32[runs, 2], the data of each run's key
    hyper: Any  # arrays [runs, ...]: what their losses depend on besides


class Layout(NamedTuple):
    """How the runs of a group are computed; see `train.engine.loop.programs`."""

    mode: Mode
    mesh: Mesh | None = None  # devices along the axes "runs" and perhaps "batch"; none: the default
    width: int | None = None  # how many runs a device maps at a time; none: all

    @property
    def identity(self) -> dict[str, Any]:
        """What the bits of results depend on; see `train.report.machine`."""
        runs, batch = (devices.size(self.mesh, axis) for axis in (devices.RUNS, devices.BATCH))
        return machine.identity(self.mode, runs, self.width, batch)


class Active:
    """A group in the making: the states on the device of the runs that have a slot in its program,
    and the latest known states of all its runs on the host."""

    def __init__(self, group: Group, recipe: Recipe, layout: Layout, data: Data):
        mode, mesh, width = layout
        self.group, self.mesh, self.data, self._last = group, mesh, data, recipe.last_epoch

        def programs_of(epoch: int) -> tuple[Any, Any]:
            return programs(group.learner.of_epoch(epoch), recipe, mode, mesh, width)

        self._programs = programs_of
        # The number of slots is a multiple of this.
        self._unit = (width or 1) * devices.size(mesh, devices.RUNS)
        init = jax.vmap(functools.partial(init_run, group.learner, recipe))
        self._abstract = jax.eval_shape(init, group.keys)
        # A RunState of NumPy arrays.
        self.stored: Any = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), self._abstract)
        self.slots = self._padded(np.arange(len(group.runs)))
        self.state: Any = None
        self.hyper: Any = None

    def begin(self) -> None:
        """Initial states."""
        init, _ = self._programs(0)
        self.state = init(self._placed(self.group.keys))
        self.hyper = self._placed(self.group.hyper)

    def restore(self, arrays: dict[str, np.ndarray], slots: Sequence[int]) -> None:
        """States from a checkpoint."""
        paths, structure = jax.tree_util.tree_flatten_with_path(self._abstract)
        leaves = [arrays[self._path(path)] for path, _ in paths]
        for (path, expected), leaf in zip(paths, leaves, strict=True):
            if leaf.shape != expected.shape or leaf.dtype != expected.dtype:
                raise ValueError(f"{self._path(path)} has shape {leaf.shape} and type {leaf.dtype}")
        self.stored = jax.tree.unflatten(structure, [np.array(leaf) for leaf in leaves])
        self.slots = np.asarray(slots, int)
        self._end_or_revive()
        self._load()

    def _end_or_revive(self) -> None:
        """The last epoch may be another than it was when the checkpoint was made."""
        status, last = self.stored.status, self._last
        over = self.stored.epoch >= (np.inf if last is None else last)
        now = np.where((status == RUNNING) & over, CAPPED, status)
        now = np.where((status == CAPPED) & ~over, RUNNING, now)
        if (now != status).any():
            self.stored = self.stored._replace(status=now.astype(status.dtype))
            self.slots = self._padded(self.running)

    def arrays(self) -> dict[str, np.ndarray]:
        """All states, by name, for a checkpoint."""
        self.fetch()
        leaves, _ = jax.tree_util.tree_flatten_with_path(self.stored)
        return {self._path(path): leaf for path, leaf in leaves}

    def _path(self, path: Any) -> str:
        return f"{self.group.name}{jax.tree_util.keystr(path)}"

    @property
    def running(self) -> np.ndarray:
        """The numbers of the runs that are still running."""
        return np.flatnonzero(np.asarray(self.stored.status) == RUNNING)

    def epoch(self) -> tuple[np.ndarray, np.ndarray]:
        """One epoch; the runs it concerned, and their figures `[runs, figures]`."""
        before = self.running
        # Runs that have not ended have had as many epochs as one another.
        _, epoch = self._programs(int(self.stored.epoch[before[0]]))
        self.state, record = epoch(self.state, self.hyper, self.data)
        fetch = record, self.state.status, self.state.progress, self.state.epoch
        told, *latest = devices.fetched(fetch, self.mesh)
        self._write([self.stored.status, self.stored.progress, self.stored.epoch], latest)
        figures = np.zeros((len(self.group.runs), len(told)), np.float32)
        self._write(figures, np.stack(told, axis=-1))
        return before, figures[before]

    def compact(self) -> None:
        """Leaves stopped runs out of the program, once at least half of its slots are idle: every
        number of slots is a program of its own, which takes longer to compile than to share."""
        slots = self._padded(self.running)
        if 2 * len(slots) <= len(self.slots):
            self.fetch()
            self.slots = slots
            self._load()

    def fetch(self) -> None:
        """Brings the states on the device to the host."""
        if self.state is not None:
            self._write(self.stored, devices.fetched(self.state, self.mesh))

    def _load(self) -> None:
        if len(self.slots) == 0:
            self.state = self.hyper = None
            return
        self.state, self.hyper = (self._placed(tree) for tree in (self.stored, self.group.hyper))

    def _padded(self, runs: np.ndarray) -> np.ndarray:
        """As many slots as devices and widths share evenly. A run with two is computed twice."""
        return np.resize(runs, -(-len(runs) // self._unit) * self._unit)

    def _placed(self, tree: Any) -> Any:
        """The rows of the runs that have a slot, on the devices."""
        rows = jax.tree.map(lambda a: a[self.slots], tree)
        return devices.placed(rows, self.mesh, devices.RUNS)

    def _write(self, kept: Any, fresh: Any) -> None:
        """What the runs that have a slot have, into arrays of all."""
        jax.tree.map(lambda rows, values: rows.__setitem__(self.slots, values), kept, fresh)
