"""The stage store: exact round trips, damaged files, keys, and writers in several processes."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agr.data.image_set import ImageSet, assemble
from agr.data.splits import Split, make
from agr.recipes.mfcc import MFCC
from agr.training.loop import fit
from agr.training.settings import Settings
from search.stages.store import CHECKSUM, Lineage, Stage, StageStore
from tests.search.fakes import bits, made_stage, same_stage, small_images, small_split

KEY = "ab" * 32
BASE = Settings(epochs=6, lr=0.01, gamma=0.5)


@pytest.fixture(params=("path", "file", "memory"))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StageStore:
    where = {"path": str(tmp_path / "s"), "file": (tmp_path / "s").as_uri(), "memory": f"memory://{uuid.uuid4().hex}"}
    return StageStore(where[request.param])


@pytest.fixture(scope="module")
def data() -> ImageSet:
    return small_images()


@pytest.fixture(scope="module")
def split(data: ImageSet) -> Split:
    return make(data)


def names(store: StageStore) -> list[str]:
    return [file.name for file in store.storage.files("")]


# Reading and writing


def test_a_stage_is_read_to_the_bit_as_it_was_written(store: StageStore) -> None:
    stage = made_stage(epochs=3)
    store.put(KEY, stage)
    back = store.get(KEY)
    assert back is not None
    assert same_stage(back, stage)
    assert names(store) == [f"ab/{KEY}.stage"]


def test_training_resumed_from_a_stored_state_gives_the_same_bits(store: StageStore) -> None:
    data, split = small_split()
    torch.set_num_threads(1)
    half = fit(data, split, Settings(epochs=2, lr=0.01, gamma=0.5), torch.device("cpu"))
    store.put(KEY, Stage(half, ("first", "first")))
    back = store.get(KEY)
    assert back is not None
    whole = fit(data, split, Settings(epochs=4, lr=0.01, gamma=0.5), torch.device("cpu"))
    resumed = fit(data, split, Settings(epochs=4, lr=0.01, gamma=0.5), torch.device("cpu"), resume=back.state)
    assert [bits(tensor) for tensor in resumed.weights.values()] == [bits(t) for t in whole.weights.values()]
    assert [bits(tensor) for tensor in resumed.optimizer.values()] == [bits(t) for t in whole.optimizer.values()]


def test_a_second_put_replaces_the_first(store: StageStore) -> None:
    store.put(KEY, made_stage(epochs=1))
    store.put(KEY, made_stage(epochs=4, seed=1))
    back = store.get(KEY)
    assert back is not None
    assert same_stage(back, made_stage(epochs=4, seed=1))


def test_a_missing_stage_is_none(store: StageStore) -> None:
    assert store.get(KEY) is None
    store.drop(KEY)
    assert names(store) == []


def test_a_dropped_stage_is_gone(store: StageStore) -> None:
    store.put(KEY, made_stage())
    store.drop(KEY)
    assert store.get(KEY) is None
    assert names(store) == []


def test_a_stage_describes_its_trial(store: StageStore) -> None:
    store.put(KEY, made_stage(epochs=3))
    assert store.about(KEY) == {"data": "made", "epochs": 3}


# Outlines: stages without their tensors


def test_an_outline_is_the_stage_without_its_tensors(store: StageStore) -> None:
    stage = made_stage(epochs=3)
    store.put(KEY, stage)
    outline = store.outline(KEY)
    assert outline is not None
    assert (outline.state.weights, outline.state.optimizer) == ({}, {})
    assert (outline.state.history, outline.origins, outline.about) == (stage.state.history, stage.origins, stage.about)


def test_the_outline_of_a_missing_stage_is_none(store: StageStore) -> None:
    assert store.outline(KEY) is None


def test_an_outline_does_not_read_the_tensors(store: StageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(KEY, made_stage())
    monkeypatch.setattr(store, "get", lambda key: pytest.fail("the whole file was read"))
    assert store.outline(KEY) is not None


@pytest.mark.parametrize("epochs", [150, 200, 1000])
def test_an_outline_of_many_epochs_does_not_read_the_tensors(
    store: StageStore, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    stage = made_stage(epochs)
    store.put(KEY, stage)
    monkeypatch.setattr(store, "get", lambda key: pytest.fail("the whole file was read"))
    outline = store.outline(KEY)
    assert outline is not None
    assert outline.state.history == stage.state.history
    assert store.about(KEY) == stage.about


@pytest.mark.parametrize("damaged", [b"", b"short", b"x" * 200, b"\xff" * 100_000])
def test_reading_the_description_of_a_damaged_stage_does_not_delete_it(store: StageStore, damaged: bytes) -> None:
    store.storage.write(StageStore.name(KEY), damaged)
    assert store.about(KEY) is None
    assert names(store) == [StageStore.name(KEY)]


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_a_truncated_stage_has_no_outline_and_is_deleted(store: StageStore, cut: int) -> None:
    store.storage.write(StageStore.name(KEY), whole_file()[:-cut])
    assert store.outline(KEY) is None
    assert names(store) == []


def test_a_stage_with_a_changed_header_has_no_outline_and_is_deleted(store: StageStore) -> None:
    changed = whole_file().replace(b"made", b"fake")
    assert changed != whole_file()
    store.storage.write(StageStore.name(KEY), changed)
    assert store.outline(KEY) is None
    assert names(store) == []


# Damage


def whole_file() -> bytes:
    store = StageStore(f"memory://{uuid.uuid4().hex}")
    store.put(KEY, made_stage())
    data = store.storage.read(StageStore.name(KEY))
    assert data is not None
    return data


WHOLE = whole_file()
HEADER = CHECKSUM + 8 + int.from_bytes(WHOLE[CHECKSUM : CHECKSUM + 8], "little")  # where the tensors begin


def truncations() -> list[int]:
    near = [at + by for at in (0, CHECKSUM, CHECKSUM + 8, HEADER, len(WHOLE)) for by in (-1, 0, 1)]
    return sorted({at for at in [*near, *range(0, len(WHOLE), 97)] if 0 <= at < len(WHOLE)})


def flips() -> list[int]:
    edges = [0, 1, CHECKSUM - 1, CHECKSUM, CHECKSUM + 7, CHECKSUM + 8, HEADER - 1, HEADER, len(WHOLE) - 1]
    return sorted({*edges, *range(0, len(WHOLE), 61)})


def assert_deleted(store: StageStore, damaged: bytes) -> None:
    store.storage.write(StageStore.name(KEY), damaged)
    assert store.get(KEY) is None
    assert names(store) == []


def test_a_truncated_stage_is_deleted_wherever_it_ends(store: StageStore) -> None:
    for length in truncations():
        assert_deleted(store, WHOLE[:length])


def test_a_stage_with_one_flipped_bit_is_deleted(store: StageStore) -> None:
    for at in flips():
        for mask in (0x01, 0x80):
            assert_deleted(store, WHOLE[:at] + bytes([WHOLE[at] ^ mask]) + WHOLE[at + 1 :])


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole + b"\0",
        lambda whole: b"\0" + whole,
        lambda whole: bytes(len(whole)),
        lambda whole: whole[:CHECKSUM] + whole[CHECKSUM + 8 :],
        lambda whole: whole[CHECKSUM:],
        lambda whole: b"not a stage at all, but longer than a checksum",
    ],
    ids=["a byte more", "shifted", "zeros", "no length", "no checksum", "text"],
)
def test_other_damaged_stages_are_deleted(store: StageStore, damage: Callable[[bytes], bytes]) -> None:
    assert_deleted(store, damage(WHOLE))


@pytest.mark.parametrize(
    "body",
    [b"", b"\0" * 8, b"not safetensors", (2).to_bytes(8, "little") + b"{}", (99).to_bytes(8, "little") + b"{}"],
    ids=["empty", "no header", "text", "no notes", "header too long"],
)
def test_a_file_of_another_format_with_a_valid_checksum_is_deleted(store: StageStore, body: bytes) -> None:
    assert_deleted(store, hashlib.sha256(body).digest() + body)


def test_a_stage_of_other_fields_with_a_valid_checksum_is_deleted(store: StageStore) -> None:
    header = json.loads(WHOLE[CHECKSUM + 8 : HEADER])
    header["__metadata__"]["stage"] = json.dumps({"history": [{"epoch": 1}], "origins": ["x"], "about": {}})
    text = json.dumps(header).encode()
    body = len(text).to_bytes(8, "little") + text + WHOLE[HEADER:]
    assert_deleted(store, hashlib.sha256(body).digest() + body)


def test_a_damaged_stage_can_be_stored_again(store: StageStore) -> None:
    assert_deleted(store, WHOLE[:-1])
    store.put(KEY, made_stage())
    assert store.get(KEY) is not None


# Keys


def test_keys_are_64_hex_digits_and_differ_from_epoch_to_epoch(data: ImageSet, split: Split) -> None:
    keys = Lineage.of(data, split, BASE, "cpu").keys(BASE.rates())
    assert len(set(keys)) == BASE.epochs
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys)


def test_a_key_is_the_same_in_another_process(data: ImageSet, split: Split) -> None:
    code = (
        "from tests.search.fakes import small_split\n"
        "from agr.training.settings import Settings; from search.stages.store import Lineage\n"
        "s = Settings(epochs=6, lr=0.01, gamma=0.5); print(Lineage.of(*small_split(), s, 'cpu').key(s.rates()))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == Lineage.of(data, split, BASE, "cpu").key(BASE.rates())


def other_data(data: ImageSet) -> ImageSet:
    pixels = np.array(data.pixels)
    pixels[0, 0, 0, 0] ^= 1
    return assemble(data.name, pixels, data.rows, data.recipe, data.synthetic)


def other_split(split: Split) -> Split:
    return replace(split, train=split.train[:-1])


def test_keys_depend_on_data_recipe_split_and_device(data: ImageSet, split: Split) -> None:
    lineages = [
        Lineage.of(data, split, BASE, "cpu"),
        Lineage.of(other_data(data), split, BASE, "cpu"),
        Lineage.of(replace(data, recipe=replace(MFCC, sample_rate=MFCC.sample_rate + 1)), split, BASE, "cpu"),
        Lineage.of(data, other_split(split), BASE, "cpu"),
        Lineage.of(data, split, BASE, "cuda"),
        Lineage.of(data, split, BASE, "mps"),
    ]
    assert len({lineage.key(BASE.rates()) for lineage in lineages}) == len(lineages)


def test_keys_depend_on_the_validation_clips(data: ImageSet, split: Split) -> None:
    fewer = replace(split, val=split.val[:-1])
    assert Lineage.of(data, split, BASE, "cpu") != Lineage.of(data, fewer, BASE, "cpu")


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, model="other"),
        replace(BASE, batch_size=31),
        replace(BASE, seed=1),
        replace(BASE, precision="bf16"),
        replace(BASE, augment_room=0.1),
    ],
)
def test_keys_depend_on_every_other_setting(data: ImageSet, split: Split, other: Settings) -> None:
    assert Lineage.of(data, split, BASE, "cpu") != Lineage.of(data, split, other, "cpu")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("search.stages.store.VERSION", 10**6),
        ("search.stages.store.OPTIMIZER", "sgd"),
        ("torch.__version__", "0.0.1"),
    ],
)
def test_keys_depend_on_the_versions_of_the_code(
    data: ImageSet, split: Split, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    before = Lineage.of(data, split, BASE, "cpu").key(BASE.rates())
    monkeypatch.setattr(name, value)
    assert Lineage.of(data, split, BASE, "cpu").key(BASE.rates()) != before


def test_keys_stay_while_the_version_of_training_does(
    data: ImageSet, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    key = Lineage.of(data, split, BASE, "cpu").key((0.1,))
    assert key == "c52af97e0ee7fd39f33473d08fe89bb7b14ee572d70ea9d5d09a56e33add7f91"


@pytest.mark.parametrize("at", range(6))
def test_keys_depend_on_every_bit_of_the_learning_rates(data: ImageSet, split: Split, at: int) -> None:
    lineage, rates = Lineage.of(data, split, BASE, "cpu"), list(BASE.rates())
    before = lineage.keys(rates)
    rates[at] = math.nextafter(rates[at], 1.0)
    after = lineage.keys(rates)
    assert before[:at] == after[:at]
    assert all(a != b for a, b in zip(before[at:], after[at:], strict=True))


@pytest.mark.parametrize(
    ("other", "agree"),
    [(replace(BASE, gamma=0.1), 5), (replace(BASE, epochs=20), 6), (replace(BASE, epochs=5, gamma=0.9), 5)],
)
def test_trials_share_keys_while_their_learning_rates_agree(
    data: ImageSet, split: Split, other: Settings, agree: int
) -> None:
    a, b = (Lineage.of(data, split, each, "cpu").keys(each.rates()) for each in (BASE, other))
    assert a[:agree] == b[:agree]
    assert not set(a[agree:]) & set(b[agree:])


# The longest stage of a trial


@pytest.mark.parametrize("stored", [(), (1,), (1, 2, 3), (2, 5), (6,), (1, 6)])
def test_the_deepest_stage_has_the_most_epochs(
    store: StageStore, data: ImageSet, split: Split, stored: tuple[int, ...]
) -> None:
    lineage, rates = Lineage.of(data, split, BASE, "cpu"), BASE.rates()
    for epochs in stored:
        store.put(lineage.key(rates[:epochs]), made_stage(epochs))
    found = store.deepest(lineage, rates)
    assert (len(found.state.history) if found else 0) == max(stored, default=0)


def test_a_damaged_stage_is_skipped_for_a_shorter_one(store: StageStore, data: ImageSet, split: Split) -> None:
    lineage, rates = Lineage.of(data, split, BASE, "cpu"), BASE.rates()
    store.put(lineage.key(rates[:2]), made_stage(2))
    store.storage.write(StageStore.name(lineage.key(rates[:5])), WHOLE[:-5])
    store.storage.write(StageStore.name(lineage.key(rates)), b"")
    found = store.deepest(lineage, rates)
    assert found is not None
    assert len(found.state.history) == 2
    assert len(names(store)) == 1


def test_stages_of_longer_and_of_other_trials_are_not_used(store: StageStore, data: ImageSet, split: Split) -> None:
    lineage = Lineage.of(data, split, BASE, "cpu")
    store.put(lineage.key(replace(BASE, epochs=7).rates()), made_stage(7))
    store.put(lineage.key(replace(BASE, gamma=0.1).rates()), made_stage(6))
    store.put(Lineage.of(data, split, BASE, "cuda").key(BASE.rates()), made_stage(6))
    assert store.deepest(lineage, BASE.rates()) is None


# Several processes

WRITER = """
import sys
from search.stages.storage import Storage
storage, contents = Storage(sys.argv[1]), [open(path, "rb").read() for path in sys.argv[3:]]
for _ in range(100):
    for content in contents:
        storage.write(sys.argv[2], content)
"""


def test_writers_of_one_stage_in_several_processes_never_tear_it(tmp_path: Path) -> None:
    store, stages = StageStore(str(tmp_path / "s")), [made_stage(epochs=2), made_stage(epochs=9, seed=1)]
    for index, stage in enumerate(stages):
        store.put(KEY, stage)
        (tmp_path / "s" / StageStore.name(KEY)).rename(tmp_path / str(index))
    command = [sys.executable, "-c", WRITER, store.uri, StageStore.name(KEY), str(tmp_path / "0"), str(tmp_path / "1")]
    writers = [subprocess.Popen(command) for _ in range(3)]
    seen = False
    while any(process.poll() is None for process in writers):
        found = store.get(KEY)
        assert found is not None or not seen, "a stage that was there came back as damaged"
        assert found is None or any(same_stage(found, stage) for stage in stages)
        seen = found is not None
    assert [process.wait() for process in writers] == [0, 0, 0]
    assert seen
    assert names(store) == [StageStore.name(KEY)]
