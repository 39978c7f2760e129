"""The chaos bench: its link, its bookkeeping, and one worker killed for good measure."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The modules of the bench."""
    pytest.importorskip("psutil")
    sys.path.insert(0, str(BENCH))
    try:
        import _chaos_checks
        import _chaos_link
        import _chaos_tools
        import chaos

        yield SimpleNamespace(chaos=chaos, checks=_chaos_checks, tools=_chaos_tools, link=_chaos_link)
    finally:
        sys.path.remove(str(BENCH))


@pytest.fixture
def asked() -> Iterator[tuple[int, list[str]]]:
    """The port of a small server, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *values: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], paths
    server.shutdown()
    thread.join()
    server.server_close()


def get(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/x", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_link_hands_on_refuses_lies_and_cuts(bench: Any, asked: tuple[int, list[str]]) -> None:
    port, paths = asked
    link = bench.link.Link(port)
    assert (get(link.port), paths) == (200, ["/x"])
    link.set(bench.link.REFUSING)
    assert (get(link.port), paths) == (500, ["/x"])
    link.set(bench.link.LYING)
    assert (get(link.port), paths) == (500, ["/x", "/x"])
    link.set(bench.link.CUT)
    with pytest.raises(OSError):
        get(link.port)
    link.set(bench.link.OPEN)
    assert (get(link.port), len(paths)) == (200, 3)
    link.close()


def test_a_cut_ends_connections_that_are_open(bench: Any, asked: tuple[int, list[str]]) -> None:
    link = bench.link.Link(asked[0])
    with socket.create_connection(("127.0.0.1", link.port), timeout=10) as open_connection:
        open_connection.sendall(b"GET /x HTTP/1.1\r\n")
        bench.tools.wait_until(lambda: link.connections, 10)
        link.set(bench.link.CUT)
        with suppress(ConnectionResetError):
            assert open_connection.recv(10) == b""
    link.close()


def test_every_kind_strikes_as_often_as_any_other(bench: Any) -> None:
    kinds = list("abcdefghi")
    wanted = Counter(bench.chaos.queue(50, kinds, random.Random(0)))
    assert wanted.total() == 50
    assert max(wanted.values()) - min(wanted.values()) <= 1


def test_a_search_has_one_stage_store_only(bench: Any) -> None:
    waiting = ["disk", "driver", "network", "disk", "worker", "network"]
    assert bench.chaos.take(waiting, 4) == ["disk", "driver", "disk", "worker"]
    assert waiting == ["network", "network"]
    assert bench.chaos.take(waiting, 4) == ["network", "network"]
    assert waiting == []


def test_doubles_of_every_sort_are_counted(bench: Any) -> None:
    def run(run_id: str, local: str, epochs: str) -> SimpleNamespace:
        params = {"epochs": epochs, "lr": "0.1", "gamma": "0.1"}
        data = SimpleNamespace(params=params, tags={"local_id": local, "mlflow.parentRunId": "p"})
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id), data=data)

    trials = [run("1", "a", "1"), run("2", "b", "2"), run("3", "b", "2")]
    versions = [SimpleNamespace(run_id=owner) for owner in ("1", "1", "elsewhere", "elsewhere")]
    client = SimpleNamespace(search_model_versions=lambda *args, **named: versions)
    assert bench.checks.duplicates(client, trials, trials) == 3, (
        "a point twice, a local id twice, a run registered twice"
    )


def test_the_verdict_names_what_was_harmed(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    none = dict.fromkeys(bench.checks.Findings.__dataclass_fields__, 0)
    good, bad = bench.checks.Findings(**none), bench.checks.Findings(**(none | {"lost": 2, "stale": 1}))
    assert not good.bad and str(good) == "all well"
    assert bad.bad and str(bad) == "2 lost trials, 1 stale locks"
    outcomes = [
        bench.chaos.Outcome(Counter(worker=2), 1, 1.0, good),
        bench.chaos.Outcome(Counter(driver=1), 2, 1.0, bad),
    ]
    assert bench.chaos.verdict(outcomes[:1])
    assert not bench.chaos.verdict(outcomes)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "verdict: 2 faults in 1 searches, nothing lost"
    assert lines[1] == "verdict: 3 faults in 2 searches, 1 of them harmed: lost trials, stale locks"


def test_an_unknown_kind_is_refused(bench: Any) -> None:
    from agr.errors import SettingsError

    with pytest.raises(SettingsError, match="--only flood: expected some of worker,node,driver"):
        bench.chaos.main(["--only", "flood"])


def test_a_killed_worker_costs_nothing(tmp_path: Path) -> None:
    """The whole bench in small: an undisturbed search of nine trials, and one whose worker is killed."""
    pytest.importorskip("psutil")
    command = [sys.executable, str(BENCH / "chaos.py"), "--faults", "1", "--only", "worker"]
    command += ["--lr", "0.01", "--seed", "2"]  # it strikes early enough that no other search has to follow
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"verdict: 1 faults in \d searches, nothing lost", last), done.stdout
    assert "killed worker" in done.stdout
