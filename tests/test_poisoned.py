"""A registered model's folder with payloads planted in it, at the terminal: nothing runs, and one line says why not."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agr.errors import ModelError
from agr.inference.bundle import INFO, SEEN, WEIGHTS
from agr.registry import resolve
from agr.registry.uri import BUNDLE, DIGEST_TAG, StoreUri

Plant = Callable[[Path, Path], None]


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


def pickles(folder: Path, marker: Path) -> None:
    data = pickle.dumps(Payload(marker))
    for name in (
        "python_model.pkl",
        "model.pth",
        "model.pkl",
        "weights.pt",
        "data/model.pth",
        "data/pickle_module_info",
    ):
        (folder / name).write_bytes(data)


def code(folder: Path, marker: Path) -> None:
    text = f"import os\nos.mkdir({str(marker)!r})\n_load_pyfunc = predict = None\n"
    for place in (folder, folder / "code", folder / "code" / "agr"):
        place.mkdir(exist_ok=True)
        for name in ("__init__.py", "evil.py", "sitecustomize.py", "conftest.py", "torch.py", "evil.pth"):
            (place / name).write_text(text)


def loader(folder: Path, marker: Path) -> None:
    """MLflow would import `evil` for this; a YAML tag that builds an object would run at once."""
    code(folder, marker)
    flavour = {"loader_module": "evil", "code": "code", "data": "code", "python_model": "python_model.pkl"}
    tag = f"!!python/object/apply:os.mkdir [{str(marker)!r}]"
    (folder / "MLmodel").write_text(f"{json.dumps({'flavors': {'python_function': flavour}})}\n---\n{tag}\n")


def environments(folder: Path, marker: Path) -> None:
    """What an environment that is made for the model would install, and run."""
    setup = f"import os; os.mkdir({str(marker)!r})\nfrom setuptools import setup; setup(name='evil')\n"
    (folder / "evil").mkdir()
    (folder / "evil" / "setup.py").write_text(setup)
    (folder / "requirements.txt").write_text(f"--no-index\n{folder}/evil\n")
    (folder / "conda.yaml").write_text(f"dependencies: [pip, {{pip: ['{folder}/evil']}}]\n")
    (folder / "python_env.yaml").write_text(f"build_dependencies: ['{folder}/evil']\ndependencies: ['{folder}/evil']\n")


def another_bundle(folder: Path, marker: Path) -> None:
    """A card where one that is no MLflow model would have it."""
    (folder / INFO).write_text(json.dumps({"format": 99, "says": str(marker)}))


BESIDE: Sequence[Plant] = (pickles, code, loader, environments, another_bundle)


@pytest.fixture
def planted(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store's model 1, which its registry calls `best`; the MLflow model's own folder."""
    import sqlite3

    root = Path(store.removeprefix("sqlite:///")).parent
    copy = tmp_path / "store"
    shutil.copytree(root, copy)
    database = sqlite3.connect(copy / "mlflow.db")
    with database:
        database.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)", (root.as_uri(), copy.as_uri()))
    database.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copy}/mlflow.db")
    folder = resolve.resolve("models:/agr/best").folder
    assert folder.is_relative_to(copy)
    return folder


def commands(clip: Path, data: Path) -> dict[str, list[str]]:
    return {
        "agr.predict": ["--json", str(clip)],
        "agr.evaluate": ["--json", "--data", str(data)],
        "agr.explain": ["--png", "why.png", str(clip)],
    }


