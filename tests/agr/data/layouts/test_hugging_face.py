"""Hugging Face's data sets, made here; the hub is a stand-in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from agr.data.clips import Corpus
from agr.data.corpus import open_corpus
from agr.errors import CorpusError, FetchError

datasets = pytest.importorskip("datasets")

SOUNDS = [f"sound {at}".encode() for at in range(4)]  # nothing decodes them
PEOPLE: dict[str, list[Any]] = {
    "speaker_id": [1, 1, 2, 3],
    "gender": [1, 1, 0, -1],
    "age": ["20s", None, "40", ""],
}
BY_CLASS = ("male", "female")


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def data_set(recordings: list[dict[str, Any] | None] | None = None, **columns: list[Any]) -> Any:
    """Four recordings of three speakers, the last one without a gender, undecoded as they come from a hub."""
    column = recordings or [{"bytes": sound, "path": f"{at}.flac"} for at, sound in enumerate(SOUNDS)]
    made = datasets.Dataset.from_dict(
        {**PEOPLE, **columns, "audio": column},
        features=datasets.Features(
            {
                "speaker_id": datasets.Value("int64"),
                "gender": datasets.Value("string") if columns else datasets.ClassLabel(names=list(BY_CLASS)),
                "age": datasets.Value("string"),
                "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            }
        ),
    )
    return made if recordings else made.cast_column("audio", datasets.Audio())


def opened(source: Path | str, workspace: Path, **columns: str) -> Corpus:
    return open_corpus(str(source), workspace, columns=columns)


def check(found: Corpus, split: str, workspace: Path) -> None:
    assert [(clip.name, clip.speaker, clip.gender, clip.extra["age"]) for clip in found.clips] == [
        (f"{split}/0000000.flac", "1", "female", "20s"),
        (f"{split}/0000001.flac", "1", "female", ""),
        (f"{split}/0000002.flac", "2", "male", "40"),
    ]
    assert [clip.path.read_bytes() for clip in found.clips] == SOUNDS[:3]
    assert found.skipped == ((f"{split}/0000003", "gender ''; expected female or male"),)
    assert found.root.parent == workspace
    assert sum(path.is_file() for path in found.root.rglob("*")) == 4  # with the manifest, and nothing in between


def test_a_saved_data_set(tmp_path: Path) -> None:
    data_set().save_to_disk(tmp_path / "voices")
    check(opened(tmp_path / "voices", tmp_path / "work"), "all", tmp_path / "work")


def test_a_saved_data_set_with_splits(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": data_set(), "test": data_set()}).save_to_disk(tmp_path / "voices")
    found = opened(tmp_path / "voices", tmp_path / "work")
    assert [clip.extra["split"] for clip in found.clips] == ["train"] * 3 + ["test"] * 3
    assert [name for name, _ in found.skipped] == ["train/0000003", "test/0000003"]


def test_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "voices" / "data").mkdir(parents=True)
    path = tmp_path / "voices" / "data" / "train-00000-of-00001.parquet"
    data_set().to_parquet(path)
    check(opened(tmp_path / "voices", tmp_path / "work"), "train", tmp_path / "work")
    check(opened(path, tmp_path / "other"), "train", tmp_path / "other")


def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(*wanted: str | None) -> Any:
        asked.append(wanted)
        return datasets.DatasetDict({"validation": data_set()})

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = opened("hf:somebody/voices:tr", tmp_path)
    check(found, "validation", tmp_path)
    assert found.name == "somebody-voices"
    opened("hf:somebody/voices:tr", tmp_path)
    assert asked == [("somebody/voices", "tr")]  # the second time it is there


def test_a_hub_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*wanted: str | None) -> Any:
        raise ConnectionError("no\nroute")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(FetchError, match=r"^hf:a/b: no route; expected a data set of the Hugging Face hub$"):
        opened("hf:a/b", tmp_path)


@pytest.mark.parametrize("source", ["hf:", "hf:voices", "hf:/voices", "hf:a/b/c"])
def test_what_is_no_name_of_the_hub(tmp_path: Path, source: str) -> None:
    with pytest.raises(CorpusError, match=r"expected hf:OWNER/NAME$"):
        opened(source, tmp_path)


def test_what_was_written_before_an_interruption_is_kept(tmp_path: Path) -> None:
    data_set().save_to_disk(tmp_path / "voices")
    first = opened(tmp_path / "voices", tmp_path / "work")
    kept, lost = first.clips[0].path, first.clips[1].path
    before = kept.stat().st_mtime_ns
    (first.root / "manifest.csv").unlink()
    lost.unlink()
    check(opened(tmp_path / "voices", tmp_path / "work"), "all", tmp_path / "work")
    assert kept.stat().st_mtime_ns == before


def test_recordings_beside_a_data_set_that_names_them(tmp_path: Path) -> None:
    names = [{"bytes": None, "path": f"{at}.flac"} for at in range(3)]
    data_set([*names, None]).save_to_disk(tmp_path / "voices")
    for at in (0, 1):
        (tmp_path / "voices" / f"{at}.flac").write_bytes(SOUNDS[at])
    found = opened(tmp_path / "voices", tmp_path / "work")
    assert [clip.path.read_bytes() for clip in found.clips] == SOUNDS[:2]
    assert ("row 4", "nothing in column path; expected a file") in found.skipped


def test_a_data_set_that_names_files_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.flac").write_bytes(b"secret")
    data_set([{"bytes": None, "path": "../secret.flac"}] * 4).save_to_disk(tmp_path / "voices")
    with pytest.raises(CorpusError, match=r"'\.\./secret\.flac' leads to"):
        opened(tmp_path / "voices", tmp_path / "work")


def test_labels_and_columns_that_the_user_names(tmp_path: Path) -> None:
    data_set(gender=["1", "1", "2", "9"]).rename_column("speaker_id", "who").save_to_disk(tmp_path / "voices")
    with pytest.raises(CorpusError, match=r"columns who,gender,age,audio; expected also speaker, or --columns speaker"):
        opened(tmp_path / "voices", tmp_path / "work")
    found = opened(tmp_path / "voices", tmp_path / "work", speaker="who", female="1", male="2")
    assert [(clip.speaker, clip.gender) for clip in found.clips] == [("1", "female"), ("1", "female"), ("2", "male")]


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "train.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(CorpusError) as caught:
        opened(tmp_path / "voices", tmp_path / "work")
    assert str(caught.value).startswith(f"{tmp_path / 'voices'}: ")
    assert "\n" not in str(caught.value)


def test_without_the_package_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_set().save_to_disk(tmp_path / "voices")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match=r"voices: .*expected the package datasets, as `pip install agr\[datasets\]`"):
        opened(tmp_path / "voices", tmp_path / "work")


RECORDING = {"bytes": b"sound", "path": "a.flac"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"audio": None}, "columns speaker,gender; expected also path, or --columns path=COLUMN; read as "),
        ({"audio": [[0.1, 0.2]]}, "column audio is of type list; expected recordings or their paths"),
        ({"audio": [7]}, "column audio is of type int64; expected recordings or their paths"),
        ({"audio": [{"x": 1}]}, "column audio is of type dict; expected recordings or their paths"),
        ({"speaker": [{"id": 1}]}, "column speaker is of type dict; expected text or numbers"),
        ({"gender": [["f"]]}, "column gender is of type list; expected text or numbers"),
    ],
)
def test_an_odd_parquet_table_is_one_line(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    columns = {"speaker": ["ann"], "gender": ["f"], "audio": [RECORDING]} | change
    path = tmp_path / "odd.parquet"
    datasets.Dataset.from_dict({name: values for name, values in columns.items() if values}).to_parquet(path)
    with pytest.raises(CorpusError) as caught:
        opened(path, tmp_path / "workspace")
    assert str(caught.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(caught.value)


def test_no_rows_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    data_set().select([]).to_parquet(path)
    with pytest.raises(
        CorpusError, match=r"empty\.parquet: 0 rows; expected recordings with their speakers and genders$"
    ):
        opened(path, tmp_path / "work")


def test_no_labelled_clip_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "unlabelled.parquet"
    data_set(gender=[""] * 4).to_parquet(path)
    for _ in range(2):  # the second time it is written already
        with pytest.raises(
            CorpusError, match=r"unlabelled\.parquet: no labelled clips, the first of 4 skipped: gender ''"
        ):
            opened(path, tmp_path / "work")


def test_of_a_saved_data_set_only_its_own_files_tell_whether_it_changed(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": data_set()}).save_to_disk(tmp_path / "elsewhere")
    voices = tmp_path / "voices"
    data_set().save_to_disk(voices / "inside" / "another")
    for path in (tmp_path / "elsewhere").glob("*.json"):
        path.rename(voices / path.name)
    (voices / "train").symlink_to(tmp_path / "elsewhere" / "train")  # the split is a link
    (voices / "circle").symlink_to(voices)
    (voices / "nowhere.json").symlink_to(voices / "nowhere.json")
    first = opened(voices, tmp_path / "work")
    check(first, "train", tmp_path / "work")
    (voices / "inside" / "another" / "note.json").write_text("{}")
    assert opened(voices, tmp_path / "work").root == first.root
    data_set(gender=["male", "male", "female", "female"]).save_to_disk(tmp_path / "elsewhere" / "train")
    assert [clip.gender for clip in opened(voices, tmp_path / "work").clips] == ["male", "male", "female", "female"]
