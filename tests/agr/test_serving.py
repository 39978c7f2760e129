"""The model as MLflow loads and serves it answers what `agr.predict` answers."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from agr import serving
from agr.inference import answers as inference_answers
from agr.inference import bundle
from agr.recipes.mfcc import MFCC
from agr.registry import resolve

STARTUP_SECONDS = 90
SEARCH_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


@pytest.fixture(scope="module")
def clips(voices: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in voices[:6]]


@pytest.fixture(scope="module")
def expected(store: str, voices: list[Path]) -> list[dict[str, float]]:
    """What `agr.predict` says of the same clips."""
    loaded = bundle.load(resolve.resolve("models:/agr/best", store).folder)
    answers = [answer.probability for answer in inference_answers.answer(map(str, voices[:6]), loaded)]
    return [answer for answer in answers if answer is not None]


@pytest.fixture(scope="module")
def model(store: str) -> Any:
    """The champion, as somebody loads it who knows MLflow only."""
    import mlflow

    with patch.dict("os.environ", MLFLOW_TRACKING_URI=store):
        return mlflow.pyfunc.load_model("models:/agr@best")


def same(row: dict[str, Any], expected: dict[str, float]) -> bool:
    """Batches of other sizes may differ in the last bits of a float32."""
    close = all(math.isclose(row[name], value, abs_tol=1e-6) for name, value in expected.items())
    return close and row["label"] == max(expected, key=expected.__getitem__) and row["error"] == ""


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_bytes_of_sound_files_are_answered(model: Any, clips: list[bytes], expected: list[dict[str, float]]) -> None:
    import pandas

    answers = model.predict(pandas.DataFrame({"audio": clips}))
    assert list(answers.columns) == ["label", "female", "male", "error"]
    assert [str(kind) for kind in answers.dtypes[["female", "male"]]] == ["float64", "float64"]
    assert all(map(same, answers.to_dict("records"), expected))
    assert len({round(row["female"], 3) for row in expected}) > 1  # the model does tell them apart


@pytest.mark.parametrize("encode", [text, lambda data: text(data).encode()], ids=["text", "bytes"])
def test_base64_of_sound_files_is_answered(
    bundle_folder: Path, clips: list[bytes], expected: list[dict[str, float]], encode: Any
) -> None:
    import pandas

    answers = serving.Served(bundle.load(bundle_folder)).predict(pandas.DataFrame({"audio": list(map(encode, clips))}))
    assert all(map(same, answers.to_dict("records"), expected))


@pytest.mark.parametrize("broken", [b"", b"RIFF", b"no sound", "not base64!", text(b"junk"), None, math.nan, 7, "é"])
def test_a_broken_clip_gets_an_error_and_the_others_their_answers(
    bundle_folder: Path, clips: list[bytes], expected: list[dict[str, float]], broken: Any
) -> None:
    import pandas

    table = pandas.DataFrame({"audio": pandas.Series([clips[0], broken, clips[1]], dtype=object)})
    first, middle, last = serving.Served(bundle.load(bundle_folder)).predict(table).to_dict("records")
    assert same(first, expected[0])
    assert same(last, expected[1])
    assert (middle["label"], middle["female"], middle["male"]) == (None, None, None)
    assert middle["error"]
    assert "\n" not in middle["error"]


def sound(samples: NDArray[np.float64]) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("level", [0.0, 0.1], ids=["silence", "noise"])
def test_a_clip_without_speech_is_answered_so_in_valid_json(
    bundle_folder: Path, clips: list[bytes], expected: list[dict[str, float]], level: float
) -> None:
    import pandas

    odd = sound(level * np.random.default_rng(0).standard_normal(16_000))
    served = serving.Served(bundle.load(bundle_folder))
    first, last = served.predict(pandas.DataFrame({"audio": [clips[0], odd]})).to_dict("records")
    assert same(first, expected[0])
    assert last == {"label": "no speech", "female": None, "male": None, "error": ""}
    (alone,) = served.predict(pandas.DataFrame({"audio": [odd]})).to_dict("records")
    assert strict_json(json.dumps(alone).encode()) == last


@pytest.fixture
def earlier_model(bundle_folder: Path, tmp_path: Path) -> Path:
    """An MLflow model as earlier versions wrote it: recipe `mfc`, settings `vary_*`."""
    folder = tmp_path / "model"
    card = shutil.copytree(bundle_folder, folder / "data" / "bundle") / bundle.INFO
    values = json.loads(card.read_text())
    values["recipe"]["name"] = "mfc"
    values["settings"] = {
        name.replace("augment_", "vary_").replace("pitch_targets", "population"): value
        for name, value in values["settings"].items()
    }
    assert "vary_population" in values["settings"] and not any("augment" in name for name in values["settings"])
    card.write_text(json.dumps(values))
    flavor = {"data": "data/bundle", "loader_module": "agr.serving", "python_version": platform.python_version()}
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"python_function": flavor}}))  # JSON is YAML too
    return folder


def test_a_model_registered_by_an_earlier_version_loads_and_answers_alike(
    earlier_model: Path, clips: list[bytes], expected: list[dict[str, float]]
) -> None:
    import mlflow
    import pandas

    assert bundle.load(earlier_model).info.recipe == MFCC
    answers = mlflow.pyfunc.load_model(str(earlier_model)).predict(pandas.DataFrame({"audio": clips}))
    assert all(map(same, answers.to_dict("records"), expected))


def test_an_empty_table_gets_an_empty_answer(bundle_folder: Path) -> None:
    import pandas

    answers = serving.Served(bundle.load(bundle_folder)).predict(pandas.DataFrame({"audio": []}))
    assert list(answers.columns) == ["label", "female", "male", "error"]
    assert len(answers) == 0


def test_a_table_without_the_column_is_refused_by_mlflow(model: Any) -> None:
    import pandas
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="audio"):
        model.predict(pandas.DataFrame({"sound": [b""]}))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def strict_json(data: bytes) -> Any:
    """JSON as the standard has it, without NaN."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(data, parse_constant=refuse)


