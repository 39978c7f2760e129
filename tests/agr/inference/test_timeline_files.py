from __future__ import annotations

import argparse
import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from agr.inference import timeline_files as files
from agr.inference.timeline import Segment
from agr.inference.timeline_files import TimedAnswer

FIRST = TimedAnswer("calls/first call.wav", (Segment(0.5, 2.0, "female", 0.9), Segment(2.0, 3.25, "male", 0.8)), 4.0)
SILENT = TimedAnswer("silent.wav", (), 3.0)


def written(path: Path, *recordings: TimedAnswer) -> str:
    files.write(path, recordings)
    return path.read_text()


def test_seconds_are_those_of_women_men_and_nobody() -> None:
    assert FIRST.spoken == {"female": 1.5, "male": 1.25, "no speech": 1.25}


def test_json_lines_have_a_segment_each(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in written(tmp_path / "a.jsonl", FIRST, SILENT).splitlines()]
    assert rows[1] == {"path": FIRST.path, "start": 2.0, "end": 3.25, "label": "male", "probability": 0.8}
    assert rows[2:] == [{"path": "silent.wav", "start": 0.0, "end": 3.0, "label": "no speech", "probability": None}]


def test_csv_is_a_table_with_a_header(tmp_path: Path) -> None:
    rows = list(csv.DictReader(written(tmp_path / "a.csv", FIRST, SILENT).splitlines()))
    assert [row["label"] for row in rows] == ["female", "male", "no speech"]
    assert list(rows[2].values()) == ["silent.wav", "0.0", "3.0", "no speech", ""]
    assert rows[0]["path"] == FIRST.path


def test_audacity_labels_are_separated_by_tabs(tmp_path: Path) -> None:
    assert written(tmp_path / "a.txt", FIRST) == "0.500000\t2.000000\tfemale\n2.000000\t3.250000\tmale\n"
    assert written(tmp_path / "b.txt", SILENT) == "0.000000\t3.000000\tno speech\n"


def test_rttm_names_have_no_blanks_and_lines_have_ten_fields(tmp_path: Path) -> None:
    lines = written(tmp_path / "a.rttm", FIRST, SILENT).splitlines()
    assert all(len(line.split()) == 10 for line in lines)
    assert lines[1].split()[1:5] == ["first_call", "1", "2.000", "1.250"]
    assert lines[2].split()[:7] == ["NON-SPEECH", "silent", "1", "0.000", "3.000", "<NA>", "other"]


@pytest.mark.parametrize("recording", [FIRST, SILENT])
def test_a_textgrid_has_one_tier_without_gaps(recording: TimedAnswer, tmp_path: Path) -> None:
    text = written(tmp_path / "a.TextGrid", recording)
    values = [line.split(" = ")[1] for line in text.splitlines() if line.startswith("            ")]
    intervals = [(float(low), float(high), label) for low, high, label in zip(*[iter(values)] * 3, strict=True)]
    assert intervals[0][0] == 0
    assert intervals[-1][1] == recording.seconds
    assert all(before[1] == after[0] for before, after in itertools.pairwise(intervals))
    assert [label.strip('"') for *_, label in intervals if label != '""'] == [s.label for s in recording.segments]
    assert f"intervals: size = {len(intervals)}" in text


def test_segments_that_touch_up_to_rounding_have_no_interval_between_them(tmp_path: Path) -> None:
    """Praat drops an interval without length, and the next one with it."""
    one, two = Segment(0.0, 0.1 + 0.2, "male", 0.9), Segment(0.3, 1.0, "female", 0.9)
    later, earlier = (TimedAnswer("a.wav", each, 1.0) for each in ((one, two), (replace(one, end=0.3 - 1e-12), two)))
    for recording in (later, earlier):
        text = written(tmp_path / "a.TextGrid", recording)
        assert "intervals: size = 2" in text
        assert text.count("xmin = 0.300000") == text.count("xmax = 0.300000") == 1


@pytest.mark.parametrize("name", ["clip.wav", "timeline", "a.json"])
def test_another_ending_is_refused(name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"{name}: expected a name that ends in"):
        files.timeline_path(name)


def test_pictures_labels_and_textgrids_hold_one_recording() -> None:
    names = ("a.TextGrid", "a.txt", "a.PNG", "a.csv", "a.jsonl", "a.rttm")
    assert [name for name in names if files.holds_one(Path(name))] == ["a.TextGrid", "a.txt", "a.PNG"]


def test_rttm_keeps_channels_and_files_of_one_name_apart() -> None:
    first, second = (TimedAnswer(f"{folder}/a.wav", FIRST.segments[:1], 4.0) for folder in ("x", "y"))
    left, right = (TimedAnswer("b.wav", FIRST.segments[:1], 4.0, channel) for channel in (1, 2))
    fields = [line.split()[1:3] for line in files.as_rttm([first, second, left, right]).splitlines()]
    assert fields == [["x/a", "1"], ["y/a", "1"], ["b", "1"], ["b", "2"]]


def test_a_name_that_is_not_utf8_is_written_as_it_is(tmp_path: Path) -> None:
    name = b"x\xff.wav".decode(errors="surrogateescape")
    for ending in (".csv", ".jsonl", ".rttm"):
        files.write(tmp_path / f"a{ending}", [TimedAnswer(name, FIRST.segments, 4.0)])
    assert b"x\xff.wav" in (tmp_path / "a.csv").read_bytes()
