"""Ray: a private local cluster or a running one, and how many trials fit on it.

with cluster(address=None, device="cpu") as slots: ...
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
from filelock import FileLock

from agr.errors import SettingsError
from agr.pool import worker_environment
from agr.terminal import end_on_sigterm
from search.device import choose_device

os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }
)

import ray

# Tune's actors never take the workers that Ray starts in advance, but have to wait until those are up.
NO_SPARE_WORKERS = {"prestart_worker_first_driver": False, "enable_worker_prestart": False}
MPS = "mps"  # the custom resource of a worker with an Apple GPU
SPARE_PROCESSES = ("ray/autoscaler/_private/monitor.py", "ray/_private/log_monitor.py")
ANSWER_SECONDS = 10.0  # how long a cluster may take to accept a connection


@dataclass(frozen=True)
class Slots:
    """What one trial asks Ray for, and how many fit at once; `notice` is for the person at the terminal."""

    device: str
    resources: dict[str, float]
    workers: int
    notice: str = ""


@contextmanager
def cluster(
    address: str | None, wanted: int | None, gpus_per_trial: float, cuda: bool, mps: bool, store_bytes: int
) -> Iterator[Slots]:
    """Start or join Ray, quietly, and leave it again.

    wanted: trials at a time; None for as many as fit. store_bytes: what the data takes in the object store.
    Raises: SettingsError if the address does not answer or a trial's share of a GPU makes no sense.
    """
    if gpus_per_trial <= 0 or (gpus_per_trial > 1 and gpus_per_trial != int(gpus_per_trial)):
        raise SettingsError(f"--gpus-per-trial {gpus_per_trial}: expected a share of one GPU or a whole number")
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)  # says what the trial's run says
    warnings.filterwarnings("ignore", module="ray")
    device = choose_device(cuda, mps)
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    try:
        if address:
            _probe(address)
            ray.init(address=address, **quiet)
            device = _device_of_cluster(cuda, mps)
        else:
            custom = {MPS: 1.0} if device == "mps" else None
            memory = max(128 * 2**20, 2 * store_bytes)
            with worker_environment(), _alone():  # Ray's daemons hand the environment on to every worker
                ray.init(
                    address="local",
                    include_dashboard=False,
                    resources=custom,
                    object_store_memory=memory,
                    _system_config=NO_SPARE_WORKERS,
                    **quiet,
                )
                _end_spare_processes()
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(f"--address {address or 'local'}: {reason}; expected a Ray cluster") from error
    end_on_sigterm()  # Ray would abort the driver instead
    try:
        yield _slots(device, wanted, gpus_per_trial)
    finally:
        ray.shutdown()


def _end_spare_processes() -> None:
    """Kill what a local Ray starts and nobody here asks.

    The one would ask a cloud for more nodes, and takes a second to end when Ray does. The other reads the log files of
    all workers ten times a second, for `log_to_driver`.
    """
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if any(name in command for name in SPARE_PROCESSES):
                process.kill()


@contextmanager
def _alone() -> Iterator[None]:
    """No other search of this user starts its Ray meanwhile: a node that is not up after 30 s is given up.

    Raises: RuntimeError for what Ray raises as a bare Exception.
    """
    with FileLock(os.path.join(tempfile.gettempdir(), f"agr-ray-{getpass.getuser()}.lock")):
        try:
            yield
        except Exception as error:
            if type(error) is Exception:
                raise RuntimeError(str(error)) from error
            raise


def _probe(address: str) -> None:
    """Knock at host:port; Ray itself would try for minutes. Raises: ConnectionError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto`, or something that Ray will judge
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no answer ({error})") from error


def _offers() -> list[dict[str, float]]:
    """What each living node has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _device_of_cluster(cuda: bool, mps: bool) -> str:
    """The device of a search, one for all its trials: NVIDIA GPUs where there are some, then Apple's, then CPUs.

    Ray calls an Apple GPU `GPU` too, so that with one among the nodes NVIDIA's cannot be asked for.
    """
    every = _offers()
    apple = any(has.get(MPS, 0) > 0 for has in every)
    if cuda and not apple and any(has.get("GPU", 0) > 0 for has in every):
        return "cuda"
    return "mps" if mps and apple else "cpu"


def _slots(device: str, wanted: int | None, gpus_per_trial: float) -> Slots:
    resource, share = {"cuda": ("GPU", gpus_per_trial), "mps": (MPS, 1.0), "cpu": ("CPU", 1.0)}[device]
    every = _offers()
    amounts = [has.get(resource, 0.0) for has in every]
    total, fit = sum(amounts), sum(int(amount / share + 1e-9) for amount in amounts)  # no trial stands on two nodes
    if fit < 1:
        found = f"{total:g} {resource} on this cluster, {max(amounts, default=0.0):g} on one node"
        raise SettingsError(f"--gpus-per-trial {gpus_per_trial:g}: {found}; expected room for one trial")
    workers = min(wanted or fit, fit)
    notices = []
    if wanted and wanted > fit:
        asked = f"{wanted} workers asked for, {fit} fit"
        notices.append(f"{asked} ({total:g} {resource}, {share:g} a trial): going on with {fit}")
    idle = sum(1 for has in every if not has.get(resource) and has.get("CPU", 0.0) > 0)
    if idle:
        notices.append(f"all trials go to {device}: {idle} of {len(every)} nodes have none and train nothing")
    resources = {"CPU": 1.0} if device == "cpu" else {"CPU": 0.0, resource: share}
    return Slots(device, resources, workers, "\n".join(notices))
