"""The service stands in for `mlflow models serve`."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from fastapi.testclient import TestClient

from agr import serving
from agr.inference import bundle

FORMS: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "split": lambda values: {"dataframe_split": {"columns": ["audio"], "data": [[each] for each in values]}},
    "records": lambda values: {"dataframe_records": [{"audio": each} for each in values]},
    "inputs": lambda values: {"inputs": {"audio": values}},
    "instances": lambda values: {"instances": [{"audio": each} for each in values]},
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_those_of_mlflows_server(
    client: TestClient, bundle_folder: Path, voices: list[Path], form: str
) -> None:
    values = [base64.b64encode(data).decode() for data in (voices[0].read_bytes(), voices[9].read_bytes(), b"junk")]
    found = client.post("/invocations", json=FORMS[form](values)).json()["predictions"]
    table = serving.Served(bundle.load(bundle_folder)).predict(pandas.DataFrame({"audio": values}))
    for row, wanted in zip(found, table.to_dict("records"), strict=True):
        assert (row["label"], row["error"]) == (wanted["label"], wanted["error"])
        assert row["female"] == (None if wanted["female"] is None else pytest.approx(wanted["female"], abs=1e-5))


@pytest.mark.parametrize(
    "body", ["", "[]", "7", '{"inputs": {}}', '{"dataframe_split": {"columns": ["x"]}}', "[" * 10_000]
)
def test_a_table_without_the_column_is_refused(client: TestClient, body: str) -> None:
    sent = client.post("/invocations", content=body)
    assert (sent.status_code, sent.json()["status"]) == (400, 400)


def test_ping_answers_when_there_is_a_model(client: TestClient) -> None:
    assert client.get("/ping").status_code == 200


def test_what_is_no_base64_is_an_error_of_its_row(client: TestClient) -> None:
    given: list[Any] = ["é", 3, None]
    rows = client.post("/invocations", json={"inputs": {"audio": given}}).json()["predictions"]
    assert all(row["label"] is None and row["error"] for row in rows)
