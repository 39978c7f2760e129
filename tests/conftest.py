"""Fixtures that all tests share, and the mark `services`.

A test is marked `services` if it needs Ray, MLflow or another process, or takes longer than about a second. It is
recognised by what its module imports or by its fixtures; `SLOW_MODULES` and the mark itself name the others. `make
quick` leaves these tests out. `make test` runs them first, so that the longest files do not run alone at the end.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from agr.audio import read as audio
from agr.data import corpus, preparation, splits
from agr.data.image_set import ImageSet, load
from agr.inference import bundle
from agr.plots import search
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE
from agr.synth import demo
from agr.training.loop import fit
from agr.training.model import build
from agr.training.settings import Settings
from search.results import promotion
from tests.stores import new_store

os.environ["AGR_CACHE"] = tempfile.mkdtemp(prefix="agr-tests-cache-")  # nothing of the user's is read
atexit.register(shutil.rmtree, os.environ["AGR_CACHE"], ignore_errors=True)
os.environ["AGR_CHAMPION"] = "none"  # tests that want the champion that comes with AGR, or another, set it themselves
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else tests that send Ctrl-C to a process wait for ever
SERVICE_IMPORT = re.compile(r"^\s*(?:import|from) (?:ray|mlflow|moto|subprocess)\b", re.MULTILINE)
SERVICE_FIXTURES = {"store", "bundle_folder"}
SLOW_MODULES = {
    "agr/inference/test_attribution.py",
    "agr/plots/test_timeline.py",
    "agr/test_features.py",
    "agr/baselines/test_main.py",
    "agr/metrics/test_calibration.py",
    "agr/plots/test_explanation.py",
    "agr/plots/test_model_input.py",
    "agr/plots/test_search.py",
    "agr/training/test_fused.py",
    "bench/test_augmentation.py",
    "search/optuna_search/test_figures.py",
    "search/runtime/test_trial.py",
}
LONGEST_FIRST = [  # modules whose tests take longest together
    "search/test_run_grid.py",
    "search/test_run_optuna.py",
    "cluster/test_topology.py",
    "bench/test_chaos.py",
    "agr/audio/test_decoder.py",
    "search/runtime/test_fused_trials.py",
    "agr/test_serving.py",
]
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def module_name(path: Path) -> str:
    """The path of a test module below tests/."""
    return path.relative_to(Path(__file__).parent).as_posix()


@cache
def is_service_module(path: Path) -> bool:
    """Whether the tests of a module need services or are slow."""
    return module_name(path) in SLOW_MODULES or SERVICE_IMPORT.search(path.read_text(encoding="utf-8")) is not None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the modules that `make quick` leaves out as a whole: their imports take long."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if is_test and config.option.markexpr == "not services" and is_service_module(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need services, and put them first, those of LONGEST_FIRST before all others."""
    order = {name: position for position, name in enumerate(LONGEST_FIRST)}
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if is_service_module(item.path) or not SERVICE_FIXTURES.isdisjoint(fixtures):
            item.add_marker(pytest.mark.services)
    items.sort(key=lambda item: (order.get(module_name(item.path), len(order)), not is_service_module(item.path)))


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight synthetic speakers, ten words each, in AudioMNIST's layout; read it, do not write to it."""
    root = tmp_path_factory.mktemp("demo") / "voices"
    demo.write_demo(root, speakers=8, repetitions=1)
    return root


