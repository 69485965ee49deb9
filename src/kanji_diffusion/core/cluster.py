"""Ray, where one process is not enough: joining a cluster, mapping a function over blocks of work, sharing data.

Ray is imported only when more than one worker is asked for.
"""

from __future__ import annotations

import logging
import mmap
import os
import pickle
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from kanji_diffusion.core.cores import available_cores
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings

logger = logging.getLogger(__name__)

_SECONDS_TO_CONNECT = 10

T = TypeVar("T")
R = TypeVar("R")


class ClusterSettings(Settings):
    """How many processes share the work, and on which machines."""

    workers: int = Field(
        1,
        ge=1,
        description="Processes that share each training batch and the rendering, scoring and sampling; "
        "1 does all in this process, without Ray.",
    )
    address: str | None = Field(
        None,
        pattern=r"^(auto|[^/]+:[0-9]+)$",
        description="The Ray cluster to join, as host:port, or auto for the one of this machine; null starts Ray here.",
    )
    cpus_per_worker: int = Field(1, ge=1, description="CPUs that Ray reserves for each worker.")
    gpus_per_worker: int = Field(0, ge=0, le=1, description="GPUs of each worker; with 0 it computes on the CPU.")
    max_failures: int = Field(3, ge=0, description="Lost workers after which a training still goes on.")
    wait_seconds: float = Field(60, gt=0, description="How long to wait until the cluster has room for the workers.")


class Mapper(Protocol):
    """`map`, or something that does the same elsewhere."""

    def __call__(self, function: Callable[[T], R], items: Sequence[T], /) -> Iterator[R]:
        """What `function` returns for each of `items`, in their order."""


def mapper(settings: ClusterSettings, on_devices: bool = True) -> Mapper:
    """`map` for one worker, and Ray Data for more.

    Args:
        settings: The workers.
        on_devices: Whether the function uses the workers' devices; without, each CPU of the cluster maps.

    Returns:
        A function of (function, items). For Ray Data both must be picklable, and items should be blocks of work that
        take seconds; what one worker loses, another does again.

    Raises:
        KanjiDiffusionError: If the cluster has no room for the workers, and then what the function raises.
    """
    if settings.workers == 1:
        return map
    ray = connect(settings)
    from ray import data

    def ray_map(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        context = data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.execution_options.preserve_order = True
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        cpus, gpus, size = 1, 0, int(ray.cluster_resources()["CPU"])
        if on_devices:
            cpus, gpus, size = settings.cpus_per_worker, settings.gpus_per_worker, settings.workers
        rows = data.from_items([{"item": pickle.dumps(item)} for item in items], override_num_blocks=len(items))
        answers = rows.map_batches(
            _Applied,
            fn_constructor_args=[ray.put(function)],
            batch_size=1,
            batch_format="pandas",
            compute=data.ActorPoolStrategy(min_size=1, max_size=min(size, len(items))),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        for row in answers.iter_rows():
            answer = pickle.loads(row["answer"])
            if isinstance(answer, KanjiDiffusionError):
                raise answer
            yield answer

    return ray_map


class _Applied:
    """A function that is sent to each process once, applied to rows of pickled items."""

    def __init__(self, function: Any) -> None:
        import ray

        self._function = ray.get(function)

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"answer": [pickle.dumps(self._answer(pickle.loads(item))) for item in rows["item"]]})

    def _answer(self, item: Any) -> Any:
        try:
            return self._function(item)
        except KanjiDiffusionError as error:
            return error


def share(ray: Any, value: Any) -> Any:
    """Put `value` where all workers find it: memory-mapped arrays by their path, other memory once for each machine.

    Returns:
        A reference for `ray.get`, which gives a copy whose arrays and tensors must not be written to.
    """
    ray.util.register_serializer(np.memmap, serializer=_file_or_array, deserializer=_array)
    ray.util.register_serializer(torch.Tensor, serializer=torch.Tensor.numpy, deserializer=_tensor)
    try:
        return ray.put(value)
    finally:
        # Modules go to the workers as well, and theirs are written to.
        ray.util.deregister_serializer(np.memmap)
        ray.util.deregister_serializer(torch.Tensor)


def _file_or_array(array: np.memmap) -> tuple[Any, ...] | np.ndarray:
    # A part of a memory-mapped array has the file's name, too, but another base.
    if isinstance(array.base, mmap.mmap) and array.flags.c_contiguous:
        return array.filename, array.dtype, "r", array.offset, array.shape
    return np.asarray(array)


def _array(shared: tuple[Any, ...] | np.ndarray) -> np.ndarray:
    return np.memmap(*shared) if isinstance(shared, tuple) else shared


def _tensor(array: np.ndarray) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def connect(settings: ClusterSettings) -> Any:
    """Join the Ray cluster, or start Ray on this machine, and see that it has room for the workers.

    Returns:
        The module `ray`; it stays connected until the process ends.

    Raises:
        KanjiDiffusionError: If Ray is not installed, the cluster cannot be reached, or it has no room.
    """
    try:
        import ray
    except ImportError as error:
        raise KanjiDiffusionError(
            f"Parameter `cluster.workers` is {settings.workers}, which needs Ray, and Ray is not installed: "
            'run `pip install "kanji-diffusion[cluster]"`, or set it to 1.'
        ) from error
    if not ray.is_initialized():
        _initialise(ray, settings.address)
    _require_room(ray, settings)
    return ray


def _initialise(ray: Any, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # By default its workers yield to every other process: beside one, training would all but stand still.
        os.environ.setdefault("RAY_worker_niceness", "0")
        ray.init(num_cpus=available_cores(), include_dashboard=False, **quiet)
        return
    try:
        if address != "auto":
            # Ray itself would try for minutes.
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=_SECONDS_TO_CONNECT).close()
        ray.init(address=address, **quiet)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise KanjiDiffusionError(
            f"The Ray cluster at `{address}` cannot be joined ({str(error).splitlines()[0]}): start it with "
            "`ray start --head`, correct `cluster.address`, or set it to null to start Ray on this machine."
        ) from error


def _require_room(ray: Any, settings: ClusterSettings) -> None:
    # Ray would wait for ever. A placement group also makes a cluster that can grow do so.
    bundle = {"CPU": settings.cpus_per_worker, "GPU": settings.gpus_per_worker}
    bundle = {name: count for name, count in bundle.items() if count}
    total = ray.cluster_resources()
    fixed = settings.address is None and any(
        total.get(name, 0) < settings.workers * count for name, count in bundle.items()
    )
    room = False
    if not fixed:
        group = ray.util.placement_group([bundle] * settings.workers)
        room = group.wait(settings.wait_seconds)
        ray.util.remove_placement_group(group)
    if not room:
        wanted, there = (
            " and ".join(f"{count:g} {name}s" for name, count in resources.items())
            for resources in (
                {name: settings.workers * count for name, count in bundle.items()},
                {name: total.get(name, 0) for name in bundle},
            )
        )
        waited = "" if fixed else f", nor room for them within {settings.wait_seconds:g} s"
        raise KanjiDiffusionError(
            f"The {settings.workers} workers of `cluster` need {wanted}, and Ray has {there} in all{waited}: "
            "ask for fewer workers, add machines with `ray start --address`, or wait until others are done."
        )
