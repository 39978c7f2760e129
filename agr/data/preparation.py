"""Turn the clips of a corpus into a folder of images."""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agr.audio import read as audio
from agr.common.cli import complain
from agr.common.files import content_digest, write_atomic
from agr.common.processes import map_unordered
from agr.common.progress import terminal_progress
from agr.data import copies, corpus, image_set, shards
from agr.data.ages import Ages, images_within, within
from agr.data.clips import Clip, Corpus
from agr.data.left_out import summarised
from agr.data.shards import Outcome
from agr.errors import AgrError, CorpusError, RecipeError
from agr.recipes import encode
from agr.recipes.base import Recipe

SKIPPED, LOCK = "skipped.csv", ".lock"
FIXED_COLUMNS = ("gender", "speaker", "corpus", "recording", "samples", "source")
FORMER = ("journal.jsonl", "pixels.npy", "features.npy", "evidence.npy", "frames.npy", "images")  # of earlier versions


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
    """Prepares one clip; picklable, for worker processes."""

    recipe: Recipe
    ready: bool

    def __call__(self, clip: Clip) -> Outcome:
        """What is stored of a clip. A bad clip does not raise."""
        name, before = text(clip.name), stamp(clip.path)
        try:
            data = audio.read_bytes(clip.path)
            heard = None if self.ready else audio.read(data, self.recipe.sample_rate, name=str(clip.path))
            stored = self.recipe.decode(data, str(clip.path)) if heard is None else self.recipe.store(heard.samples)
        except AgrError as error:
            return Outcome(name, before, self.recipe.digest, reason=text(str(error)))
        samples = content_digest((stored if heard is None else heard.samples).tobytes())
        note = text((heard.warning or "") if heard else "")
        return Outcome(
            name, before, self.recipe.digest, content_digest(data), samples=samples, note=note, stored=stored
        )


def stamp(path: Path) -> str:
    """Size and times of a file, by which changes are detected; empty if there is no file."""
    try:
        stat = path.stat()
        return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    except OSError:
        return ""


def text(name: str) -> str:
    """A name as it is written: file names may hold bytes that are not text."""
    return name.encode("utf-8", "backslashreplace").decode()


def prepare(source: Corpus, out: Path, wanted: Recipe, workers: int = 1) -> Summary:
    """Bring the folder `out` up to date with the corpus.

    Raises: CorpusError if no clip is usable, or if `out` holds files that `prepare` did not write.
    """
    _claim(source, out)
    from agr.common.waiting import locked  # worker processes do not need it

    with locked(out / LOCK, "prepare this corpus"):  # of two searches that start at once, the second one waits
        clips = {text(clip.name): clip for clip in sorted(source.clips, key=lambda clip: clip.name)}
        outcomes = _valid_outcomes(clips, out, wanted)
        todo = [clip for name, clip in clips.items() if name not in outcomes]
        if todo:
            (out / image_set.DESCRIPTION).unlink(missing_ok=True)  # until the end the folder is not prepared
        writer = shards.Writer(out, wanted, tuple(clips), outcomes)
        paths = _fill(source, Maker(wanted, source.ready_images), writer, todo, workers)
        unused = _unused(clips, outcomes)
        _finish(source, out, wanted, clips, outcomes, paths, unused)
    made = sum(1 for clip in todo if text(clip.name) not in unused)
    skipped = (*source.skipped, *unused.items())
    noted = tuple((name, outcome.note) for name, outcome in outcomes.items() if outcome.note and name not in unused)
    return Summary(made, len(source.clips) - len(unused) - made, len(skipped), skipped, tuple(sorted(noted)))


def _valid_outcomes(clips: Mapping[str, Clip], out: Path, wanted: Recipe) -> dict[str, Outcome]:
    """The outcomes in undamaged shards whose recipe and recording are unchanged, by clip name."""
    described, found = image_set.described(out), dict[str, Outcome]()
    for path in shards.found(out):
        if path not in described and not shards.intact(path):
            continue
        for each in shards.outcomes(path, wanted):
            clip = clips.get(each.name)
            if clip and each.stamp and each.stamp == stamp(clip.path):
                found[each.name] = each
    return found