@pytest.fixture(scope="session")
def prepared_root(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`demo_root` prepared by the mfcc recipe; read it, do not write to it."""
    out = tmp_path_factory.mktemp("prepared") / "demo-mfcc"
    preparation.prepare(corpus.open_corpus(str(demo_root), out.parent), out, MFCC)
    return out


@pytest.fixture(scope="session")
def images(prepared_root: Path) -> ImageSet:
    """The 80 images of `demo_root` by the mfcc recipe."""
    return load(prepared_root)


@pytest.fixture(scope="session")
def voice_root(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`demo_root` prepared by the voice recipe, the default; read it, do not write to it."""
    out = tmp_path_factory.mktemp("prepared") / "demo-voice"
    preparation.prepare(corpus.open_corpus(str(demo_root), out.parent), out, VOICE)
    return out


@pytest.fixture(scope="session")
def voice_images(voice_root: Path) -> ImageSet:
    """The 80 images of `demo_root` by the voice recipe, with the voice features that they are drawn from."""
    return load(voice_root)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Restore the SIGTERM handler, which `agr.common.cli.run` replaces for the whole process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def shared(name: str) -> Path:
    """A file of the shared data; the test is skipped, with the reason, if it is missing."""
    path = SHARED_DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not beside this checkout")
    return path


@pytest.fixture(scope="session")
def real_archive() -> Path:
    """The tar file of some AudioMNIST recordings; the test is skipped without it."""
    return shared("audiomnist_az.tar.gz")


@pytest.fixture(scope="session")
def real_metadata() -> Path:
    """AudioMNIST's original metadata file, with its errors; the test is skipped without it."""
    return shared("audioMNIST_meta.txt")


@pytest.fixture(scope="session")
def voices(demo_root: Path) -> list[Path]:
    """The 80 recordings of `demo_root`."""
    return audio.find(demo_root)


def write_bundle(images: ImageSet, folder: Path) -> Path:
    """Train a model on an image set for a few epochs and write it with its card."""
    split = splits.make(images)
    settings = Settings(epochs=5, lr=0.001, gamma=0.5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    state = fit(images, split, settings, torch.device("cpu"))
    torch.set_num_threads(threads)
    info = bundle.BundleInfo(
        model=settings.model,
        recipe=images.recipe,
        settings=asdict(settings),
        data={"name": images.name, "digest": images.digest, "synthetic": images.synthetic, "clips": len(images)},
        split={"name": split.name, "leaky": False, "test_digest": promotion.test_digest(images, split)},
        val=asdict(state.history[-1]),
        test={"balanced_accuracy": 0.75},
        environment={"torch": torch.__version__},
    )
    bundle.save(folder, state.weights, info, promotion.seen_by_trials(images, split))
    return folder


@pytest.fixture(scope="session")
def bundle_folder(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on `images`; read it, do not write to it."""
    return write_bundle(images, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def voice_bundle_folder(voice_images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on `voice_images`, the default recipe; read it, do not write to it."""
    return write_bundle(voice_images, tmp_path_factory.mktemp("voice-model"))


@pytest.fixture(scope="session")
def store(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of an MLflow store in SQLite, in a folder with an awkward name; read it, do not write to it.

    Model `agr` has version 1 (alias `best`), version 2 (alias `challenger`, other weights) and version 3, deleted.
    """
    from mlflow import MlflowClient

    from agr.registry import tracker as registry_tracker
    from agr.registry.uri import BEST, CHALLENGER

    uri = new_store(tmp_path_factory.mktemp("store") / "a b#c 50%")
    tracker = registry_tracker.Tracker(uri)
    other = tmp_path_factory.mktemp("other")
    info, seen = bundle.read_info(bundle_folder), bundle.read_seen(bundle_folder)
    bundle.save(other, build("cnn", seed=5).state_dict(), info, seen)
    for folder in (bundle_folder, other, other):
        run = tracker.start_run("made", {}, {})
        tracker.register(run, folder, {})
        tracker.end_run(run, "FINISHED")
    tracker.set_alias(BEST, 1)
    tracker.set_alias(CHALLENGER, 2)
    MlflowClient(uri, uri).delete_model_version("agr", "3")
    return uri


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread, as in trials: results repeat to the bit only then."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that `agr.plots.search` draws, in order, so that a test can read the text in it."""
    drawn: list[Figure] = []

    new_figure = search.new_figure

    def make(size: tuple[float, float]) -> Figure:
        drawn.append(new_figure(size))
        return drawn[-1]

    monkeypatch.setattr(search, "new_figure", make)
    return drawn


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the test in an empty folder, and check that it left nothing there."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    yield
    assert list(empty.iterdir()) == []
