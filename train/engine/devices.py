"""Over which devices a training is split, and in how many processes."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

RUNS, BATCH = "runs", "batch"


def join(coordinator: str | None, processes: int, process: int) -> None:
    """Makes this process, number `process` from 0, one of several that compute together; before any
    other use of JAX. ValueError if they do not come together.

    The coordinator is the address "host:port" on which the first of them listens; "auto" where JAX
    finds that out, and the two numbers, by itself (Slurm, Open MPI, TPU, ...); none: this process
    computes alone.
    """
    if coordinator is None:
        return
    # It would take SIGTERM for a message, and not end.
    jax.config.update("jax_enable_preemption_service", False)
    known: Any = () if coordinator == "auto" else (coordinator, processes, process)
    try:
        # One that fails waits so long for the others to end, before they are all ended.
        jax.distributed.initialize(*known, shutdown_timeout_seconds=60)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"process {process} of {processes} could not join the others at {coordinator}: {error}"
        ) from error


def is_first() -> bool:
    """Whether this process is the one that writes files and tells progress."""
    return jax.process_index() == 0


def agreed(value: Any) -> Any:
    """The value that the first process has."""
    return multihost_utils.broadcast_one_to_all(value)


def mesh(runs: int, batch: int = 1) -> Mesh | None:
    """The `runs * batch` devices that a training is split over; none for a single one.

    Runs are split over so many along the axis "runs", each batch over so many, if there are
    several, along "batch". ValueError if there are fewer devices, or processes whose devices would
    have no part.
    """
    found, wanted = jax.devices(), runs * batch
    if jax.process_count() > 1 and len(found) != wanted:
        raise ValueError(
            f"the {jax.process_count()} processes have {len(found)} devices, of which "
            f"{runs} (for runs) x {batch} (for batches) were asked for; ask for all of them."
        )
    if wanted == 1:
        return None
    if len(found) < wanted:
        raise ValueError(f"{wanted} devices were asked for, found {found}")
    if batch == 1:
        return Mesh(np.array(found[:wanted]), (RUNS,))
    return Mesh(np.array(found[:wanted]).reshape(runs, batch), (RUNS, BATCH))


def size(mesh: Mesh | None, axis: str) -> int:
    """The number of devices along an axis of a mesh; 1 where there is none."""
    return 1 if mesh is None else mesh.shape.get(axis, 1)


def placed(tree: Any, mesh: Mesh | None, *axes: str) -> Any:
    """Arrays of the host on the devices, the leading axes split along axes of the mesh."""
    return jax.device_put(tree, None if mesh is None else NamedSharding(mesh, PartitionSpec(*axes)))


def fetched(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays of the devices on the host, whole in every process."""
    if mesh is not None and mesh.is_multi_process:
        tree = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))(tree)
    return jax.device_get(tree)
