"""Training the model that comes with AGR: its wrong usage; the training itself takes minutes and is `make champion`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agr.common.places import SHIPPED
from agr.errors import CorpusError
from agr.inference import bundle
from search import make_champion


def test_a_folder_without_the_corpora_is_refused(tmp_path: Path) -> None:
    (tmp_path / "emodb").mkdir()
    with pytest.raises(CorpusError, match="no folder alphanumeric, commonvoice, librispeech, spanish_digits; expected"):
        make_champion.main([str(tmp_path)])


def test_the_champion_in_the_package_is_one_that_was_made_so() -> None:
    loaded = bundle.load(SHIPPED)
    settings = loaded.info.settings
    assert (settings["lr"], settings["gamma"]) == (make_champion.RATE, make_champion.GAMMA)
    assert settings["epochs"] <= make_champion.EPOCHS
    assert {key: (settings[key],) for key in make_champion.AXES} == make_champion.AXES
    assert not loaded.info.data["synthetic"]
    assert not loaded.info.never_beat_chance
    assert set(loaded.info.data["name"].split("+")) > set(make_champion.CORPORA)


def test_the_champion_learned_from_nobody_whose_recordings_state_no_licence() -> None:
    speakers = json.loads((SHIPPED / bundle.SEEN).read_text(encoding="utf-8"))["speakers"]
    corpora = {speaker.split("/")[0] for speaker in speakers}
    assert {name for name in corpora if not name.startswith("demo")} <= set(make_champion.CORPORA)
    attribution = (SHIPPED / "ATTRIBUTION").read_text(encoding="utf-8")
    for title in ("Common Voice", "LibriSpeech", "EmoDB", "Sakshee Patil", "AbeJLazaro"):
        assert title in attribution
