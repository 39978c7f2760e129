"""Models as files: they load as they were saved, damaged ones are refused, and no code in them runs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save as tensors_to_bytes

from agr.data.image_set import ImageSet
from agr.errors import ModelError
from agr.inference import bundle, predictor
from agr.inference.bundle import INFO, SEEN, WEIGHTS
from agr.training.model import build, predict_logits, to_input

Values = dict[str, Any]


@pytest.fixture
def folder(bundle_folder: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(bundle_folder, tmp_path / "the model"))


def message(folder: Path) -> str:
    """What `load` says of a folder that it refuses: one line."""
    with pytest.raises(ModelError) as caught:
        bundle.load(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


def edit(folder: Path, change: Callable[[Values], object]) -> None:
    values = json.loads((folder / INFO).read_text())
    change(values)
    (folder / INFO).write_text(json.dumps(values))


def put_weights(folder: Path, data: bytes) -> None:
    """Other weights, with their digest in the info."""
    (folder / WEIGHTS).write_bytes(data)
    edit(folder, lambda values: values.update(weights_sha256=hashlib.sha256(data).hexdigest()))


def test_weights_come_back_to_the_bit(bundle_folder: Path, tmp_path: Path, images: ImageSet) -> None:
    model = build("cnn", seed=11)  # its kernels lie channels last
    info, seen = bundle.read_info(bundle_folder), bundle.read_seen(bundle_folder)
    bundle.save(tmp_path / "deep" / "er", model.state_dict(), info, seen)
    loaded = bundle.load(tmp_path / "deep" / "er")
    expected, found = model.state_dict(), loaded.model.state_dict()
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name].contiguous().view(torch.int32), tensor.contiguous().view(torch.int32))
    pixels = np.array(images.pixels[:5])
    again = predictor.predict_images(pixels, loaded)
    assert np.array_equal(again, predictor.predict_images(pixels, bundle.Bundle(model.eval(), info)))


@pytest.mark.parametrize(("name", "width"), [("cnn", 0.25), ("cnn", 1.25), ("pooled", 0.4), ("pooled", 2.0)])
def test_a_model_of_another_width_comes_back(
    bundle_folder: Path, tmp_path: Path, images: ImageSet, name: str, width: float
) -> None:
    model, info = build(name, 4, width, 0.5), bundle.read_info(bundle_folder)
    info = replace(info, model=name, settings=dict(info.settings) | {"width": width, "dropout": 0.5})
    bundle.save(tmp_path / "wide", model.state_dict(), info, bundle.read_seen(bundle_folder))
    loaded = bundle.load(tmp_path / "wide")
    pixels = np.array(images.pixels[:3])
    expected = predictor.predict_images(pixels, bundle.Bundle(model.eval(), info))
    assert np.array_equal(predictor.predict_images(pixels, loaded), expected)


def test_batch_norm_is_folded_for_prediction_and_kept_in_the_model(bundle_folder: Path) -> None:
    model = build("towers", seed=3)
    pixels = np.random.default_rng(0).integers(0, 256, (4, *model.image_shape), dtype=np.uint8)
    model.train()
    with torch.no_grad():
        model(to_input(torch.from_numpy(pixels)))  # moves the means and variances
    loaded = bundle.Bundle(model.eval(), bundle.read_info(bundle_folder))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = predict_logits(model, pixels, np.arange(4), torch.device("cpu")).numpy()
    np.testing.assert_allclose(predictor.logits_of_images(pixels, loaded), expected, atol=1e-5)
    assert not any(isinstance(each, torch.nn.BatchNorm2d) for each in loaded.folded.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_model_without_batch_norm_predicts_as_it_is(bundle_folder: Path) -> None:
    loaded = bundle.load(bundle_folder)
    assert loaded.folded is loaded.model


def test_a_bundle_older_than_the_width_setting_has_width_one(folder: Path) -> None:
    edit(folder, lambda values: values["settings"].pop("width"))
    assert sum(parameter.numel() for parameter in bundle.load(folder).model.parameters()) == 609_602


@pytest.mark.parametrize(
    ("width", "part"),
    [
        ("1", "settings: width '1'; expected a number"),
        (None, "settings: width None; expected a number"),
        (True, "settings: width True; expected a number"),
        ([1.0], "settings: width [1.0]; expected a number"),
        (1e9, "width 1000000000.0: expected 0.25 to 2.0"),
        (math.nan, "width nan: expected 0.25 to 2.0"),
        (1.5, "width 1.5: 1,370,594 parameters of model cnn; expected at most 1,000,000"),
        (0.5, "size mismatch for conv1.weight"),
    ],
)
def test_a_width_that_does_not_fit_is_refused(folder: Path, width: object, part: str) -> None:
    edit(folder, lambda values: values["settings"].update(width=width))
    assert part in message(folder)


def test_the_info_is_saved_with_the_digest_of_the_weights(bundle_folder: Path) -> None:
    loaded = bundle.load(bundle_folder)
    assert not loaded.model.training
    assert loaded.info.weights_sha256 == hashlib.sha256((bundle_folder / WEIGHTS).read_bytes()).hexdigest()
    assert loaded.info.data["synthetic"] is True
    assert loaded.info.classes == ("female", "male")
    assert json.loads((bundle_folder / INFO).read_text()) == json.loads(json.dumps(asdict(loaded.info)))


def test_speakers_and_recordings_of_the_training_are_saved(bundle_folder: Path, images: ImageSet) -> None:
    seen = bundle.read_seen(bundle_folder)
    assert seen.speakers < set(images.speakers.tolist())
    assert len(seen.speakers) == 6
    assert len(seen.recordings) == 60


def test_the_bundle_inside_an_mlflow_model_is_found(folder: Path, tmp_path: Path) -> None:
    outer = tmp_path / "mlflow model"
    shutil.copytree(folder, outer / "data" / "bundle")
    assert bundle.locate(outer) == outer / "data" / "bundle"
    assert bundle.load(outer).info == bundle.load(folder).info
    assert bundle.read_seen(outer) == bundle.read_seen(folder)


def test_every_flipped_byte_of_the_weights_is_noticed(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    for at in (0, 9, len(data) // 2, len(data) - 1):
        (folder / WEIGHTS).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert f"{WEIGHTS}: sha256 " in message(folder)
    (folder / WEIGHTS).write_bytes(data[:-1])
    assert f"{WEIGHTS}: sha256 " in message(folder)


@pytest.mark.parametrize("name", [INFO, WEIGHTS])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in message(folder)


def test_weights_of_other_shapes_are_refused(folder: Path) -> None:
    weights = load_file(str(folder / WEIGHTS))
    weights["out.bias"] = torch.zeros(3)
    put_weights(folder, tensors_to_bytes(weights))
    assert "size mismatch for out.bias" in message(folder)


def test_weights_that_are_missing_or_too_many_are_refused(folder: Path) -> None:
    weights = load_file(str(folder / WEIGHTS))
    weights["more.bias"] = weights.pop("out.bias")
    put_weights(folder, tensors_to_bytes(weights))
    text = message(folder)
    assert "out.bias" in text
    assert "more.bias" in text


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff" * 64, (2**62).to_bytes(8, "little") + b"{}"])
def test_bytes_that_are_no_safetensors_are_refused(folder: Path, data: bytes) -> None:
    put_weights(folder, data)
    assert WEIGHTS in message(folder)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda v: v.update(format=1, more=1), "format 1; expected format 2"),
        (lambda v: v.pop("format"), "format None; expected format 2"),
        (lambda v: v.update(colour="red"), "keys ['colour'] are missing or unknown"),
        (lambda v: v.pop("val"), "keys ['val'] are missing or unknown"),
        (lambda v: v.update(classes=["male", "female"]), "classes ['male', 'female']; expected ['female', 'male']"),
        (lambda v: v.update(classes=None), "expected a description of a model"),
        (lambda v: v["recipe"].update(name="mel"), "recipe 'mel': unknown; expected one of voice, voice112, mfcc"),
        (lambda v: v["recipe"].update(lifter=23), "recipe 'mfcc': version 1, other settings"),
        (lambda v: v["recipe"].pop("top_db"), "keys ['top_db'] are missing or unknown"),
        (lambda v: v.update(recipe=None), "expected a description of a model"),
        (lambda v: v.update(recipe="mfcc"), "recipe: no name; expected the settings of one"),
        (lambda v: v.update(model="resnet"), "model 'resnet': unknown; expected one of cnn, pooled"),
        (lambda v: v.update(model=["cnn"]), "model ['cnn']: unknown"),
        (lambda v: v.update(weights_sha256=None), "expected None"),
    ],
)
def test_an_unknown_info_is_refused(folder: Path, change: Callable[[Values], object], part: str) -> None:
    edit(folder, change)
    assert part in message(folder)


@pytest.mark.parametrize(
    "text", ["", "format: 1", "[]", "1", "null", '"card"', '{"format": 1', "\ud800", "[" * 100_000], ids=range(9)
)
def test_an_info_that_is_no_json_object_is_refused(folder: Path, text: str) -> None:
    (folder / INFO).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert INFO in message(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"speakers": [], "recordings": 1}', '{"speakers": [[]]}'])
def test_an_unreadable_list_of_speakers_is_refused(folder: Path, text: str) -> None:
    (folder / SEEN).write_text(text)
    with pytest.raises(ModelError, match=SEEN) as caught:
        bundle.read_seen(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_info_is_no_model(tmp_path: Path) -> None:
    assert f"no {INFO} in it; expected a model that AGR wrote" in message(tmp_path)
    assert INFO in message(tmp_path / "not there")


class Payload:
    """Unpickled, it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def pickled(payload: Payload, scratch: Path) -> bytes:
    return pickle.dumps(payload)


