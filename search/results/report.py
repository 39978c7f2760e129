"""Prints the end of a search: ranking, champion, test result, and the commands to type next."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table

from agr import __version__
from agr.common.credentials import is_harmless
from agr.common.printable import printable
from agr.metrics.scoring import CHANCE, by_corpus
from agr.registry.records import FinishedSearch, Store
from agr.registry.uri import DATABASE, REGISTERED_MODEL, SQLITE, StoreUri
from search.session.display import clock, fitting
from search.session.session import FAILED, Record, Session
from search.tasks.base import Point, TrialSchema, format_setting, pluralize

if TYPE_CHECKING:
    from search.results.champion import SearchResult

TOP = 10
UI = "http://127.0.0.1:5000"  # where `mlflow ui` answers
ENV_FILE = "mlflow_store/env"
AT_CHANCE = "CHANCE      the interval reaches 0.5: not shown to be better than a coin"


def print_summary(result: SearchResult, session: Session, seconds: float, leaky: bool, synthetic: bool) -> None:
    """Print the result of a search to stdout."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(_ranking(result.ranking, leaky, console.width))
    for record in (record for record in session.records.values() if record.status == FAILED):
        console.print("failed", style="red", end="")
        console.print(f"  {_named(record)}: {printable(record.reason)}")
    console.print(f"{session.summary()}, {clock(seconds)} min")
    best = result.ranking[0]
    mark, objective = " (leaky)" if leaky else "", best.schema.objective
    console.print(f"\nchampion    {_named(best)}")
    if others := _others(result.ranking):
        console.print(f"            {others}")
    says = objective.label.removeprefix("val ")
    console.print(f"validation  {says} {getattr(best.chosen, objective.metric):.4f}{mark}")
    if result.scores is not None:
        low, high = result.scores.balanced_accuracy_ci95
        test = f"{result.scores.measure} {result.scores.balanced_accuracy:.4f} on {result.scores.speakers} speakers"
        console.print(f"test        {test} it never heard (95 % interval over speakers {low:.4f} to {high:.4f})")
        if not low <= result.scores.balanced_accuracy <= high:
            console.print("            the interval reckons with two more people, one heard rightly and one not")
        if None in result.scores.recall.values():
            console.print("ONE GENDER  a model that always answers it would reach 1.0: this says little about it")
        else:
            gap = vars(best.chosen)["val_balanced_accuracy"] - result.scores.balanced_accuracy
            compared = f"{pluralize(len(session.finished()), 'trial')} compared on the same validation speakers"
            console.print(f"gap         {gap:+.4f}, validation less test; {compared}")
        parts = by_corpus(result.scores.per_speaker)
        if len(parts) > 1:
            console.print("            " + ", ".join(f"{printable(name)} {value:.4f}" for name, value in parts.items()))
        if low <= CHANCE:
            console.print(AT_CHANCE)
    for name, value in result.tested.items():
        console.print(f"test        {_says(name)} {value:.4f}")
    _print_end(console, result, session.tracker.uri, session.tracker.run_page(session.parent), leaky, synthetic)


class Registered(NamedTuple):
    """What a search registered, as `SearchResult` has it."""

    version: int | None
    alias: str
    reason: str
    model: str


