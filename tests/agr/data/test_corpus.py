"""Opening sources: which clips are listed, skipped with a reason, or refused."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agr.common.progress import terminal_progress
from agr.data import corpus
from agr.data.clips import Clip, Corpus
from agr.data.corpus import open_corpus
from agr.data.layouts.audiomnist import METADATA
from agr.data.layouts.manifest import MANIFEST_COLUMNS
from agr.errors import CorpusError
from agr.labels import normalise_gender

# Untidy entries like those in the published file, with made-up people: a numeric age, an age of 1234, trailing spaces.
UNTIDY: dict[str, Any] = {
    "01": {"accent": "german", "age": 30, "gender": "male", "native speaker": "no"},
    "02": {"accent": "German ", "age": "1234", "gender": "female ", "native speaker": "no"},
    "03": {"accent": "  South Korean", "age": " 25 ", "gender": "Male", "native speaker": "no"},
    "04": {"accent": "Arabic", "age": "-", "gender": "F"},
    "05": {"gender": "w0man"},
}


def layout(root: Path, names: list[str], people: object = UNTIDY, encoding: str = "utf-8") -> Path:
    """A folder in AudioMNIST's layout; its recordings are empty files, as listing them reads none."""
    for name in names:
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / name).touch()
    (root / "data").mkdir(parents=True, exist_ok=True)
    text = people if isinstance(people, str) else json.dumps(people, indent=4)
    (root / "data" / METADATA).write_text(text, encoding=encoding)
    return root


def manifest(root: Path, text: str | bytes, name: str = "voices.csv") -> Path:
    path = root / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def opened(path: Path) -> Corpus:
    return open_corpus(str(path), path.parent / "workspace")


def refusal(path: Path) -> str:
    """The message of the CorpusError: one line that names the source."""
    with pytest.raises(CorpusError) as caught:
        opened(path)
    message = str(caught.value)
    assert type(caught.value) is CorpusError
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


# --- sources


@pytest.mark.parametrize("below", [".", "data"])
def test_a_folder_in_audiomnists_layout_or_its_data_folder(demo_root: Path, below: str) -> None:
    found = opened(demo_root / below)
    assert len(found.clips) == 80
    assert found.skipped == ()
    assert found.synthetic
    assert not found.ready_images
    assert found.root == demo_root / "data"
    clip = found.clips[0]
    assert (clip.path, clip.name, clip.speaker) == (demo_root / "data/01/0_01_0.wav", "01/0_01_0.wav", "01")
    assert clip.extra == {"digit": "0", "repetition": "0", "accent": "synthetic", "age": ""}
    written = json.loads((demo_root / "data" / METADATA).read_text())
    assert {clip.speaker: clip.gender for clip in found.clips} == {key: who["gender"] for key, who in written.items()}


def test_a_csv_manifest_keeps_its_other_columns_and_reads_paths_relative_to_itself(tmp_path: Path) -> None:
    text = f"speaker,path,gender,room\nann,a/1.flac,F,hall\n bob ,{tmp_path}/b/2.wav,male,\n"
    found = opened(manifest(tmp_path, text))
    assert found.clips == (
        Clip(tmp_path / "a/1.flac", "a/1.flac", "ann", "female", {"room": "hall"}),
        Clip(tmp_path / "b/2.wav", f"{tmp_path}/b/2.wav", "bob", "male", {"room": ""}),
    )
    assert (found.name, found.root, found.ready_images, found.synthetic) == ("voices", tmp_path, False, False)


@pytest.mark.parametrize(("value", "synthetic"), [("1", True), ("Yes", True), ("0", False), ("", False)])
def test_synthetic_column_of_a_manifest(tmp_path: Path, value: str, synthetic: bool) -> None:
    found = opened(manifest(tmp_path, f"path,speaker,gender,synthetic\n1.wav,ann,f,{value}\n"))
    assert found.synthetic is synthetic


def test_a_folder_with_a_manifest_of_recordings(tmp_path: Path) -> None:
    manifest(tmp_path, "path,speaker,gender\n1.wav,ann,f\n", "manifest.csv")
    found = opened(tmp_path)
    assert (found.name, len(found.clips), found.ready_images) == (tmp_path.name, 1, False)


