"""Starts a local Ray cluster or joins a running one, and determines how many trials fit on it.

with cluster(host.check(0, store_folder()), None, 1.0, cuda=True, mps=True) as allocation: ...
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from agr.common.cli import end_on_sigterm
from agr.common.places import full_disk
from agr.common.processes import worker_environment
from agr.common.waiting import locked
from agr.errors import SettingsError
from search.runtime.host import Needs, RayStart, user
from search.tasks.device import choose_device

os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # which waits up to 10 s for epochs to end
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }
)
import ray

# Tune's actors never use the workers that Ray starts in advance, but have to wait for them.
NO_SPARE_WORKERS = {"prestart_worker_first_driver": False, "enable_worker_prestart": False}
MPS = "mps"  # the custom resource of a worker with an Apple GPU
SPARE_PROCESSES = ("ray/autoscaler/_private/monitor.py", "ray/_private/log_monitor.py")
ANSWER_SECONDS = 10.0  # timeout of a connection to a cluster


@dataclass(frozen=True)
class Allocation:
    """How trials are placed on the cluster."""

    device: str  # "cuda", "mps" or "cpu", the same for all trials
    resources: dict[str, float]  # of one trial, by Ray's names
    workers: int  # the number of concurrent trials
    notice: str = ""  # a message for the user


@contextmanager
def cluster(
    where: str | Needs,
    wanted: int | None,
    gpus_per_trial: float,
    cuda: bool,
    mps: bool,
    start: RayStart | None = None,
) -> Iterator[Allocation]:
    """Start Ray as `where` says, or join the cluster at this address, without its messages, and leave it afterwards.

    `wanted` trials run at once, for None as many as fit, each on a share of one GPU or a whole number of GPUs.
    start: shared with the thread that waits. Raises: SettingsError if the address does not answer, or no trial fits;
    KeyboardInterrupt if the start is cancelled while another search starts Ray.
    """
    if gpus_per_trial <= 0 or (gpus_per_trial > 1 and gpus_per_trial != int(gpus_per_trial)):
        raise SettingsError(f"--gpus-per-trial {gpus_per_trial}: expected a share of one GPU or a whole number")
    logging.getLogger("ray").setLevel(logging.ERROR)
    for name in ("execution.tune_controller", "tune"):  # MLflow shows failures
        logging.getLogger(f"ray.tune.{name}").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="ray")
    device = choose_device(cuda, mps)
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    try:
        if isinstance(where, str):
            _probe(where)
            ray.init(address=where, **quiet)
            device = cluster_device(cuda, mps)
        else:
            with worker_environment(), _alone(start or RayStart()):  # Ray passes this environment to every worker
                ray.init(
                    address="local",
                    include_dashboard=False,
                    resources={MPS: 1.0} if device == "mps" else None,
                    object_store_memory=where.store_bytes,
                    _temp_dir=where.folder,
                    _system_config=NO_SPARE_WORKERS,
                    **quiet,
                )
                end_processes(*SPARE_PROCESSES)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        reason = f"the disk of {disk} is full ({reason})" if (disk := full_disk()) else reason
        raise SettingsError(f"{_named(where)}: {reason}; expected a Ray cluster") from error
    end_on_sigterm()  # Ray has replaced the handler by one that aborts the driver
    try:
        yield allocate(device, wanted, gpus_per_trial)
    finally:
        ray.shutdown()


def end_processes(*names: str) -> None:
    """Kill the processes that this one started whose command lines contain one of these names.

    Of a local Ray cluster, SPARE_PROCESSES are not needed: the autoscaler would request nodes from a cloud, and delays
    the end of Ray by a second; the log monitor reads the log files of all workers ten times a second, for
    `log_to_driver`.
    """
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if any(name in command for name in names):
                process.kill()


def start_lock(temporary: Path) -> Path:
    """The lock of Ray's start, in a folder for temporary files."""
    return temporary / f"agr-ray-{user()}.lock"


@contextmanager
def _alone(start: RayStart) -> Iterator[None]:
    """Let no other search of this user start Ray meanwhile: Ray gives up a node that takes more than 30 s to start.

    Raises: RuntimeError for errors that Ray raises as a bare Exception.
    """
    lock = start_lock(Path(tempfile.gettempdir()))
    with locked(lock, "start Ray", lambda pid: 0.0, start.cancelled.is_set):  # a start takes a few seconds at most
        start.began = True
        try:
            yield
        except Exception as error:
            if type(error) is Exception:
                raise RuntimeError(str(error)) from error
            raise


def _named(where: str | Needs) -> str:
    return f"--address {where}" if isinstance(where, str) else "Ray, on this machine"


def _probe(address: str) -> None:
    """Connect to host:port, as Ray itself would try for minutes. Raises: ConnectionError if nothing answers."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto`, or another form that Ray checks itself
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no answer ({error})") from error


def _offers() -> list[dict[str, float]]:
    """The resources of every living node, by Ray's names."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def cluster_device(cuda: bool, mps: bool) -> str:
    """The device of all trials: NVIDIA GPUs if the cluster has any, else Apple GPUs, else CPUs.

    Ray also calls Apple GPUs `GPU`. If any node has one, a trial cannot request an NVIDIA GPU specifically.
    """
    every = _offers()
    apple = any(has.get(MPS, 0) > 0 for has in every)
    if cuda and not apple and any(has.get("GPU", 0) > 0 for has in every):
        return "cuda"
    return "mps" if mps and apple else "cpu"


def allocate(device: str, wanted: int | None, gpus_per_trial: float) -> Allocation:
    """Place trials on the running cluster. Raises: SettingsError if there is no room for one trial."""
    resource, share = {"cuda": ("GPU", gpus_per_trial), "mps": (MPS, 1.0), "cpu": ("CPU", 1.0)}[device]
    every = _offers()
    amounts = [has.get(resource, 0.0) for has in every]
    total, fit = sum(amounts), sum(int(amount / share + 1e-9) for amount in amounts)  # a trial runs on one node
    if fit < 1:
        found = f"{total:g} {resource} on this cluster, {max(amounts, default=0.0):g} on one node"
        raise SettingsError(f"--gpus-per-trial {gpus_per_trial:g}: {found}; expected room for one trial")
    notices = []
    if wanted and wanted > fit:
        room = f"{total:g} {resource}, {share:g} a trial"
        notices.append(f"{wanted} workers asked for, {fit} fit ({room}): going on with {fit}")
    if idle := sum(1 for has in every if not has.get(resource) and has.get("CPU", 0.0) > 0):
        notices.append(f"all trials go to {device}: {idle} of {len(every)} nodes have none and train nothing")
    resources = {"CPU": 1.0} if device == "cpu" else {"CPU": 0.0, resource: share}
    return Allocation(device, resources, min(wanted or fit, fit), "\n".join(notices))
