"""Checks, before the first trial, that all nodes of a cluster share a folder or bucket.

    require_shared("--stage-store", "s3://agr/stages", {"CPU": 1.0})

The driver writes a file. A Ray task on every node that may run a trial reads it and writes another file, which the
driver reads. A local folder of the driver fails this check on every other machine, even if a folder of the same name
exists there. Known limit: nodes that join the cluster later are not checked.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TypedDict

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agr.errors import AgrError, SettingsError
from search.stages.storage import Storage, below

DRIVER = "driver"
ANSWER_SECONDS = 90.0  # a worker process may start slowly on a busy machine
TROUBLES = (AgrError, OSError, RayError)


class Node(TypedDict):
    """The fields of Ray's node descriptions that are used here."""

    NodeID: str
    NodeManagerAddress: str
    Alive: bool
    Resources: dict[str, float]


def require_shared(flag: str, uri: str, resources: Mapping[str, float]) -> None:
    """Check that all nodes that can run a trial see the same folder or bucket.

    Args:
        flag: The command-line option of the URI, for the message.
        uri: An absolute path, or a URI that pyarrow.fs or fsspec can open.
        resources: Of one trial, by Ray's names.

    Raises:
        SettingsError: If the driver cannot write there, or a node does not see it; names the first such node.
    """
    place, token = below(uri, f"reach-{uuid.uuid4().hex}"), uuid.uuid4().hex
    try:
        storage = Storage(place)
        storage.write(DRIVER, token.encode())
    except OSError as error:
        raise SettingsError(f"{flag} {uri}: {_line(error)}; expected a folder or bucket that can be written") from error
    try:
        blind = _blind(storage, place, token, nodes_for(resources))
    finally:
        storage.clear()
    if blind:
        address, reason = blind[0]
        others = f", nor do {len(blind) - 1} more" if len(blind) > 1 else ""
        expected = "expected a URI that every node reaches, such as --storage s3://bucket/agr"
        raise SettingsError(f"{flag} {uri}: node {address} cannot see it{others}{reason}; {expected}")


def nodes_for(resources: Mapping[str, float]) -> list[Node]:
    """The living nodes that can run a trial with these resources."""
    nodes: list[Node] = ray.nodes()
    return [
        node
        for node in nodes
        if node["Alive"] and all(node["Resources"].get(name, 0.0) >= amount for name, amount in resources.items())
    ]


def probe(place: str, token: str, name: str) -> str:
    """Run on a node: read the driver's file, check its token and write another file; returns an error or ""."""
    try:
        storage = Storage(place)
        if storage.read(DRIVER) != token.encode():
            return "the driver's file is not there"
        storage.write(name, token.encode())
    except (AgrError, OSError) as error:
        return _line(error)
    return ""


def _blind(storage: Storage, place: str, token: str, nodes: Sequence[Node]) -> list[tuple[str, str]]:
    """Addresses and reasons of the nodes that do not see the driver's file, or whose file the driver does not see."""
    task = ray.remote(probe)
    asked = {}
    for node in nodes:
        here = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": here}
        asked[task.options(**options).remote(place, token, node["NodeID"])] = node
    ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    found = []
    for answer, node in asked.items():
        try:
            reason = ray.get(answer, timeout=0)
            if not reason and storage.read(node["NodeID"]) != token.encode():
                reason = "what it writes does not arrive"
        except TROUBLES as error:
            reason = _line(error)
        if reason:
            found.append((str(node["NodeManagerAddress"]), f" ({reason})"))
    return found


def _line(error: BaseException) -> str:
    """The last line of an error's message; Ray's errors quote a traceback, which ends with the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
