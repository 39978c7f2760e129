"""Turn the clips of a corpus into a folder of images."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.common.cli import complain
from agr.common.files import content_digest, write_atomic
from agr.common.processes import map_unordered
from agr.common.progress import terminal_progress
from agr.data import copies, corpus, image_set
from agr.data.ages import Ages, images_within, within
from agr.data.clips import Clip, Corpus
from agr.data.journal import JOURNAL, Outcome, stamp, valid_outcomes
from agr.data.left_out import summarised
from agr.data.tracks import Tracks
from agr.errors import AgrError, CorpusError, RecipeError
from agr.recipes import encode
from agr.recipes.base import Recipe

SKIPPED, LOCK = "skipped.csv", ".lock"
UNSAFE = re.compile(r"[^\w .+()-]|\.\.")  # in a path component
LONGEST_PART = 48  # characters; file systems allow 255 bytes
FIXED_COLUMNS = ("image", "gender", "speaker", "corpus", "recording", "samples", "source")


@dataclass(frozen=True)
class Summary:
    """Numbers of clips: images made, images kept from before, clips skipped; what was skipped, and what to know."""

    made: int
    kept: int
    skipped: int
    reasons: tuple[tuple[str, str], ...] = field(default=(), compare=False)  # names of skipped clips, and why
    notes: tuple[tuple[str, str], ...] = field(
        default=(), compare=False
    )  # names of used clips of which a part is missing


@dataclass(frozen=True)
class Maker:
    """Makes one image file; picklable, for worker processes."""

    out: Path
    recipe: Recipe
    ready: bool

    def __call__(self, clip: Clip) -> tuple[Outcome, bytes]:
        """Write the image of a clip; returns also the bytes of what the file holds. A bad clip does not raise."""
        before = stamp(clip.path)
        try:
            data = file = audio.read_bytes(clip.path)
            heard = None if self.ready else audio.read(data, self.recipe.sample_rate, name=str(clip.path))
            if heard is not None:
                file = self.recipe.encode(heard.samples)
            stored = self.recipe.decode(file, str(clip.path))
        except AgrError as error:
            return Outcome(clip.name, before, self.recipe.digest, reason=str(error)), b""
        image = _image_name(clip.name, self.recipe.suffix)
        write_atomic(self.out / image, file)
        samples = content_digest((stored if heard is None else heard.samples).tobytes())
        note = (heard.warning or "") if heard else ""
        made = Outcome(clip.name, before, self.recipe.digest, image, content_digest(data), samples=samples, note=note)
        return made, stored.tobytes()


def prepare(source: Corpus, out: Path, wanted: Recipe, workers: int = 1) -> Summary:
    """Bring the folder `out` up to date with the corpus.

    Raises: CorpusError if no clip is usable, or if `out` holds files that `prepare` did not write.
    """
    _claim(source, out)
    from agr.common.waiting import locked  # worker processes do not need it

    with locked(out / LOCK, "prepare this corpus"):  # of two searches that start at once, the second one waits
        outcomes = valid_outcomes(source, out, wanted)
        todo = [clip for clip in source.clips if clip.name not in outcomes]
        pixels: dict[str, bytes] = {}  # of new images, so that they are not read again
        if todo:
            (out / image_set.DESCRIPTION).unlink(missing_ok=True)  # until the end the folder is not prepared
            for outcome, data in _make(source, todo, Maker(out, wanted, source.ready_images), workers):
                outcomes[outcome.name], pixels[outcome.name] = outcome, data
        unused = _unused(source, outcomes)
        _finish(source, out, wanted, outcomes, pixels, unused)
    made = sum(1 for clip in todo if clip.name not in unused)
    skipped = (*source.skipped, *unused.items())
    noted = tuple((name, outcome.note) for name, outcome in outcomes.items() if outcome.note and name not in unused)
    return Summary(made, len(source.clips) - len(unused) - made, len(skipped), skipped, tuple(sorted(noted)))


def _unused(source: Corpus, outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """The names of labelled clips that are not used, with the reasons: they could not be prepared, or are copies."""
    clips = _by_name(source)
    usable = [(clip, outcomes[clip.name]) for clip in clips if outcomes[clip.name].image]
    heard = [copies.Heard(clip.name, clip.speaker, found.recording, found.samples) for clip, found in usable]
    failed = {clip.name: reason for clip in clips if (reason := outcomes[clip.name].reason)}
    return failed | {heard[index].name: copy.reason for index, copy in copies.copies(heard).items()}


def _by_name(source: Corpus) -> list[Clip]:
    return sorted(source.clips, key=lambda clip: clip.name)


def _claim(source: Corpus, out: Path) -> None:
    """Make the folder, unless foreign files in it would be overwritten or removed."""
    ours = (out / JOURNAL).exists() or image_set.is_prepared(out)
    foreign = not ours and any((out / name).exists() for name in (image_set.MANIFEST, "images"))
    if foreign or out.resolve() == source.root.resolve():
        raise CorpusError(f"{out}: has a manifest or images of its own; expected a new or a prepared folder")
    out.mkdir(parents=True, exist_ok=True)


def _make(source: Corpus, todo: Sequence[Clip], maker: Maker, workers: int) -> Iterator[tuple[Outcome, bytes]]:
    """Yield outcomes and pixels of clips, each after it is in the journal."""
    with (
        (maker.out / JOURNAL).open("a", encoding="utf-8") as journal,
        terminal_progress(f"preparing {source.name}", len(todo), unit="clips") as advance,
    ):
        journal.write("\n")  # ends a line that a kill or a power cut tore
        for outcome, pixels in map_unordered(maker, todo, workers):
            journal.write(json.dumps(vars(outcome)) + "\n")
            journal.flush()
            advance(1)
            yield outcome, pixels


def ensure(
    source: str,
    workspace: Path,
    recipe_name: str | None = None,
    workers: int = 1,
    ages: Ages | None = None,
    columns: Mapping[str, str] | None = None,
) -> image_set.ImageSet:
    """The images of a SOURCE or of a prepared folder; a SOURCE is prepared on first use below `workspace`.

    ages: Of these speakers only, and of those whose age is unknown. columns: As in `Reading`.
    """
    if Path(source).is_dir() and image_set.is_prepared(Path(source)):
        return images_within(image_set.load(Path(source)), ages)
    found = within(corpus.open_corpus(source, workspace, columns=columns), ages)
    for note in found.notes:
        complain(note)
    wanted = choose_recipe(found, recipe_name)
    parts = [str(found.root.resolve()), *([f"ages {ages}"] if ages else []), *map(str, sorted((columns or {}).items()))]
    where = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
    out = workspace / f"{found.name}-{wanted.name}-{where}"
    summary = prepare(found, out, wanted, workers)
    if summary.skipped:
        complain(f"{summary.skipped} clip(s) of {found.name} left out; see {out / SKIPPED}")
        for line in summarised(summary.reasons):
            complain(line)
    for line in summarised(summary.notes):
        complain(f"used, but not whole: {line}")
    return image_set.load(out)


def choose_recipe(source: Corpus, name: str | None, reference: bool = False) -> Recipe:
    """The recipe for a corpus: by default `voice`, or `mfcc48` for ready images; `reference` makes images by librosa.

    Raises: RecipeError if it is unknown, cannot have made these ready images, or has no librosa reference.
    """
    wanted = encode.by_name(name or ("mfcc48" if source.ready_images else encode.DEFAULT))
    if source.ready_images and (wanted.keeps_features or reference):
        what = f"recipe {name}, or --recipe mfcc48" if wanted.keeps_features else "--reference"
        raise RecipeError(f"{source.root}: ready images; expected recordings for {what}")
    if not reference:
        return wanted
    from agr.recipes.mfcc_reference import by_librosa

    return by_librosa(wanted)


def _image_name(name: str, suffix: str) -> str:
    """The unique path of a clip's image, always inside the prepared folder."""
    parts = [UNSAFE.sub("_", part)[:LONGEST_PART].strip(" .") or "_" for part in name.split("/")]
    path = "/".join(["images", *parts])
    if path != f"images/{name}":
        path += "-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return path if path.endswith(suffix) else path + suffix


