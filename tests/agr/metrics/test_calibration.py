"""Temperatures against a dense search with torch, calibration errors against sums written out, and their pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import log_loss

from agr.metrics import calibration
from agr.metrics.calibration import BINS, HIGHEST, LOWEST, THRESHOLDS, Bins
from agr.plots import search

Labelled = tuple[NDArray[np.float64], NDArray[np.int64]]


def clips(n: int = 400, women: float = 0.5, overconfidence: float = 1.0, seed: int = 0) -> Labelled:
    """Logits and labels of two normal distributions: true log odds of clips, `overconfidence` times too great."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) >= women * n).astype(np.int64)
    odds = 2 * (rng.normal(0, 1, n) + (2 * labels - 1)) * overconfidence
    return np.stack([-odds / 2, odds / 2], axis=1), labels


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return torch.softmax(torch.from_numpy(logits), dim=1).numpy()


def answers(confidences: list[float], right: list[bool]) -> Labelled:
    """Probabilities of given confidences, all answers `male`, and the labels that make them right or wrong."""
    sure = np.array(confidences)
    return np.stack([1 - sure, sure], axis=1), np.array(right).astype(np.int64)


# The temperature


@pytest.mark.parametrize("overconfidence", [0.2, 1.0, 4.0, 20.0])
def test_temperature_recovers_the_factor_of_scaled_logits(overconfidence: float) -> None:
    assert calibration.fit_temperature(*clips(4_000, overconfidence=overconfidence)) == pytest.approx(
        overconfidence, rel=0.1
    )


@pytest.mark.parametrize(("women", "seed"), [(0.5, 0), (0.1, 1), (0.9, 2)])
def test_fitted_temperature_maximises_the_likelihood(women: float, seed: int) -> None:
    """Torch's cross-entropy with probabilities for targets, at 2,000 temperatures."""
    logits, labels = clips(300, women, overconfidence=3.0, seed=seed)
    n = np.bincount(labels)[labels][:, None]  # (300, 1)
    targets = torch.from_numpy(np.where(np.eye(2)[labels] == 1, (n + 1) / (n + 2), 1 / (n + 2)))
    tried = np.geomspace(LOWEST, HIGHEST, 2_000)
    losses = []
    for each in tried:
        loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits / each), targets, reduction="none")
        losses.append(float((loss.numpy() / n[:, 0]).sum()))
    best = tried[int(np.argmin(losses))]
    assert calibration.fit_temperature(logits, labels) == pytest.approx(best, rel=np.log(HIGHEST / LOWEST) / 1_999)


def test_both_genders_have_equal_weight() -> None:
    logits, labels = clips(400, overconfidence=3.0)
    many = np.concatenate([np.arange(400), *[np.flatnonzero(labels == 0)] * 9])
    once = calibration.fit_temperature(logits, labels)
    assert calibration.fit_temperature(logits[many], labels[many]) == pytest.approx(once, rel=0.05)


def test_a_large_corpus_weighs_no_more_than_a_small_one() -> None:
    small, large = clips(400, overconfidence=4.0), clips(8_000, overconfidence=1.0, seed=1)
    alone = [calibration.fit_temperature(*each) for each in (small, large)]
    assert calibration.fit_across([small, small, large]) == pytest.approx(
        calibration.fit_across([small, large, small]), rel=1e-9
    )
    both = calibration.fit_across([small, large])
    assert alone[1] < both < alone[0]
    tenfold = np.concatenate([large[0]] * 10), np.concatenate([large[1]] * 10)
    assert calibration.fit_across([small, tenfold]) == pytest.approx(both, rel=0.01)


def test_confidence_without_mistakes_is_limited_by_the_number_of_clips() -> None:
    logits, labels = np.array([[9.0, -9.0], [-9.0, 9.0]] * 10), np.array([0, 1] * 10)
    found = calibration.fit_temperature(logits, labels)
    assert probabilities(logits / found).max(axis=1) == pytest.approx(np.full(20, 11 / 12), abs=1e-4)