@pytest.mark.parametrize("plant", BESIDE, ids=lambda plant: plant.__name__)
def test_what_is_planted_beside_a_bundle_does_not_run_and_the_bundle_answers(
    planted: Path,
    plant: Plant,
    voices: list[Path],
    prepared_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    marker = tmp_path / "it ran"
    plant(planted, marker)
    monkeypatch.chdir(planted)  # where Python would find modules first, were it asked to
    for module, arguments in commands(voices[0], prepared_root).items():
        if module == "agr.explain":
            continue  # it draws, which other tests look at
        before = set(sys.modules)
        assert importlib.import_module(module).main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["model"] == {"name": "agr", "version": 1}
        assert not {"evil", "sitecustomize"} & (set(sys.modules) - before)
    assert not marker.exists()


def pickled_weights(bundle: Path, marker: Path) -> None:
    (bundle / WEIGHTS).write_bytes(pickle.dumps(Payload(marker)))


def saved_weights(bundle: Path, marker: Path) -> None:
    import torch

    torch.save({"out.bias": Payload(marker)}, bundle / WEIGHTS)


def long_header(bundle: Path, marker: Path) -> None:
    (bundle / WEIGHTS).write_bytes((2**63).to_bytes(8, "little") + b"{}")


def deep_card(bundle: Path, marker: Path) -> None:
    (bundle / INFO).write_text("[" * 100_000)


def huge_card(bundle: Path, marker: Path) -> None:
    with (bundle / INFO).open("r+b") as file:
        file.truncate(2**28)


def other_recipe(bundle: Path, marker: Path) -> None:
    values = json.loads((bundle / INFO).read_text())
    values["recipe"]["name"] = "mel"
    (bundle / INFO).write_text(json.dumps(values))


def someone_met(bundle: Path, marker: Path) -> None:
    (bundle / SEEN).write_text('{"speakers": [], "recordings": []}')


def one_more_file(bundle: Path, marker: Path) -> None:
    (bundle / "model.pkl").write_bytes(pickle.dumps(Payload(marker)))


def nothing_left(bundle: Path, marker: Path) -> None:
    shutil.rmtree(bundle)


INSIDE: Sequence[Plant] = (
    pickled_weights,
    saved_weights,
    long_header,
    deep_card,
    huge_card,
    other_recipe,
    someone_met,
    one_more_file,
    nothing_left,
)


@pytest.mark.parametrize("plant", INSIDE, ids=lambda plant: plant.__name__)
def test_a_bundle_that_is_not_the_registered_one_is_refused_in_one_line(
    planted: Path, plant: Plant, voices: list[Path], prepared_root: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "it ran"
    plant(planted / BUNDLE, marker)
    for module, arguments in commands(voices[0], prepared_root).items():
        with pytest.raises(ModelError) as caught:
            importlib.import_module(module).main(arguments)
        text = str(caught.value)
        assert text.startswith(f"{planted / BUNDLE}: sha256 ")
        assert "as models:/agr@best was registered; its files were changed" in text
        assert "\n" not in text
    assert not marker.exists()


@pytest.mark.parametrize("plant", INSIDE, ids=lambda plant: plant.__name__)
def test_without_a_registry_that_knows_better_the_bundle_itself_is_refused(
    bundle_folder: Path, plant: Plant, tmp_path: Path, voices: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from agr.predict import main

    folder = Path(shutil.copytree(bundle_folder, tmp_path / "model"))
    plant(folder, tmp_path / "it ran")
    arguments = ["--model-uri", str(folder), str(voices[0])]
    if plant in (someone_met, one_more_file):  # which say nothing about the answer
        assert main(arguments) == 0
    else:
        with pytest.raises(ModelError) as caught:
            main(arguments)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)
    assert not (tmp_path / "it ran").exists()


def test_a_digest_that_was_changed_in_the_registry_is_refused(planted: Path) -> None:
    import sqlite3

    path = os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE model_version_tags SET value = ? WHERE key = ?", ("0" * 64, DIGEST_TAG))
    database.close()
    for uri in ("models:/agr/best", "models:/agr/1", "models:/agr/latest"):
        with pytest.raises(ModelError, match=r"expected 000000000000\.\.\., as models:/agr"):
            resolve.resolve(uri)


def test_mlflows_own_client_is_held_to_the_digest_too(planted: Path) -> None:
    store = os.environ["MLFLOW_TRACKING_URI"].replace("sqlite:", "sqlite+pysqlite:")  # which is not read directly
    assert StoreUri(store).database is None
    assert resolve.resolve("models:/agr/best", store).sha256 is not None
    someone_met(planted / BUNDLE, planted)
    with pytest.raises(ModelError, match="its files were changed"):
        resolve.resolve("models:/agr/best", store)


def test_the_payloads_work(tmp_path: Path) -> None:
    """Else the tests above would prove nothing."""
    pickles_at, marker = tmp_path / "a", tmp_path / "it ran"
    (pickles_at / "data").mkdir(parents=True)
    pickles(pickles_at, marker)
    pickle.loads((pickles_at / "python_model.pkl").read_bytes())
    assert marker.is_dir()
    marker.rmdir()
    code(pickles_at, marker)
    exec(textwrap.dedent((pickles_at / "evil.py").read_text()), {})
    assert marker.is_dir()