def _finish(
    source: Corpus,
    out: Path,
    wanted: Recipe,
    outcomes: Mapping[str, Outcome],
    made: Mapping[str, bytes],
    unused: Mapping[str, str],
) -> None:
    """Write skipped clips, pixels, manifest and, last, the description, unless all is up to date."""
    skipped = [{"path": name, "reason": reason} for name, reason in (*source.skipped, *unused.items())]
    write_atomic(out / SKIPPED, _csv(skipped, ("path", "reason")))
    clips = _by_name(source)
    rows = [_row(source, clip, outcomes[clip.name]) for clip in clips if clip.name not in unused]
    if not rows:
        first = "the first, {}: {}".format(*next(iter(unused.items())))
        raise CorpusError(f"{source.root}: none of {len(skipped)} clips can be used; see {out / SKIPPED}; {first}")
    manifest = _csv(rows, tuple(dict.fromkeys([*FIXED_COLUMNS, *(key for row in rows for key in row)])))
    if _up_to_date(source, out, wanted, manifest):
        return
    (out / image_set.DESCRIPTION).unlink(missing_ok=True)
    stored = [_stored(out / row["image"], made.get(row["source"]), wanted) for row in rows]
    whole = Tracks.of(stored) if -1 in wanted.stored_shape else None
    shown = np.stack(stored) if whole is None else whole[np.arange(len(rows))]
    pixels, features = wanted.images(shown), whole or (shown if wanted.keeps_features else None)
    _save(out / image_set.PIXELS, pixels)
    for name in (image_set.FEATURES, image_set.FORMER_FEATURES, image_set.LENGTHS):  # of another recipe or version
        (out / name).unlink(missing_ok=True)
    if isinstance(features, Tracks):
        _save(out / image_set.LENGTHS, features.frames)
    if features is not None:
        _save(out / image_set.FEATURES, features.flat if isinstance(features, Tracks) else features)
    write_atomic(out / image_set.MANIFEST, manifest)
    keep = {outcome.image for outcome in outcomes.values()}  # those of copies too: a rerun need not make them again
    for path in [*(out / "images").rglob("*"), *out.glob(".*.tmp")]:
        if path.is_file() and path.relative_to(out).as_posix() not in keep:
            path.unlink()
    write_atomic(out / JOURNAL, "".join(json.dumps(vars(outcomes[clip.name])) + "\n" for clip in clips).encode())
    data = image_set.assemble(source.name, pixels, rows, wanted, source.synthetic, features)
    write_atomic(out / image_set.DESCRIPTION, image_set.description(data).encode())


def _stored(image: Path, made: bytes | None, wanted: Recipe) -> NDArray[np.uint8]:
    if made:
        return np.frombuffer(made, dtype=np.uint8).reshape(wanted.stored_shape)
    return wanted.decode(image.read_bytes(), str(image))


def _save(path: Path, values: NDArray[np.integer[Any]]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def _up_to_date(source: Corpus, out: Path, wanted: Recipe, manifest: bytes) -> bool:
    """Whether the folder holds exactly this, undamaged."""
    try:
        data = image_set.load(out)
    except AgrError:
        return False
    found = (data.name, data.recipe.digest, data.synthetic, (out / image_set.MANIFEST).read_bytes())
    return found == (source.name, wanted.digest, source.synthetic, manifest)


def _row(source: Corpus, clip: Clip, outcome: Outcome) -> dict[str, str]:
    known = {"image": outcome.image, "gender": clip.gender, "speaker": clip.speaker, "corpus": source.name}
    return dict(clip.extra) | known | {"recording": outcome.recording, "samples": outcome.samples, "source": clip.name}


def _csv(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")  # file names may hold bytes that are not text