def test_a_folder_of_published_images(tmp_path: Path) -> None:
    text = "image,gender,speaker,digit\ntrain/female/a.jpg,female,12,7\nval/male/b.jpg,male,01,0\n"
    manifest(tmp_path, text, "manifest.csv")
    found = opened(tmp_path)
    assert found.ready_images
    assert [clip.name for clip in found.clips] == ["train/female/a.jpg", "val/male/b.jpg"]
    assert [clip.extra for clip in found.clips] == [{"digit": "7", "folder": "train"}, {"digit": "0", "folder": "val"}]


@pytest.mark.parametrize("kind", ["absent", "empty folder", "a sound file"])
def test_other_sources_are_refused_with_what_was_expected(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "empty folder":
        path.mkdir()
    elif kind == "a sound file":
        path.touch()
    found = {"absent": "no such file", "empty folder": "no known corpus layout", "a sound file": "a file"}[kind]
    assert found in refusal(path)


def test_message_about_an_unknown_folder_lists_every_layout(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert all(layout.EXPECTED in message for layout in corpus.LAYOUTS)
    assert "data/audioMNIST_meta.txt" in message


def test_audiomnist_is_fetched_into_the_workspace_with_its_progress_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(root: Path, progress: object) -> Path:
        assert progress is terminal_progress
        return layout(root, NAMES)

    monkeypatch.setattr("agr.data.audiomnist.fetch_audiomnist", fetched)
    found = open_corpus("audiomnist", tmp_path)
    assert (found.name, found.root, len(found.clips)) == ("audiomnist", tmp_path / "audiomnist" / "data", 4)


# --- gender, age and accent


@pytest.mark.parametrize("value", ["female", "F", "f", " Female ", "WOMAN"])
def test_spellings_of_female(value: str) -> None:
    assert normalise_gender(value) == "female"


@pytest.mark.parametrize("value", ["male", "M", "m", "male  ", "Man"])
def test_spellings_of_male(value: str) -> None:
    assert normalise_gender(value) == "male"


@pytest.mark.parametrize("value", ["", "w0man", "x", None, 1, "fe male", "female/male"])
def test_other_spellings_are_rejected(value: object) -> None:
    assert normalise_gender(value) is None


NAMES = ["01/0_01_0.wav", "02/0_02_0.wav", "03/0_03_0.wav", "04/9_04_49.wav", "05/0_05_0.wav", "06/0_06_0.wav"]


def test_untidy_metadata_is_normalised_or_skipped_with_a_reason(tmp_path: Path) -> None:
    found = opened(layout(tmp_path, NAMES))
    assert [(clip.speaker, clip.gender, clip.extra["age"], clip.extra["accent"]) for clip in found.clips] == [
        ("01", "male", "30", "german"),
        ("02", "female", "", "German"),
        ("03", "male", "25", "South Korean"),
        ("04", "female", "", "Arabic"),
    ]
    assert found.clips[3].extra["digit"] == "9"
    assert found.clips[3].extra["repetition"] == "49"
    assert found.skipped == (
        ("05/0_05_0.wav", "speaker 05 has gender 'w0man'; expected female or male"),
        ("06/0_06_0.wav", "speaker 06 is not in audioMNIST_meta.txt"),
    )
    assert not found.synthetic


def test_published_audiomnist_metadata(tmp_path: Path, real_metadata: Path) -> None:
    text = real_metadata.read_text(encoding="utf-8")
    people = json.loads(text)
    names = [f"{speaker}/0_{speaker}_0.wav" for speaker in people]
    found = opened(layout(tmp_path, names, text))
    assert found.skipped == ()
    assert len(found.clips) == 60
    assert sum(clip.gender == "female" for clip in found.clips) == 12
    ages = {clip.speaker: clip.extra["age"] for clip in found.clips}
    odd = [speaker for speaker, person in people.items() if person["age"] == "1234"]
    assert len(odd) == 1
    assert [speaker for speaker, age in ages.items() if not age] == odd
    assert all(age.isdecimal() and 18 <= int(age) <= 99 for speaker, age in ages.items() if speaker not in odd)
    assert any(isinstance(person["age"], int) for person in people.values())
    assert any(line.endswith(" ") for line in text.splitlines())
    assert all(clip.extra["accent"] == clip.extra["accent"].strip() != "" for clip in found.clips)


# --- names and folders


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("01/hello.wav", "named hello.wav; expected DIGIT_SPEAKER_REPETITION.wav"),
        ("01/10_01_0.wav", "named 10_01_0.wav; expected DIGIT_SPEAKER_REPETITION.wav"),
        ("01/0_02_0.wav", "speaker 02 in the name, 01 in the folder; expected the same"),
        ("0_01_0.wav", "speaker 01 in the name, data in the folder; expected the same"),
        ("77/0_77_0.wav", "speaker 77 is not in audioMNIST_meta.txt"),
    ],
)
def test_a_recording_that_cannot_be_labelled_is_skipped_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    found = opened(layout(tmp_path, ["01/0_01_0.wav", name]))
    assert [clip.name for clip in found.clips] == ["01/0_01_0.wav"]
    assert found.skipped == ((name, reason),)