def post(url: str, request: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    body = urllib.request.Request(url, json.dumps(request).encode(), headers)
    with urllib.request.urlopen(body, timeout=60) as answer:
        return strict_json(answer.read())


@pytest.fixture
def server(store: str, tmp_path: Path) -> Iterator[str]:
    """`mlflow models serve` on this machine; its processes are stopped in the end."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = ["mlflow", "models", "serve", "-m", "models:/agr@best", "--env-manager", "local", "-p", str(port)]
    environment = os.environ | {"PATH": SEARCH_PATH, "MLFLOW_TRACKING_URI": store, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=tmp_path, start_new_session=True
        )
    try:
        deadline = time.monotonic() + STARTUP_SECONDS
        while not answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"no server: {(tmp_path / 'log').read_text()}")
            time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.skipif(shutil.which("mlflow", path=SEARCH_PATH) is None, reason="the mlflow command is not on PATH")
@pytest.mark.skipif(os.name != "posix", reason="stopping the server's processes needs POSIX")
def test_mlflow_models_serve_answers_over_http(
    server: str, clips: list[bytes], expected: list[dict[str, float]]
) -> None:
    split = {"dataframe_split": {"columns": ["audio"], "data": [[text(clip)] for clip in clips]}}
    assert all(map(same, post(f"{server}/invocations", split)["predictions"], expected))
    records = {"dataframe_records": [{"audio": text(clips[0])}, {"audio": text(b"junk")}]}
    good, bad = post(f"{server}/invocations", records)["predictions"]
    assert same(good, expected[0])
    assert bad["label"] is None
    assert bad["error"].startswith("audio: ")
    columns = {"inputs": {"audio": [text(clip) for clip in clips]}}
    assert all(map(same, post(f"{server}/invocations", columns)["predictions"], expected))
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(f"{server}/invocations", {"dataframe_records": [{"sound": text(clips[0])}]})


@pytest.mark.skipif(shutil.which("bash") is None, reason="the line is for a POSIX shell")
def test_the_documented_curl_line_takes_clips_of_ordinary_size(
    bundle_folder: Path, clips: list[bytes], expected: list[dict[str, float]], tmp_path: Path
) -> None:
    import pandas

    page = (Path(__file__).resolve().parents[2] / "docs" / "predict.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^    \{ printf .*?--data-binary @-$", page, re.MULTILINE | re.DOTALL)
    samples, rate = soundfile.read(io.BytesIO(clips[0]))
    soundfile.write(tmp_path / "long.wav", np.tile(samples, 50), rate)
    assert (tmp_path / "long.wav").stat().st_size > 10 * 96_000
    (tmp_path / "curl").write_text("#!/bin/sh\nexec cat\n")  # prints the body in place of sending it
    (tmp_path / "curl").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    for file, data in (("short.wav", clips[1]), ("long.wav", (tmp_path / "long.wav").read_bytes())):
        (tmp_path / file).write_bytes(data)
        typed = re.sub(r"data/demo-voices\S+", file, line)
        sent = subprocess.run(["bash", "-c", typed], env=environment, cwd=tmp_path, capture_output=True, check=True)
        table = pandas.DataFrame(strict_json(sent.stdout)["inputs"])
        assert table["audio"].tolist() == [text(data)]
        (row,) = serving.Served(bundle.load(bundle_folder)).predict(table).to_dict("records")
        assert row["error"] == "" and row["label"]
        assert file == "long.wav" or same(row, expected[1])