def _unused(clips: Mapping[str, Clip], outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """The names of labelled clips that are not used, with the reasons: they could not be prepared, or are copies."""
    failed = {name: reason for name in clips if (reason := outcomes[name].reason)}
    usable = [(clip, outcomes[name]) for name, clip in clips.items() if name not in failed]
    heard = [copies.Heard(found.name, clip.speaker, found.recording, found.samples) for clip, found in usable]
    return failed | {heard[index].name: copy.reason for index, copy in copies.copies(heard).items()}


def _claim(source: Corpus, out: Path) -> None:
    """Make the folder, unless foreign files in it would be overwritten or removed."""
    ours = (out / FORMER[0]).exists() or image_set.is_prepared(out) or (out.is_dir() and bool(shards.found(out)))
    foreign = not ours and any((out / name).exists() for name in (image_set.MANIFEST, "images"))
    if foreign or out.resolve() == source.root.resolve():
        raise CorpusError(f"{out}: has a manifest or images of its own; expected a new or a prepared folder")
    out.mkdir(parents=True, exist_ok=True)


def _fill(source: Corpus, maker: Maker, writer: shards.Writer, todo: Sequence[Clip], workers: int) -> list[Path]:
    """Make clips, and write them and the ones from before into shards, whose paths are returned."""
    if todo:
        with terminal_progress(f"preparing {source.name}", len(todo), unit="clips") as advance:
            for outcome in map_unordered(maker, todo, workers):
                writer.add(outcome)
                advance(1)
    return writer.close()


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


def _finish(
    source: Corpus,
    out: Path,
    wanted: Recipe,
    clips: Mapping[str, Clip],
    outcomes: Mapping[str, Outcome],
    paths: Sequence[Path],
    unused: Mapping[str, str],
) -> None:
    """Write skipped clips, manifest and, last, the description, unless all is up to date; remove all other files."""
    skipped = [{"path": name, "reason": reason} for name, reason in (*source.skipped, *unused.items())]
    write_atomic(out / SKIPPED, _csv(skipped, ("path", "reason")))
    used = [name for name in clips if name not in unused]
    if not used:
        name, reason = next(iter(unused.items()))
        first = f"the first, {reason if reason.startswith(name) else f'{name}: {reason}'}"
        raise CorpusError(f"{source.root}: none of {len(skipped)} clips can be used; see {out / SKIPPED}; {first}")
    columns = tuple(dict.fromkeys([*FIXED_COLUMNS, *(key for name in used for key in clips[name].extra)]))
    manifest = _csv((_row(source, clips[name], outcomes[name]) for name in used), columns)
    if not _up_to_date(source, out, wanted, manifest, paths):
        (out / image_set.DESCRIPTION).unlink(missing_ok=True)
        image_set.save(out, source.name, wanted, source.synthetic, manifest, paths)
    for path in [*shards.found(out), *out.glob(".*.tmp"), *(out / name for name in FORMER)]:
        if path.is_dir():
            shutil.rmtree(path)
        elif path not in paths:
            path.unlink(missing_ok=True)


def _up_to_date(source: Corpus, out: Path, wanted: Recipe, manifest: bytes, paths: Sequence[Path]) -> bool:
    """Whether the folder holds exactly this, undamaged."""
    try:
        data = image_set.load(out)
    except AgrError:
        return False
    found = (data.name, data.recipe.digest, data.synthetic, (out / image_set.MANIFEST).read_bytes())
    complete = set(image_set.described(out)) == set(paths) and image_set.has_table(out)
    return complete and found == (source.name, wanted.digest, source.synthetic, manifest)


def _row(source: Corpus, clip: Clip, outcome: Outcome) -> dict[str, str]:
    known = {"gender": clip.gender, "speaker": clip.speaker, "corpus": source.name, "recording": outcome.recording}
    return dict(clip.extra) | known | {"samples": outcome.samples, "source": outcome.name}


def _csv(rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")