@pytest.mark.parametrize(("logits", "expected"), [([[0.0, 0.0], [0.0, 0.0]], None), ([[1e4, 0], [1e4, 0]], HIGHEST)])
def test_temperature_stays_within_its_range(logits: list[list[float]], expected: float | None) -> None:
    found = calibration.fit_temperature(np.array(logits), np.array([0, 1]))
    assert LOWEST <= found <= HIGHEST
    assert expected is None or found == pytest.approx(expected, rel=1e-4)


def test_temperature_is_deterministic_and_accepts_float32() -> None:
    logits, labels = clips(100)
    assert calibration.fit_temperature(logits, labels) == calibration.fit_temperature(logits.copy(), labels)
    assert calibration.fit_temperature(logits.astype(np.float32), labels) == pytest.approx(
        calibration.fit_temperature(logits, labels), rel=1e-4
    )


# Metrics


def test_the_likelihood_is_that_of_scikit_learn_with_balanced_weights() -> None:
    logits, labels = clips(200, women=0.2)
    weights = 1 / np.bincount(labels)[labels]
    expected = log_loss(labels, probabilities(logits), sample_weight=weights)
    assert calibration.balanced_nll(logits, labels) == pytest.approx(expected, rel=1e-9)


def test_huge_logits_have_a_finite_likelihood() -> None:
    assert calibration.balanced_nll(np.array([[0.0, 3e4], [0.0, 3e4]]), np.array([0, 1])) == 1.5e4


def test_summary_reports_metrics_before_and_after_scaling() -> None:
    logits, labels = clips(overconfidence=5.0)
    found = calibration.fit(logits, labels)
    metrics = ["ece_val_before", "nll_val_before", "ece_val_after", "nll_val_after"]
    assert list(found) == ["temperature", "bins", "given", *metrics]
    assert found["temperature"] == calibration.fit_temperature(logits, labels)
    assert found["nll_val_after"] == calibration.balanced_nll(logits / found["temperature"], labels)
    assert found["nll_val_after"] < found["nll_val_before"]
    assert found["ece_val_after"] < found["ece_val_before"]
    text = calibration.summarize(found | calibration.metrics(logits, labels, "test"))
    assert f"Temperature {found['temperature']:.4f}, fitted on validation speakers" in text
    assert f"test {found['ece_val_before']:.4f}. Negative" in text


def test_a_temperature_from_elsewhere_is_used_and_named_so() -> None:
    logits, labels = clips(overconfidence=5.0)
    found = calibration.fit(logits, labels, 3.0)
    assert found["temperature"] == 3.0
    assert found["nll_val_after"] == calibration.balanced_nll(logits / 3.0, labels)
    text = calibration.summarize(found | calibration.metrics(logits, labels, "test"))
    assert "Temperature 3.0000, given to the search." in text


# Calibration error


def test_calibration_error_of_a_few_clips_by_hand() -> None:
    """Bins (0.8, 0.867] and (0.933, 1]: two of three right at 0.85, one of two at 0.95."""
    given, labels = answers([0.85, 0.85, 0.85, 0.95, 0.95], [True, True, False, True, False])
    found = calibration.bins(given, labels)
    assert found.confidence == pytest.approx([0.85, 0.95])
    assert found.accuracy == pytest.approx([2 / 3, 1 / 2])
    assert found.share == pytest.approx([3 / 5, 2 / 5])
    assert found.ece == pytest.approx(3 / 5 * (0.85 - 2 / 3) + 2 / 5 * (0.95 - 1 / 2))


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_follows_the_formula_of_the_paper(seed: int) -> None:
    logits, labels = clips(300, overconfidence=2.0, seed=seed)
    given = probabilities(logits)
    sure, right = given.max(axis=1), given.argmax(axis=1) == labels
    expected = 0.0
    for m in range(1, BINS + 1):
        inside = [k for k in range(300) if (m - 1) / BINS < sure[k] <= m / BINS]
        if inside:
            expected += len(inside) / 300 * abs(np.mean(right[inside]) - np.mean(sure[inside]))
    assert calibration.bins(given, labels).ece == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("confidence", "right", "error"), [(1.0, True, 0.0), (1.0, False, 1.0), (0.5, False, 0.5)])
