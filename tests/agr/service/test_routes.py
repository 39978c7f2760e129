"""The routes of the service answer what `agr.predict` answers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from agr.inference import answers, bundle
from tests.agr.service.conftest import Start
from tests.sounds import clip_file, vowel

NOISE = b"this is no sound file"


def files(*named: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", each) for each in named]


def expected(folder: Path, clip: Path, **options: Any) -> dict[str, Any]:
    (found,) = answers.answer(iter([str(clip)]), bundle.load(folder), **options)
    return {name: value for name, value in found.as_dict({}).items() if name not in ("path", "model")}


def test_a_file_is_answered_as_predict_does(client: TestClient, bundle_folder: Path, voices: list[Path]) -> None:
    found = client.post("/v1/predict", files=files(("memo.wav", voices[0].read_bytes()))).json()
    assert found["answers"] == [{"path": "memo.wav"} | expected(bundle_folder, voices[0])]
    assert found["model"]["uri"] == str(bundle_folder)
    assert found["model"]["digest"] == bundle.load(bundle_folder).info.weights_sha256


def test_a_raw_body_is_one_file(client: TestClient, bundle_folder: Path, voices: list[Path]) -> None:
    sent = client.post(
        "/v1/predict?timeline=true", content=voices[1].read_bytes(), headers={"Content-Type": "audio/wav"}
    )
    assert sent.json()["answers"] == [{"path": "-"} | expected(bundle_folder, voices[1], timeline=True)]


def test_each_of_many_files_has_an_answer_or_an_error(client: TestClient, voices: list[Path]) -> None:
    sent = [("a.wav", voices[0].read_bytes()), ("b.txt", NOISE), ("c.wav", b""), ("d.wav", voices[3].read_bytes())]
    found = client.post("/v1/predict", files=files(*sent)).json()["answers"]
    assert [each["path"] for each in found] == ["a.wav", "b.txt", "c.wav", "d.wav"]
    assert ["error" in each for each in found] == [False, True, True, False]
    assert found[2]["error"] == "c.wav: 0 bytes; expected a sound file"


def test_a_clients_name_never_opens_a_file_of_the_server(client: TestClient, voices: list[Path]) -> None:
    (found,) = client.post("/v1/predict", files=files((str(voices[0]), NOISE))).json()["answers"]
    assert found == {"path": str(voices[0]), "error": f"{voices[0]}: text; expected a sound file"}


def test_an_answer_below_the_bound_is_unsure(client: TestClient, voices: list[Path]) -> None:
    sent = client.post("/v1/predict?abstain_below=1", content=voices[0].read_bytes())
    assert sent.json()["answers"][0]["label"] == "unsure"


@pytest.mark.parametrize("bound", ["0.3", "7", "nan", "much"])
def test_a_bound_outside_its_range_is_refused(client: TestClient, bound: str) -> None:
    sent = client.post(f"/v1/predict?abstain_below={bound}", content=NOISE)
    assert (sent.status_code, sent.headers["content-type"]) == (422, "application/problem+json")
    assert sent.json().keys() == {"type", "title", "status", "detail"}


@pytest.mark.parametrize(
    ("path", "field", "told"),
    [
        ("/v1/predict?abstain=0.9", "", "abstain: no option; expected abstain_below or timeline or explain"),
        ("/v1/explain?timeline=true", "", "timeline: no option; expected none"),
        ("/v1/predict", "abstain_below", "abstain_below: found in the form; expected sound files alone"),
        ("/v1/predict", "file", "file: found in the form; expected sound files alone"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    client: TestClient, voices: list[Path], path: str, field: str, told: str
) -> None:
    sent = client.post(path, files=files(("a.wav", voices[0].read_bytes())), data={field: "0.9"} if field else None)
    assert sent.status_code == 422
    assert sent.json()["detail"].startswith(told)


def test_the_picture_comes_beside_the_answer_or_alone(client: TestClient, voices: list[Path]) -> None:
    data = voices[0].read_bytes()
    (found,) = client.post("/v1/predict?explain=true", content=data).json()["answers"]
    alone = client.post("/v1/explain", content=data)
    assert alone.headers["content-type"] == "image/png"
    assert base64.b64decode(found["picture"].partition("base64,")[2])[:8] == alone.content[:8] == b"\x89PNG\r\n\x1a\n"


def test_what_has_no_answer_has_no_picture(client: TestClient) -> None:
    sent = client.post("/v1/explain", content=NOISE)
    assert (sent.status_code, sent.json()["detail"]) == (422, "-: text; expected a sound file")


def test_a_long_recording_is_answered_apart(client: TestClient, bundle_folder: Path, tmp_path: Path) -> None:
    clip = clip_file(tmp_path / "long.wav", vowel(120, 31.0))
    (found,) = client.post("/v1/predict", content=clip.read_bytes()).json()["answers"]
    assert found == {"path": "-"} | expected(bundle_folder, clip)


def test_sound_over_the_limit_is_an_error_of_that_file(start: Start, tmp_path: Path) -> None:
    clip = clip_file(tmp_path / "long.wav", vowel(120, 2.0))
    (found,) = start(max_seconds=1).post("/v1/predict", content=clip.read_bytes()).json()["answers"]
    assert found == {"path": "-", "error": "-: over 1 s; expected at most 1 s"}


def test_a_body_over_the_limit_is_refused(start: Start) -> None:
    client = start(max_mib=1)
    sent = client.post("/v1/predict", files=files(("a.wav", bytes(2**20 + 1))))
    assert (sent.status_code, sent.json()["detail"]) == (413, "a.wav: 1048577 bytes; expected at most 1048576")
    assert client.post("/v1/predict", content=bytes(2**21 + 1)).status_code == 413
    assert client.post("/v1/predict", content=iter([bytes(2**20)] * 3)).status_code == 413


def test_more_files_than_allowed_are_refused(start: Start) -> None:
    sent = start(max_files=2).post("/v1/predict", files=files(*[("a.wav", NOISE)] * 3))
    assert sent.status_code == 413


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"broken", "multipart/form-data; boundary=x", 400),
        (b"", "multipart/form-data", 400),
        (
            b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--',
            "multipart/form-data; boundary=x",
            422,
        ),
    ],
)
def test_a_broken_form_is_refused(client: TestClient, body: bytes, kind: str, status: int) -> None:
    assert client.post("/v1/predict", content=body, headers={"Content-Type": kind}).status_code == status


def test_the_model_is_described(client: TestClient, bundle_folder: Path) -> None:
    found = client.get("/v1/model").json()
    assert (found["architecture"], found["recipe"], found["synthetic"]) == ("cnn", "mfcc", True)
    assert found["test"] == {"balanced_accuracy": 0.75}


def test_without_a_model_the_service_lives_and_is_not_ready(start: Start, tmp_path: Path) -> None:
    client = start(ready=False, model_uri=str(tmp_path / "none"))
    assert client.get("/health").status_code == 200
    for sent in (client.get("/ready"), client.post("/v1/predict", content=NOISE), client.get("/ping")):
        assert (sent.status_code, sent.headers["retry-after"]) == (503, "2")


def test_metrics_count_requests_and_answers(client: TestClient, voices: list[Path]) -> None:
    def counted() -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith('agr_answers_total{label="'))

    before = counted()
    client.post("/v1/predict", files=files(("a.wav", voices[0].read_bytes()), ("b", NOISE)))
    assert counted() == before + 2


def test_the_documentation_loads_nothing_and_names_every_route(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "<script" not in page and "http" not in page
    assert all(path in page for path in client.get("/openapi.json").json()["paths"])