def print_earlier(
    found: FinishedSearch, schema: TrialSchema[Point], store: Store, leaky: bool, synthetic: bool
) -> None:
    """Print what is there of a search that would only be repeated."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.began / 1000))
    console.print(f"already there: {printable(found.name)} of {began}; nothing is logged (--again logs it once more)")
    champion = (f"{name} {printable(found.tags.get(f'champion_{name}', '?'))}" for name in schema.axes)
    console.print(f"\nchampion    {', '.join(champion)}")
    for name, value in sorted(found.metrics.items(), key=lambda each: each[0].startswith("test_")):
        side, known = ("test", True) if name.startswith("test_") else ("validation", name == schema.objective.metric)
        if known and not name.endswith(("_low", "_high")):
            low, high = (found.metrics.get(f"{name}_{end}") for end in ("low", "high"))
            interval = f" (95 % interval over speakers {low:.4f} to {high:.4f})" if low is not None and high else ""
            console.print(f"{side:10}  {_says(name)} {value:.4f}{interval}")
    if found.metrics.get("test_balanced_accuracy_low", 1.0) <= CHANCE:
        console.print(AT_CHANCE)
    reason = "leaky split" if found.version is None else "it is there already"
    end = Registered(found.version, found.alias, reason, store.model)
    _print_end(console, end, store.uri, store.run_page(found.run_id), leaky, synthetic)


def _print_end(
    console: Console, result: SearchResult | Registered, uri: StoreUri, run_page: str, leaky: bool, synthetic: bool
) -> None:
    """Print what the figures are worth, what is registered, and what to type next."""
    if leaky:
        console.print("LEAKY       the same people train and validate: these numbers say nothing about the next person")
    if synthetic:
        console.print("SYNTHETIC   made-up voices: these numbers prove nothing about people")
    if result.version is None:
        console.print(f"registered  nothing: {result.reason}")
    else:
        alias = ", without an alias" if result.alias == str(result.version) else f" as {result.alias}"
        console.print(f"registered  {result.model} version {result.version}{alias}: {result.reason}")
    console.print("\nnext:")
    show, *rest = next_commands(uri, result, synthetic)
    pages = run_page, f"#/models/{result.model}"
    root = str(uri).rstrip("/") if uri.is_server else UI
    for line in (show, *(f"{root}/{page}" for page in pages[: 1 if result.version is None else 2]), *rest):
        console.print(f"  {line}")


def page(result: SearchResult, session: Session) -> str:
    """The description of a search's page in MLflow: its champion, a link to its version, and its main picture."""
    best, objective = result.ranking[0], result.ranking[0].schema.objective
    lines = [f"Champion: {_named(best)}, {objective.label} {getattr(best.chosen, objective.metric):.4f}"]
    if result.version is not None:
        where = f"#/models/{result.model}/versions/{result.version}"
        lines.append(f"Registered as [{result.model} version {result.version}]({where}), {result.alias}")
    if session.schema.prunes or result.model == REGISTERED_MODEL:
        picture = "best_so_far.png" if session.schema.prunes else "grid.png"
        address = f"get-artifact?path={picture}&run_uuid={session.tracker.run_id(session.parent)}"
        lines.append(f"![{picture}]({address})")
    return "\n\n".join(lines)


def _ranking(records: Sequence[Record], leaky: bool, width: int) -> Table:
    schema, rows = records[0].schema, list[Sequence[str]]()
    for rank, record in enumerate(records[:TOP], start=1):
        scores = (f"{getattr(record.chosen, name):.4f}" for name in schema.columns)
        rows.append((str(rank), *map(format_setting, record.named.values()), *scores))
    table = fitting(("rank", *schema.axes, *schema.columns.values()), rows, schema, width)
    title = f"best {min(TOP, len(records))} of {pluralize(len(records), 'trial')}"
    table.title = title + (", LEAKY split" if leaky else "")
    return table


def _says(metric: str) -> str:
    """A metric's name in words, without its side."""
    words = metric.removeprefix("val_").removeprefix("test_").replace("_", " ")
    return "calibration error" if words == "ece" else words


def _others(ranking: Sequence[Record]) -> str:
    """The champion's values of other settings that differ between trials."""
    configs, best = [record.settings.config() for record in ranking], ranking[0]
    names = [n for n in configs[0] if n not in (*best.named, "seed") and len({str(c.get(n)) for c in configs}) > 1]
    return ", ".join(f"{name} {format_setting(configs[0][name])}" for name in names)


def _named(record: Record) -> str:
    return ", ".join(f"{name} {format_setting(value)}" for name, value in record.named.items())


def next_commands(uri: StoreUri, result: SearchResult | Registered, synthetic: bool) -> list[str]:
    """The commands that show the runs and use the model, without passwords. synthetic: whether its voices were."""
    store = shlex.quote(uri.whole if is_harmless(uri.whole) else str(uri))
    if uri.database and os.path.exists(DATABASE) and os.path.realpath(DATABASE) == os.path.realpath(uri.database):
        show = "mlflow ui"
    elif uri.whole == f"{SQLITE}{os.path.abspath('mlflow_store/mlflow.db')}" and os.path.exists(ENV_FILE):
        show = f"mlflow --env-file {ENV_FILE} ui"
    else:
        show = f"open {store}" if uri.is_server else f"mlflow ui --backend-store-uri {store}"
    if result.version is None or result.model != REGISTERED_MODEL:
        return [show]
    where = "" if uri == StoreUri.default() else f" --tracking-uri {store}"
    demo = f"data/demo-voices-{__version__}/data/01/0_01_0.wav"
    clip = demo if synthetic and os.path.exists(demo) else "CLIP"
    return [show, f"python -m agr.predict --model-uri models:/agr/{result.alias}{where} {clip}"]


def print_interrupted(session: Session, kept: bool) -> None:
    """Print what remains after Ctrl-C. kept: whether the stage store keeps the epochs of unfinished trials."""
    what = "what the others trained is kept, and the same command goes on" if kept else "the others start anew"
    ended = len(session.finished())
    count = f"{ended} of {pluralize(session.planned, 'trial')}" if session.planned else pluralize(ended, "trial")
    print(f"interrupted: {count} finished; {what}")