def saved_by_torch(payload: Payload, scratch: Path) -> bytes:
    torch.save({"out.bias": payload}, scratch / "model.pt")
    return (scratch / "model.pt").read_bytes()


@pytest.mark.parametrize("make", [pickled, saved_by_torch])
@pytest.mark.parametrize("name", [WEIGHTS, INFO, SEEN])
def test_a_pickle_under_a_bundles_name_is_refused_and_does_not_run(
    folder: Path, tmp_path: Path, make: Callable[[Payload, Path], bytes], name: str
) -> None:
    marker = tmp_path / "it ran"
    data = make(Payload(marker), tmp_path)
    if make is pickled:
        pickle.loads(data)  # the payload works
        marker.rmdir()
    if name == WEIGHTS:
        put_weights(folder, data)
    else:
        (folder / name).write_bytes(data)
    if name == SEEN:
        with pytest.raises(ModelError):
            bundle.read_seen(folder)
    else:
        assert name in message(folder)
    assert not marker.exists()


def test_code_beside_a_bundle_does_not_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "it ran"
    outer = tmp_path / "mlflow model"
    shutil.copytree(folder, outer / "data" / "bundle")
    code = f"import os; os.mkdir({str(marker)!r})\ndef _load_pyfunc(path): os.mkdir({str(marker)!r})\n"
    for path in (outer, outer / "code", outer / "data" / "bundle"):
        path.mkdir(exist_ok=True)
        for name in ("evil.py", "__init__.py", "conftest.py", "sitecustomize.py"):
            (path / name).write_text(code)
    (outer / "python_model.pkl").write_bytes(pickle.dumps(Payload(marker)))
    flavour = {"loader_module": "evil", "code": "code", "data": "data/bundle", "python_model": "python_model.pkl"}
    (outer / "MLmodel").write_text(json.dumps({"flavors": {"python_function": flavour}}))
    monkeypatch.chdir(outer)
    before = list(sys.path)
    assert bundle.load(outer).info == bundle.load(folder).info
    bundle.read_seen(outer)
    assert sys.path == before
    assert "evil" not in sys.modules
    assert not marker.exists()


def test_a_bundle_holds_three_files_and_no_pickle(bundle_folder: Path) -> None:
    assert sorted(path.name for path in bundle_folder.iterdir()) == [INFO, SEEN, WEIGHTS]
    for path in bundle_folder.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError)):
            pickle.loads(path.read_bytes())
