"""Timelines in the file formats of the field, told by the name's ending.

    .jsonl     one JSON object a segment
    .csv       path, start, end, label, probability
    .TextGrid  Praat (https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html), one tier, no speech is empty
    .txt       Audacity's labels: start, end, label, separated by tabs
    .rttm      NIST's Rich Transcription Time Marked, a SPEAKER line a segment
    .png       a picture: `agr.plots.timeline`

A recording in which nobody speaks has one entry over its whole length: `no speech`, without a probability; in RTTM a
NON-SPEECH line; in a TextGrid an empty interval.
TextGrid, Audacity's labels and pictures hold one recording, the others any number.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr.common.files import write_atomic
from agr.labels import CLASSES

if TYPE_CHECKING:
    from agr.inference.timeline import Segment

COLUMNS = ("path", "start", "end", "label", "probability")
NO_SPEECH = "no speech"
TIER = "voice"  # the TextGrid's tier


@dataclass(frozen=True)
class TimedAnswer:
    """One recording's segments."""

    path: str
    segments: Sequence[Segment]
    seconds: float  # the recording's length
    channel: int | None = None  # which one was asked for, from 1
    peaks: Sequence[float] = ()  # the loudest sample of each 0.1 s, 0..1, for the picture

    @property
    def name(self) -> str:
        """The path, and behind it the channel that was asked for, as in `interview.wav#2`."""
        return self.path if self.channel is None else f"{self.path}#{self.channel}"

    @property
    def rows(self) -> list[dict[str, str | float]]:
        """The segments as dicts, times in seconds to the hundredth."""
        each = ((round(s.start, 2), round(s.end, 2), s.label, round(s.probability, 4)) for s in self.segments)
        return [dict(zip(COLUMNS[1:], values, strict=True)) for values in each]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The rows; of a recording in which nobody speaks one of `no speech` over its whole length."""
        nobody = {"start": 0.0, "end": round(self.seconds, 2), "label": NO_SPEECH, "probability": None}
        return list(self.rows) or [nobody]

    @property
    def spoken(self) -> dict[str, float]:
        """Seconds of women's speech, of men's, and of no speech, to the hundredth."""
        found = {label: sum(s.seconds for s in self.segments if s.label == label) for label in CLASSES}
        found[NO_SPEECH] = max(self.seconds - sum(found.values()), 0.0)
        return {label: round(seconds, 2) for label, seconds in found.items()}


def timeline_path(text: str) -> Path:
    """Of a command line: where a timeline is to be written. Raises: argparse.ArgumentTypeError."""
    if Path(text).suffix.lower() not in {*FORMATS, ".png"}:
        expected = "expected a name that ends in .TextGrid, .csv, .jsonl, .txt, .rttm or .png"
        raise argparse.ArgumentTypeError(f"{text}: {expected}")
    return Path(text)


def holds_one(path: Path) -> bool:
    """Whether this format has room for a single recording only."""
    return path.suffix.lower() in {".textgrid", ".txt", ".png"}


def write(path: Path, recordings: Sequence[TimedAnswer]) -> None:
    """Write the timelines of recordings, of a single one where `holds_one`, whole or not at all; no picture."""
    write_atomic(path, FORMATS[path.suffix.lower()](recordings).encode(errors="surrogateescape"))


def as_jsonl(recordings: Sequence[TimedAnswer]) -> str:
    """One JSON object a segment."""
    return "".join(json.dumps({"path": each.name} | row) + "\n" for each in recordings for row in each.entries)


def as_csv(recordings: Sequence[TimedAnswer]) -> str:
    """A table with a header."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for recording in recordings:
        table.writerows({"path": recording.name} | row for row in recording.entries)
    return text.getvalue()


def as_textgrid(recordings: Sequence[TimedAnswer]) -> str:
    """Praat's long text format: one interval tier without gaps."""
    (recording,) = recordings
    intervals, at = [], 0.0
    for segment in recording.segments:
        start, end = round(segment.start, 6), round(min(segment.end, recording.seconds), 6)  # Praat drops what is empty
        if start > at:
            intervals.append((at, start, ""))
        intervals.append((max(start, at), end, segment.label))
        at = end
    if at < round(recording.seconds, 6) or not intervals:
        intervals.append((at, recording.seconds, ""))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {recording.seconds:.6f}", "tiers? <exists>", "size = 1", "item []:", "    item [1]:"]
    lines += ['        class = "IntervalTier"', f'        name = "{TIER}"', "        xmin = 0"]
    lines += [f"        xmax = {recording.seconds:.6f}", f"        intervals: size = {len(intervals)}"]
    for number, (start, end, label) in enumerate(intervals, 1):
        lines += [f"        intervals [{number}]:", f"            xmin = {start:.6f}", f"            xmax = {end:.6f}"]
        lines += [f'            text = "{label}"']
    return "\n".join(lines) + "\n"


def as_audacity(recordings: Sequence[TimedAnswer]) -> str:
    """Start, end and label, separated by tabs."""
    (recording,) = recordings
    nobody = [(0.0, recording.seconds, NO_SPEECH)]
    rows = [(s.start, s.end, s.label) for s in recording.segments] or nobody
    return "".join(f"{start:.6f}\t{end:.6f}\t{label}\n" for start, end, label in rows)


def as_rttm(recordings: Sequence[TimedAnswer]) -> str:
    """SPEAKER lines, or one NON-SPEECH line.

    A file's name loses its ending, and its folder unless names would be the same, and its blanks.
    """
    stems = [Path(each.path).stem for each in recordings]
    paths = {each.path for each in recordings}
    lines = []
    for stem, each in zip(stems, recordings, strict=True):
        same = len({path for path in paths if Path(path).stem == stem}) > 1
        name = "_".join((str(Path(each.path).with_suffix("")) if same else stem).split()) or "recording"
        if not each.segments:
            lines.append(f"NON-SPEECH {name} {each.channel or 1} 0.000 {each.seconds:.3f} <NA> other <NA> <NA> <NA>\n")
        for s in each.segments:
            times = f"{each.channel or 1} {s.start:.3f} {s.seconds:.3f}"
            lines.append(f"SPEAKER {name} {times} <NA> <NA> {s.label} {s.probability:.4f} <NA>\n")
    return "".join(lines)


FORMATS: Mapping[str, Callable[[Sequence[TimedAnswer]], str]] = {
    ".jsonl": as_jsonl,
    ".csv": as_csv,
    ".textgrid": as_textgrid,
    ".txt": as_audacity,
    ".rttm": as_rttm,
}
