"""Checks, before the first trial, that all nodes of a cluster share a folder or bucket.

The driver writes a file. A Ray task on every node that may run a trial reads it and writes another file, which the
driver reads. A local folder of the driver fails this check on every other machine, even if a folder of the same name
exists there. Known limit: nodes that join the cluster later are not checked.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agr.common.waiting import POLL_SECONDS, Wait
from agr.errors import AgrError, SettingsError
from search.stages.shard_place import ShardPlace
from search.stages.storage import Storage, below

if TYPE_CHECKING:
    from search.tasks.agr_task import AgrTask

DRIVER = "driver"
ANSWER_SECONDS = 90.0  # a worker process may start slowly on a busy machine


def require_shared(flag: str, uri: str, resources: Mapping[str, float]) -> None:
    """Check that all nodes that can run a trial with these resources see the same folder or bucket.

    Raises: SettingsError, with the option `flag`, if the driver cannot write there, or for the first node that does
    not see it.
    """
    place, token = below(uri, f"reach-{uuid.uuid4().hex}"), uuid.uuid4().hex
    try:
        storage = Storage(place)
        storage.write(DRIVER, token.encode())
    except OSError as error:
        raise SettingsError(
            f"{flag} {uri}: {last_line(error)}; expected a folder or bucket that can be written"
        ) from error
    try:
        blind = _blind(storage, place, token, nodes_for(resources))
    finally:
        storage.clear()
    if blind:
        address, reason = blind[0]
        others = f", nor do {len(blind) - 1} more" if len(blind) > 1 else ""
        expected = "expected a URI that every node reaches, such as --storage s3://bucket/agr"
        raise SettingsError(f"{flag} {uri}: node {address} cannot see it{others}{reason}; {expected}")


def nodes_for(resources: Mapping[str, float]) -> list[Mapping[str, Any]]:
    """The living nodes that can run a trial with these resources."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [node for node in alive if all(node["Resources"].get(name, 0.0) >= n for name, n in resources.items())]


def probe(place: str, token: str, name: str) -> str:
    """Run on a node: read the driver's file, check its token and write another file; returns an error or ""."""
    try:
        storage = Storage(place)
        if storage.read(DRIVER) != token.encode():
            return "the driver's file is not there"
        storage.write(name, token.encode())
    except (AgrError, OSError) as error:
        return last_line(error)
    return ""


def bring(task: AgrTask, resources: Mapping[str, float]) -> AgrTask:
    """Let every node that can run a trial with these resources fetch the shards of a task, and wait; returns the task.

    Nodes that join later fetch them before their first trial. Raises: SettingsError for the first one that cannot.
    """
    if task.place is None:
        return task
    asked, wait = _ask(fetch, nodes_for(resources), task.place), Wait()
    while pending := ray.wait(list(asked), num_returns=len(asked), timeout=POLL_SECONDS)[1]:
        wait.tick(f"{len(pending)} of {len(asked)} nodes to fetch up to {len(task.place.sizes)} shards")
    for answer, node in asked.items():
        try:
            reason = ray.get(answer, timeout=0)
        except RayError as error:
            reason = last_line(error)
        if reason:
            raise SettingsError(f"node {node['NodeManagerAddress']} cannot fetch shards: {reason}")
    return task


def fetch(place: ShardPlace, name: str) -> str:
    """Run on a node: fetch the shards that it lacks; returns an error or ""."""
    try:
        place.fetch()
    except (AgrError, OSError) as error:
        return last_line(error)
    return ""


def _ask(task: Callable[..., str], nodes: Sequence[Mapping[str, Any]], *about: object) -> dict[Any, Mapping[str, Any]]:
    """Run a task once on each node, with its id; returns the nodes by Ray's references to the answers."""
    remote, asked = ray.remote(task), {}
    for node in nodes:
        here = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": here}
        asked[remote.options(**options).remote(*about, node["NodeID"])] = node
    return asked


def _blind(storage: Storage, place: str, token: str, nodes: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Addresses and reasons of the nodes that do not see the driver's file, or whose file the driver does not see."""
    asked = _ask(probe, nodes, place, token)
    ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    found = []
    for answer, node in asked.items():
        try:
            reason = ray.get(answer, timeout=0)
            if not reason and storage.read(node["NodeID"]) != token.encode():
                reason = "what it writes does not arrive"
        except (AgrError, OSError, RayError) as error:
            reason = last_line(error)
        if reason:
            found.append((str(node["NodeManagerAddress"]), f" ({reason})"))
    return found


def last_line(error: object, otherwise: str = "") -> str:
    """The last line of an error's message, or its type; Ray's errors quote a traceback, which ends with the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else otherwise or type(error).__name__