def test_calibration_error_at_the_extremes(confidence: float, right: bool, error: float) -> None:
    given = np.array([[1 - confidence, confidence]]) if confidence > 0.5 else np.array([[0.5, 0.5]])
    label = int(given.argmax()) if right else 1 - int(given.argmax())
    assert calibration.bins(given, np.array([label])).ece == pytest.approx(error)


# Coverage


def test_coverage_curve_equals_coverage_at_each_threshold() -> None:
    logits, labels = clips(120, overconfidence=2.0)
    given = np.round(probabilities(logits), 2)  # many clips equally sure
    curve = calibration.coverage(given, labels)
    thresholds = np.unique(given.max(axis=1))[::-1]
    expected = [calibration.coverage_at(given, labels, threshold) for threshold in thresholds]
    assert len(thresholds) < 60
    assert np.stack([curve.share, curve.accuracy], axis=1) == pytest.approx(np.array(expected))
    assert curve.share[-1] == 1
    assert curve.accuracy[-1] == (given.argmax(axis=1) == labels).mean()


def test_marks_include_clips_exactly_at_the_threshold() -> None:
    curve = calibration.coverage(*answers([0.6, 0.7, 0.75, 0.8, 0.85], [False, True, False, True, True]))
    assert [mark[0] for mark in curve.marks] == list(THRESHOLDS)
    assert curve.marks[0][1:] == pytest.approx((4 / 5, 3 / 4))
    assert curve.marks[1][1:] == pytest.approx((2 / 5, 1))
    assert curve.marks[2][1] == 0
    assert np.isnan(curve.marks[2][2])


# Pictures


def is_png(path: Path) -> bool:
    with Image.open(path) as picture:
        colours = picture.convert("RGB").getcolors(picture.width * picture.height)
        return picture.format == "PNG" and 500 < picture.width < 1500 and len(colours or ()) > 20


def test_the_reliability_picture_names_every_side_and_its_error(tmp_path: Path, figures: list[Figure]) -> None:
    logits, labels = clips(overconfidence=3.0)
    sides = {"validation": calibration.bins(probabilities(logits), labels)}
    sides["test speakers"] = calibration.bins(probabilities(logits / 3), labels)
    search.reliability(sides, tmp_path / "reliability.png", "a search")
    assert is_png(tmp_path / "reliability.png")
    names = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert names[1:] == [f"{name}: calibration error {side.ece:.3f}" for name, side in sides.items()]
    assert figures[0].get_suptitle().startswith("a search\n")


def test_the_reliability_of_clips_all_alike_is_drawn(tmp_path: Path) -> None:
    one = Bins(np.array([1.0]), np.array([0.0]), np.array([1.0]))
    search.reliability({"test": one}, tmp_path / "reliability.png", "a search")
    assert is_png(tmp_path / "reliability.png")


def test_the_coverage_picture_says_what_each_threshold_leaves(tmp_path: Path, figures: list[Figure]) -> None:
    given = answers([0.6, 0.7, 0.75, 0.8, 0.85], [False, True, False, True, True])
    search.coverage(calibration.coverage(*given), tmp_path / "coverage.png", "a search")
    assert is_png(tmp_path / "coverage.png")
    (panel,) = figures[0].axes
    legend = panel.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "from 0.7 on: 0.750 right, 80.0 % answered",
        "from 0.8 on: 1.000 right, 40.0 % answered",
        "from 0.9 on: no clip answered",
    ]