def test_other_files_are_ignored(tmp_path: Path) -> None:
    found = opened(layout(tmp_path, ["01/0_01_0.wav", "01/0_01_1.txt", "README"]))
    assert len(found.clips) == 1
    assert found.skipped == ()


def test_corpus_without_a_labelled_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="the first of 1 skipped: speaker 06 is not in"):
        opened(layout(tmp_path, ["06/0_06_0.wav"]))


def test_corpus_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no labelled clips; expected recordings"):
        opened(layout(tmp_path, []))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '{"01": "male"}', '{"01": null}'])
def test_malformed_metadata_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CorpusError, match=f"{METADATA}: .*object") as caught:
        opened(layout(tmp_path, NAMES, text))
    assert "\n" not in str(caught.value)


def test_metadata_with_a_byte_order_mark_is_read_and_in_utf_16_refused(tmp_path: Path) -> None:
    assert len(opened(layout(tmp_path / "a", NAMES, encoding="utf-8-sig")).clips) == 4
    with pytest.raises(CorpusError, match=METADATA):
        opened(layout(tmp_path / "b", NAMES, encoding="utf-16"))


# --- malformed manifests


def test_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    found = opened(manifest(tmp_path, "\ufeffpath,speaker,gender\r\n1.wav,ann,F\r\n"))
    assert [clip.name for clip in found.clips] == ["1.wav"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "columns nothing; expected also path, speaker, gender"),
        ("path,speaker,gender\n", "no rows"),
        ("path:speaker:gender\n1.wav:ann:f\n", "expected also path, speaker, gender"),
        ("path,gender\n1.wav,f\n", "columns path,gender; expected also speaker"),
        ("path,speaker,gender\n1.wav,ann,f\n1.wav,bob,f\n", "listed for speakers ann, bob; expected one"),
        ("path,speaker,gender\n1.wav,ann,f\n2.wav,ann,m\n", "speaker ann is both female and male; expected one"),
        ("path,speaker,gender\n1.wav,ann,?\n", "the first of 1 skipped: gender '?'; expected female or male"),
        ("path,speaker,gender\nc\u00e9cile.wav,c,f\n".encode("latin-1"), "expected a text in UTF-8 or UTF-16"),
        ("path,speaker,gender\n1.wav,ann,f\n".encode("utf-32"), "expected a text in UTF-8 or UTF-16"),
    ],
)
def test_inconsistent_manifest_is_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    assert reason in refusal(manifest(tmp_path, text))


def test_rows_without_gender_or_speaker_are_skipped_with_the_reason(tmp_path: Path) -> None:
    text = "path,speaker,gender\n1.wav,ann,f\n2.wav,bob\n3.wav, ,m\n4.wav,cy,other,surplus\n"
    found = opened(manifest(tmp_path, text))
    assert [clip.name for clip in found.clips] == ["1.wav"]
    assert found.skipped == (
        ("2.wav", "gender ''; expected female or male"),
        ("3.wav", "no speaker; expected a name or number"),
        ("4.wav", "gender 'other'; expected female or male"),
    )


def test_ready_images_without_gender_or_speaker_are_skipped_with_the_reason(tmp_path: Path) -> None:
    text = "image,gender,speaker\na.jpg,f, 12 \nb.jpg,?,12\nc.jpg,m,\n"
    manifest(tmp_path, text, "manifest.csv")
    found = opened(tmp_path)
    assert [(clip.name, clip.speaker) for clip in found.clips] == [("a.jpg", "12")]
    assert found.skipped == (
        ("b.jpg", "gender '?'; expected female or male"),
        ("c.jpg", "no speaker; expected a name or number"),
    )


def test_ready_images_without_a_speaker_column_are_refused(tmp_path: Path) -> None:
    path = manifest(tmp_path, "image,gender\na.jpg,f\n", "manifest.csv")
    with pytest.raises(CorpusError, match="expected also speaker"):
        opened(path.parent)


