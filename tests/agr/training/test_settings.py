"""The settings of a trial: learning rates, allowed ranges, and the names that earlier versions stored."""

from __future__ import annotations

from agr.training.settings import Settings, current_names

FORMER = ("speed", "pitch", "formants", "colour", "line", "noise", "room", "shift")


def test_stored_settings_of_earlier_versions_get_their_current_names() -> None:
    stored = {"lr": 0.1, "vary_population": 0.5} | {f"vary_{name}": 0.0 for name in FORMER}
    expected = {"lr": 0.1, "augment_pitch_targets": 0.5} | {f"augment_{name}": 0.0 for name in FORMER}
    assert current_names(stored) == expected
    assert expected.keys() < Settings(1, 0.1, 0.5).config().keys()


def test_current_settings_keep_their_names() -> None:
    config = Settings(1, 0.1, 0.5).config()
    assert current_names(config) == config
