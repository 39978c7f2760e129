"""Published corpora and folders, recognised by what is in them; listing reads no audio but its first bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agr.data import corpus
from agr.data.clips import Corpus
from agr.data.corpus import open_corpus
from agr.errors import CorpusError

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 1_600)

COMMON_VOICE = "client_id\tpath\tsentence_id\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\n"
ANN = 'ann\tcommon_voice_1.mp3\t7\t"So what,\t2\t0\ttwenties\tfemale_feminine\t\n'  # a quotation mark by itself
BOB = "bob\tcommon_voice_2.mp3\t7\tYes\t2\t0\tfourties\tmale_masculine\t\n"
OTHERS = "cy\tcommon_voice_3.mp3\t7\tYes\t2\t0\t\t\t\ndo\tcommon_voice_4.mp3\t7\tNo\t2\t0\t\tother\t\n"


def folder_of(root: Path, *names: str, **texts: str) -> Path:
    """A folder with recordings of these names, and texts, in whose names `__` stands for a dot."""
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, NOISE, 16_000, format="WAV")
    for name, text in texts.items():
        (root / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return root


def opened(path: Path, columns: Mapping[str, str] | None = None) -> Corpus:
    return open_corpus(str(path), path.parent / "workspace", columns=columns)


def people(found: Corpus) -> list[tuple[str, str, str]]:
    assert all(clip.path.is_file() for clip in found.clips)
    return [(clip.name, clip.speaker, clip.gender) for clip in found.clips]


def common_voice(root: Path) -> Path:
    names = [f"clips/common_voice_{at}.mp3" for at in (1, 2, 3, 4)]
    return folder_of(root, *names, validated__tsv=COMMON_VOICE + ANN + BOB + OTHERS)


def librispeech(root: Path) -> Path:
    table = ";ID  |SEX| SUBSET           |MINUTES| NAME\n14   | F | dev-clean        | 25.03 | Kristin | LeMoine\n"
    names = ["dev-clean/14/208/14-208-0000.flac", "dev-clean/16/1/16-1-0000.flac", "dev-clean/99/1/99-1-0000.flac"]
    return folder_of(root, *names, SPEAKERS__TXT=table + "16   | M | dev-clean | 25.11 | Bob\n")


def vctk(root: Path) -> Path:
    table = (
        "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np225  23  F    English    Southern  England\np226  22  M  English\n"
    )
    names = ["p225_001_mic1.flac", "p225_001_mic2.flac", "p225_002_mic2.flac"]
    paths = [f"wav48_silence_trimmed/p225/{name}" for name in names]
    return folder_of(root, *paths, "wav48_silence_trimmed/p226/p226_001_mic1.flac", speaker_info__txt=table)


def crema_d(root: Path) -> Path:
    table = "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n1002,21,Female,Caucasian,Hispanic\n"
    names = ["AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_IEO_SAD_LO.wav", "AudioMP3/1001_DFA_ANG_XX.mp3"]
    return folder_of(root, *names, VideoDemographics__csv=table)


def kaldi(root: Path) -> Path:
    texts = {"wav__scp": "ann-1 a/1.wav\nbob-1\tb 1.wav\ncy-1 c.wav\n", "utt2spk": "ann-1 ann\nbob-1 bob\n"}
    return folder_of(root, "a/1.wav", "b 1.wav", "c.wav", **texts, spk2gender="ann f\nbob m\n", spk2age="ann 30\n")


def vctk_of(root: Path) -> Path:
    vctk(root)
    (root / "speaker_info.txt").rename(root / "speaker-info.txt")
    return root


LAYOUTS: dict[str, tuple[Callable[[Path], Path], list[tuple[str, str, str, str]], list[tuple[str, str]], str]] = {
    "Common Voice": (
        common_voice,
        [
            ("clips/common_voice_1.mp3", "ann", "female", "twenties"),
            ("clips/common_voice_2.mp3", "bob", "male", "fourties"),
        ],
        [
            ("clips/common_voice_3.mp3", "gender ''; expected female or male"),
            ("clips/common_voice_4.mp3", "gender 'other'; expected female or male"),
        ],
        "clips of validated.tsv",
    ),
    "LibriSpeech": (
        librispeech,
        [
            ("dev-clean/14/208/14-208-0000.flac", "14", "female", ""),
            ("dev-clean/16/1/16-1-0000.flac", "16", "male", ""),
        ],
        [
            (
                "dev-clean/99/1/99-1-0000.flac",
                "reader 99 is not in SPEAKERS.TXT; expected READER/CHAPTER/99-1-0000.flac",
            )
        ],
        "",
    ),
    "VCTK": (
        vctk_of,
        [
            ("wav48_silence_trimmed/p225/p225_001_mic1.flac", "p225", "female", "23"),
            ("wav48_silence_trimmed/p225/p225_002_mic2.flac", "p225", "female", "23"),  # there is no other
            ("wav48_silence_trimmed/p226/p226_001_mic1.flac", "p226", "male", "22"),
        ],
        [],
        "1 recordings _mic2 hold the utterances of _mic1 once more, and are not used",
    ),
    "CREMA-D": (
        crema_d,
        [
            ("AudioWAV/1001_DFA_ANG_XX.wav", "1001", "male", "51"),
            ("AudioWAV/1002_IEO_SAD_LO.wav", "1002", "female", "21"),
        ],
        [],
        "AudioMP3: the recordings of AudioWAV once more, not used",
    ),
    "Kaldi": (
        kaldi,
        [("a/1.wav", "ann", "female", "30"), ("b 1.wav", "bob", "male", "")],
        [("c.wav", "utterance cy-1 is not in utt2spk")],
        "",
    ),
}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layouts(tmp_path: Path, name: str, wrapped: bool) -> None:
    make, clips, skipped, note = LAYOUTS[name]
    root = make(tmp_path / "voices" / "archive" if wrapped else tmp_path / "voices")
    found = opened(tmp_path / "voices")
    assert [(*who, clip.extra.get("age", "")) for who, clip in zip(people(found), found.clips, strict=True)] == clips
    assert found.skipped == tuple(skipped)
    assert len(found.notes) == bool(note)
    assert all(line.endswith(note) for line in found.notes)
    assert (found.name, found.ready_images, found.synthetic) == (root.name, False, False)


# --- Common Voice


def test_a_table_of_common_voice_by_itself(tmp_path: Path) -> None:
    root = common_voice(tmp_path / "tr")
    (root / "dev.tsv").write_text(COMMON_VOICE + BOB)
    found = opened(root / "dev.tsv")
    assert people(found) == [("clips/common_voice_2.mp3", "bob", "male")]
    assert found.name == "tr"


def test_train_dev_and_test_where_nothing_is_called_validated(tmp_path: Path) -> None:
    root = common_voice(tmp_path / "tr")
    (root / "validated.tsv").unlink()
    (root / "train.tsv").write_text(COMMON_VOICE + ANN)
    (root / "test.tsv").write_text(COMMON_VOICE + BOB)
    assert [clip.speaker for clip in opened(root).clips] == ["ann", "bob"]


def test_clips_that_were_not_downloaded_and_names_that_lead_elsewhere_are_skipped(tmp_path: Path) -> None:
    row = "eve\t../secret.mp3\t7\tYes\t2\t0\tteens\tfemale\t\n"
    root = folder_of(tmp_path / "tr", "clips/common_voice_1.mp3", "secret.mp3", validated__tsv=COMMON_VOICE + ANN + row)
    found = opened(root)
    assert [clip.speaker for clip in found.clips] == ["ann"]
    assert found.skipped == (("../secret.mp3", "not in clips/; expected a file"),)


def test_a_speaker_of_two_genders_is_left_out_and_told(tmp_path: Path) -> None:
    text = COMMON_VOICE + ANN + BOB + BOB.replace("_2.mp3", "_3.mp3").replace("male_masculine", "female")
    root = common_voice(tmp_path / "tr")
    (root / "validated.tsv").write_text(text)
    found = opened(root)
    assert [clip.speaker for clip in found.clips] == ["ann"]
    assert {reason for _, reason in found.skipped} == {"speaker bob is both female and male; expected one"}
    assert len(found.skipped) == 2


# --- LibriSpeech, VCTK


def test_a_part_of_librispeech_with_the_table_beside_it(tmp_path: Path) -> None:
    found = opened(librispeech(tmp_path / "LibriSpeech") / "dev-clean")
    assert [clip.speaker for clip in found.clips] == ["14", "16"]
    assert found.name == "dev-clean"


def test_multilingual_librispeech(tmp_path: Path) -> None:
    table = "SPEAKER | GENDER | PARTITION | MINUTES | BOOK ID | TITLE\n4800 | M | train | 18 | 5764 | Silesian\n"
    root = folder_of(tmp_path / "mls", "train/audio/4800/5764/4800_5764_000001.flac", metainfo__txt=table)
    assert people(opened(root)) == [("train/audio/4800/5764/4800_5764_000001.flac", "4800", "male")]


def test_a_list_of_ones_own_that_is_called_like_librispeechs_is_not_taken_for_it(tmp_path: Path) -> None:
    root = folder_of(
        tmp_path / "own", "female/ann/1.wav", speakers__txt="path,speaker,gender\nfemale/ann/1.wav,ann,f\n"
    )
    assert people(opened(root)) == [("female/ann/1.wav", "ann", "female")]


def test_the_first_edition_of_vctk_has_numbers_without_p(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "VCTK", "wav48/p225/p225_001.wav", "wav48/p999/p999_001.wav")
    (root / "speaker-info.txt").write_text("ID  AGE  GENDER\n225  23  F    English\n")
    found = opened(root)
    assert people(found) == [("wav48/p225/p225_001.wav", "p225", "female")]
    reason = "speaker p999 is not in speaker-info.txt; expected SPEAKER/p999_001.wav"
    assert found.skipped == (("wav48/p999/p999_001.wav", reason),)


# --- Kaldi


@pytest.mark.parametrize("command", ["touch ROOT/ran |", "| touch ROOT/ran", "sox a/1.wav -t wav - |"])
def test_a_command_of_kaldi_is_refused_and_never_run(tmp_path: Path, command: str) -> None:
    root = kaldi(tmp_path / "data")
    (root / "wav.scp").write_text(f"ann-1 {command.replace('ROOT', str(root))}\n")
    with pytest.raises(CorpusError, match=r"wav\.scp: ann-1 is the command '.*'; expected the path of a file$"):
        opened(root)
    assert not (root / "ran").exists()


def test_kaldi_names_files_outside_its_folder_only_if_allowed(tmp_path: Path) -> None:
    root = kaldi(tmp_path / "data")
    folder_of(tmp_path, "secret.wav")
    (root / "wav.scp").write_text("ann-1 ../secret.wav\n")
    with pytest.raises(CorpusError, match=r"'\.\./secret\.wav' leads to .*--allow-outside"):
        opened(root)
    assert len(open_corpus(str(root), tmp_path / "workspace", allow_outside=True).clips) == 1


@pytest.mark.parametrize(("name", "expected"), [("segments", "parts of recordings"), ("utt2spk", "No such file")])
def test_kaldi_folders_that_cannot_be_used(tmp_path: Path, name: str, expected: str) -> None:
    root = kaldi(tmp_path / "data")
    (root / name).unlink(missing_ok=True)
    if name == "segments":
        (root / name).write_text("ann-1-0 ann-1 0.0 1.0\n")
    with pytest.raises(CorpusError, match=f"{name}: .*{expected}"):
        opened(root)


# --- folders of women and men


@pytest.mark.parametrize(
    ("women", "men"),
    [("female", "male"), ("Women", "Men"), ("F", "M"), ("Frauen", "Männer"), ("w", "m"), ("kad\u0131n", "erkek")],
)
def test_a_folder_for_each_speaker(tmp_path: Path, women: str, men: str) -> None:
    names = [f"{women}/ann/1.wav", f"{women}/ann/deep/2.wav", f"{men}/1/1.wav", f"train/{women}/1/1.wav"]
    found = opened(folder_of(tmp_path / "voices", *names, "notes/3.wav"))
    assert {clip.name: (clip.speaker, clip.gender) for clip in found.clips} == {
        names[0]: ("female/ann", "female"),
        names[1]: ("female/ann", "female"),
        names[2]: ("male/1", "male"),
        names[3]: ("female/1", "female"),
    }
    assert found.skipped == (("notes/3.wav", "not in a folder of women or men; expected one named female or male"),)
    assert found.notes == ()


def test_linked_files_are_read_and_linked_folders_are_told(tmp_path: Path) -> None:
    folder_of(tmp_path / "far", "cleo/5.wav")
    root = folder_of(tmp_path / "voices", "female/ann/1.wav", "female/ann/2.wav", "male/bob/3.wav", "male/bob/4.wav")
    (root / "female" / "ann" / "6.wav").symlink_to(tmp_path / "far" / "cleo" / "5.wav")
    (root / "female" / "cleo").symlink_to(tmp_path / "far" / "cleo", target_is_directory=True)
    (root / "male" / "round").symlink_to("..", target_is_directory=True)
    (root / "male" / "bob" / "gone.wav").symlink_to("nowhere.wav")
    (root / "male" / "notes.txt").write_text("not a recording")
    found = opened(root)
    assert [clip.name for clip in found.clips if clip.speaker == "female/ann"] == [
        *("female/ann/1.wav", "female/ann/2.wav", "female/ann/6.wav")
    ]
    assert found.skipped == (
        ("female/cleo", "a link to a folder, which is not followed; expected a sound file"),
        ("male/bob/gone.wav", "cannot be read: No such file or directory; expected a sound file"),
        ("male/round", "a link to a folder, which is not followed; expected a sound file"),
    )


def test_the_beginning_of_a_name_for_each_speaker(tmp_path: Path) -> None:
    names = [
        "female/ann_1.wav",
        "female/ann_2.wav",
        "female/eve-1.wav",
        "male/bob_1.wav",
        "male/bob_2.wav",
        "male/cy_1.wav",
    ]
    found = opened(folder_of(tmp_path / "voices", *names))
    assert [clip.speaker for clip in found.clips] == [
        *["female/ann"] * 2,
        "female/eve",
        *["male/bob"] * 2,
        "male/cy",
    ]
    assert found.notes == (f"{tmp_path / 'voices'}: 6 files of 4 speakers, by what their names begin with",)


@pytest.mark.parametrize(
    "names",
    [
        ["female/1.wav", "female/2.wav", "male/3.wav"],
        ["female/clip_1.wav", "female/clip_2.wav", "male/clip_1.wav", "male/clip_2.wav"],
        ["female/a_1.wav", "female/a_2.wav", "female/b_1.wav", "male/a_1.wav", "male/a_2.wav", "male/c_1.wav"],
    ],
)
def test_every_file_is_a_speaker_of_its_own_where_none_is_told(tmp_path: Path, names: list[str]) -> None:
    found = opened(folder_of(tmp_path / "voices", *names))
    assert len({clip.speaker for clip in found.clips}) == len(names)
    what = "a speaker is told neither by a folder nor by a name"
    assert found.notes == (
        f"{tmp_path / 'voices'}: {what}, so each of {len(names)} files counts as a speaker of its own",
    )


# --- tables beside recordings


def test_the_only_table_in_a_folder_that_names_recordings_is_its_manifest(tmp_path: Path) -> None:
    text = "Datei;Sprecher;Geschlecht\na/1.wav;Ann;w\na/2.wav;Bob;m\n"
    root = folder_of(tmp_path / "voices", "a/1.wav", "a/2.wav", Tabelle__csv=text, prices__csv="item;price\n")
    assert people(opened(root)) == [("a/1.wav", "Ann", "female"), ("a/2.wav", "Bob", "male")]
    (root / "other.tsv").write_text("path\tspeaker\tgender\na/1.wav\tann\tf\n")
    with pytest.raises(CorpusError, match=r"tables Tabelle\.csv, other\.tsv; expected one"):
        opened(root)


def test_windows_paths(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "voices", "a/1.wav", "a\\2.wav")
    (root / "voices.csv").write_text("path,speaker,gender\na\\1.wav,ann,f\na\\2.wav,ann,f\n..\\3.wav,eve,f\n")
    with pytest.raises(CorpusError, match=r"'\.\./3\.wav' leads to"):
        opened(root / "voices.csv")
    (root / "voices.csv").write_text("path,speaker,gender\na\\1.wav,ann,f\na\\2.wav,ann,f\n")
    assert [clip.name for clip in opened(root / "voices.csv").clips] == ["a/1.wav", "a\\2.wav"]


def test_labels_that_may_mean_anything_are_used_once_declared(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "voices", voices__csv="path,speaker,gender\n1.wav,ann,1\n2.wav,bob,2\n3.wav,cy,3\n")
    with pytest.raises(CorpusError, match="gender '1'; expected female or male, or --columns female=LABEL male=LABEL"):
        opened(root / "voices.csv")
    found = opened(root / "voices.csv", {"female": "2", "male": "1"})
    assert [(clip.speaker, clip.gender) for clip in found.clips] == [("ann", "male"), ("bob", "female")]
    assert len(found.skipped) == 1


def test_children_rows_without_a_file_and_repeated_rows_are_left_out_and_told(tmp_path: Path) -> None:
    text = "path,speaker,gender,Age\n1.wav,ann,f,30\n2.wav,bo,m,9\n3.wav,cy,girl,\n,di,f,20\n1.wav,ann,f,30\n"
    found = opened(folder_of(tmp_path / "voices", voices__csv=text) / "voices.csv")
    assert [(clip.name, clip.extra) for clip in found.clips] == [("1.wav", {"age": "30"})]
    assert found.skipped == (
        ("2.wav", "age 9, a child; expected 14 or older"),
        ("3.wav", "gender 'girl', a child; expected female or male"),
        ("row 5", "nothing in column path; expected a file"),
        ("1.wav", "listed 2 times; expected once, so the first is kept"),
    )


def test_ages_that_say_nothing_are_counted_and_told_once(tmp_path: Path) -> None:
    ages = ["abc", "-3", "1234", "abc", "1235", "", "unknown", "30", "twenties"]
    rows = "".join(f"{at}.wav,{at},f,{age}\n" for at, age in enumerate(ages))
    root = folder_of(tmp_path / "voices", voices__csv="path,speaker,gender,age\n" + rows)
    found = opened(root / "voices.csv")
    assert len(found.clips) == len(ages)
    assert found.notes == (
        f"{root / 'voices.csv'}: 5 clips have an age that says nothing, as 'abc', '-3', '1234'; "
        "their age counts as unknown",
    )


def test_a_line_of_kaldi_with_nothing_but_a_key_is_left_out_and_told(tmp_path: Path) -> None:
    root = kaldi(tmp_path / "voices")
    with (root / "wav.scp").open("a") as file:
        file.write("ann-9\n")
    assert ("ann-9", "nothing behind it in wav.scp; expected a file") in opened(root).skipped


def test_columns_that_do_not_apply_are_told(tmp_path: Path) -> None:
    found = opened(common_voice(tmp_path / "tr"), {"path": "file"})
    assert found.notes[-1].endswith("tr: read as Common Voice, for which --columns says nothing")


def test_a_child_among_audiomnists_speakers_is_left_out(tmp_path: Path) -> None:
    people = {"01": {"gender": "female", "age": "30"}, "02": {"gender": "male", "age": "8"}}
    root = folder_of(tmp_path / "voices", "01/0_01_0.wav", "02/0_02_0.wav", audioMNIST_meta__txt=json.dumps(people))
    assert [reason for _, reason in opened(root).skipped] == ["age 8, a child; expected 14 or older"]


def test_the_documentation_lists_every_layout_in_the_order_in_which_they_are_tried() -> None:
    text = (Path(__file__).parents[4] / "docs" / "corpora.md").read_text(encoding="utf-8")
    table = text[text.index("| layout | recognised by |") :].split("\n\n")[0]
    listed = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert listed == [layout.NAME for layout in corpus.LAYOUTS]


@pytest.mark.parametrize(
    ("file", "line"), [("spk2gender", "ann m"), ("utt2spk", "ann-1 bob"), ("wav.scp", "ann-1 c.wav")]
)
def test_a_word_that_stands_twice_in_kaldis_lists_is_refused(tmp_path: Path, file: str, line: str) -> None:
    root = kaldi(tmp_path / "data")
    with (root / file).open("a") as text:
        text.write(f"{line}\n")
    with pytest.raises(CorpusError, match=f"{file}: {line.split()[0]} is .* and {line.split()[1]}; expected one"):
        open_corpus(str(root), tmp_path)