def test_quoted_names_in_a_manifest_are_read(tmp_path: Path) -> None:
    names = ['a "b", c.wav', "d\ne.wav", "\u65e5\u672c.wav"]
    with (tmp_path / "voices.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([MANIFEST_COLUMNS, *([name, "ann", "f"] for name in names)])
    assert [clip.name for clip in opened(tmp_path / "voices.csv").clips] == names


# --- what a manifest may name


WAYS_OUT = {
    "climbing": "../secret.wav",
    "climbing from below": "deep/../../secret.wav",
    "whole": "ROOT/secret.wav",
    "whole, of nothing": "/nowhere/at/all.wav",
    "a sibling whose name begins alike": "../inside2/x.wav",
    "a link": "link.wav",
    "a link to a link": "chain.wav",
    "through a linked folder": "up/secret.wav",
    "the folder above": "..",
}


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A folder with links out of it."""
    folder = tmp_path / "inside"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "secret.wav").touch()
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    (folder / "chain.wav").symlink_to("link.wav")
    (folder / "up").symlink_to("..", target_is_directory=True)
    (folder / "deep" / "own.wav").symlink_to("../1.wav")
    return folder


@pytest.mark.parametrize("how", WAYS_OUT)
@pytest.mark.parametrize("images", [False, True])
def test_manifest_names_files_outside_its_folder_only_if_allowed(inside: Path, how: str, images: bool) -> None:
    way = WAYS_OUT[how].replace("ROOT", str(inside.parent))
    column = "image" if images else "path"
    manifest(inside, f"{column},speaker,gender\n1.wav,ann,f\n{way},bob,m\n", "manifest.csv")
    text = refusal(inside / "manifest.csv") if not images else refused(inside)
    assert f"{way!r} leads to " in text
    assert f"expected files below {inside}, or agr.prepare with --allow-outside" in text
    found = open_corpus(str(inside), inside / "workspace", allow_outside=True)
    assert [clip.name for clip in found.clips] == ["1.wav", way]


def refused(folder: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        opened(folder)
    return str(caught.value)


@pytest.mark.parametrize(
    "way", ["./1.wav", "deep/../1.wav", "deep/own.wav", "INSIDE/1.wav", "up/inside/1.wav", "..wav"]
)
def test_manifest_may_name_files_inside_its_folder_in_any_way(inside: Path, way: str) -> None:
    way = way.replace("INSIDE", str(inside))
    found = opened(manifest(inside, f"path,speaker,gender\n{way},ann,f\n"))
    assert [clip.name for clip in found.clips] == [way]


def test_a_manifest_in_a_linked_folder_may_name_its_files(inside: Path, tmp_path: Path) -> None:
    manifest(inside, "path,speaker,gender\n1.wav,ann,f\n")
    (tmp_path / "linked").symlink_to("inside", target_is_directory=True)
    assert len(opened(tmp_path / "linked" / "voices.csv").clips) == 1


def test_circular_links_are_not_followed_forever(tmp_path: Path) -> None:
    root = layout(tmp_path / "voices", ["01/0_01_0.wav"])
    (root / "data" / "01" / "again").symlink_to("..", target_is_directory=True)
    (root / "data" / "02").symlink_to(".", target_is_directory=True)
    (root / "data" / "01" / "1_01_0.wav").symlink_to("1_01_0.wav")
    (root / "data" / "01" / "2_01_0.wav").symlink_to("3_01_0.wav")
    (root / "data" / "01" / "3_01_0.wav").symlink_to("2_01_0.wav")
    assert [clip.name for clip in opened(root).clips] == ["01/0_01_0.wav"]
    found = opened(manifest(root, "path,speaker,gender\ndata/01/1_01_0.wav,ann,f\ndata/02/02/02/01/0_01_0.wav,bob,m\n"))
    assert len(found.clips) == 2  # the first is there and cannot be read, as prepare says


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("name", ["pipe.wav", "zero.wav"])
def test_pipe_or_device_is_refused_without_waiting(tmp_path: Path, name: str, allowed: bool) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    path = manifest(tmp_path, f"path,speaker,gender\n{name},ann,f\n")
    with pytest.raises(CorpusError) as caught:
        open_corpus(str(path), tmp_path, allowed)
    outside = name == "zero.wav" and not allowed
    assert ("leads to '/dev/zero'" if outside else f"{name!r} is a pipe or a device; expected a file") in str(
        caught.value
    )
