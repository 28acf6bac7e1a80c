"""A Ray cluster: which one and how wide, joined or started for as long as a run lasts, and kept quiet."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from visrag_integrations.errors import MissingExtraError, SettingError, VisRAGError
from visrag_integrations.ocr import count_cores


@dataclass(frozen=True)
class RayCluster:
    """Where the stages run, and how wide; (least, most) lets Ray scale between them.

    Attributes:
        address: "local" starts Ray on this machine for the run; "auto", "host:6379" or "ray://host:10001" joins a
            cluster. Where this process has joined one already, that one is used.
        readers: Reading actors, a core each; None: up to one for every core that is left.
        embedders: Embedding actors, each with a model of its own; None: up to one for every GPU, or one without GPUs.
        gpus: GPUs (or a fraction of one) an embedding actor gets; None: one, where the cluster has any.
        writers: Writing actors, where the store is on a server.
        quiet: Ray says only what went wrong; False leaves its messages and progress bars as they are.
    """

    address: str = "local"
    readers: int | tuple[int, int] | None = None
    embedders: int | tuple[int, int] | None = None
    gpus: float | None = None
    writers: int | tuple[int, int] = (1, 4)
    quiet: bool = True

    def __post_init__(self) -> None:
        for name in ("readers", "embedders", "writers"):
            value = getattr(self, name)
            if value is None:
                continue
            least, most = least_and_most(value)
            if not 1 <= least <= most:
                raise SettingError(f"{name}={value!r}; give a number from 1, or (least, most).")


def least_and_most(wanted: int | tuple[int, int]) -> tuple[int, int]:
    """A number, or (least, most), as (least, most).

    >>> least_and_most(3), least_and_most((1, 8))
    ((3, 3), (1, 8))
    """
    if isinstance(wanted, tuple):
        return wanted
    return wanted, wanted


def check_ray() -> None:
    """Nothing, if Ray is installed; asked before a store is opened and filled.

    Raises:
        MissingExtraError: It is not.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("Ray Data", "ray")


@contextlib.contextmanager
def connected(cluster: RayCluster) -> Iterator[Any]:
    """Ray, joined or started for as long as the block lasts."""
    try:
        import ray
        import ray.data
    except ImportError as err:
        raise MissingExtraError("Ray Data", "ray") from err
    joined = ray.is_initialized()
    if not joined:
        _start(ray, cluster)
    try:
        with contextlib.ExitStack() as stack:
            if cluster.quiet:
                stack.enter_context(_quiet())
            yield ray
    finally:
        if not joined:
            ray.shutdown()


def _start(ray: Any, cluster: RayCluster) -> None:
    options: dict[str, Any] = {"address": cluster.address}
    # Read by Ray's own processes when they start, so they have to be in the environment.
    variables = {"RAY_USAGE_STATS_ENABLED": "0"}  # no telemetry
    if cluster.quiet:
        variables["RAY_BACKEND_LOG_LEVEL"] = "fatal"
        options |= {"logging_level": logging.ERROR, "log_to_driver": False}
    if cluster.address == "local":
        # Two cores at least, because a reader and an embedder need one each; on one core they take turns.
        options |= {"include_dashboard": False, "num_cpus": max(2, count_cores())}
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_environment(variables))
            if cluster.quiet:
                stack.enter_context(_no_stderr())
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as err:
        raise SettingError(
            f"Ray at {cluster.address!r} cannot be reached: {err}. Start a cluster with: ray start --head"
        ) from err


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """Meanwhile these variables are set, unless the user has set them."""
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Meanwhile what is written to the standard error of this process, by native code too, goes nowhere."""
    sys.stderr.flush()
    # The file descriptor itself: Ray's native code does not write through `sys.stderr`.
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data says only what went wrong, and draws no bars."""
    from ray.data import DataContext

    loud, context = logging.getLogger("ray.data"), DataContext.get_current()
    level, bars = loud.level, context.enable_progress_bars
    loud.setLevel(logging.ERROR)
    context.enable_progress_bars = False
    try:
        yield
    finally:
        loud.setLevel(level)
        context.enable_progress_bars = bars


@contextlib.contextmanager
def unwrapped() -> Iterator[None]:
    """What a task raised is raised here as it was; what Ray itself gives up on becomes a `VisRAGError`."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as err:
        # `RayTaskError` carries what the task raised; that of a lost worker carries another Ray error, or nothing.
        cause = getattr(err, "cause", None)
        if isinstance(cause, Exception) and not isinstance(cause, RayError):
            raise cause from err
        raise VisRAGError(
            f"The Ray cluster gave up: {err}. What was added is kept: run the same again, and it goes on from there."
        ) from err
