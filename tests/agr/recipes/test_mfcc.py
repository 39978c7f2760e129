"""The images of the paper's recipes, compared pixel by pixel with those of librosa and matplotlib."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from librosa.filters import mel as mel_by_librosa
from numpy.typing import NDArray
from PIL import Image

from agr.audio import read as audio
from agr.errors import RecipeError
from agr.recipes import mfcc
from agr.recipes.base import IMAGE_SHAPE
from agr.recipes.mfcc import MFCC, MFCC48, VIRIDIS, MfccRecipe
from agr.recipes.mfcc_reference import by_librosa, cepstra
from agr.synth import demo


def voice(i: int, sample_rate: int = demo.SAMPLE_RATE) -> NDArray[np.float32]:
    """Utterance number i, each by another voice and of another word."""
    speaker = demo.voices(8, seed=5)[i % 8]
    return audio.resample(demo.utterance(speaker, i % 10, i, seed=5), demo.SAMPLE_RATE, sample_rate)


def noise(seconds: float, seed: int = 0, sample_rate: int = 16_000) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * sample_rate)).astype(np.float32)


def images(clips: list[NDArray[np.float32]], made_by: MfccRecipe) -> NDArray[np.uint8]:
    """The images of a batch of clips, each placed in one window."""
    placed = np.stack([mfcc.place(y, made_by) for y in clips])
    return np.stack([made_by.decode(data) for data in mfcc.jpegs(placed, made_by)])


# --- against librosa and matplotlib


def differing_pixels(clips: list[NDArray[np.float32]], made_by: MfccRecipe = MFCC48) -> int:
    """Values (of clips x 12 x 98 x 3) in which our images differ from the libraries'."""
    ours = images(clips, made_by)
    assert ours.shape == (len(clips), 12, 98, 3)
    theirs = [made_by.decode(by_librosa(made_by).encode(y)) for y in clips]
    return int((ours != np.stack(theirs)).sum())


def test_images_of_synthetic_voices_equal_the_libraries_pixel_by_pixel() -> None:
    assert (MFCC48.win_length, MFCC48.hop_length, MFCC48.n_samples) == (1_200, 480, 47_997)
    assert differing_pixels([voice(i, 48_000) for i in range(16)]) == 0


def test_images_at_16_khz_equal_the_libraries_pixel_by_pixel() -> None:
    assert differing_pixels([voice(i) for i in range(8)], MFCC) == 0


def test_images_of_noise_and_of_a_long_clip_equal_the_libraries_pixel_by_pixel() -> None:
    assert differing_pixels([noise(seconds, 1, 48_000) for seconds in (0.1, 0.5, 0.9999, 1.0, 3.0)]) == 0


def real_clips(archive: Path, step: int = 40, count: int = 12) -> Iterator[NDArray[np.float32]]:
    with tarfile.open(archive, "r|gz") as tar:
        names = (member for member in tar if member.name.endswith(".wav"))
        for i, member in enumerate(names):
            file = tar.extractfile(member) if i % step == 0 else None
            if file is not None:
                yield audio.load(file.read(), 48_000, member.name)
            if i == step * (count - 1):
                return


def test_images_of_real_voices_equal_the_libraries_pixel_by_pixel(real_archive: Path) -> None:
    assert differing_pixels(list(real_clips(real_archive))) == 0


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 48_000])
def test_cepstra_equal_librosas(sample_rate: int) -> None:
    made_by = replace(MFCC, sample_rate=sample_rate)
    window = mfcc.place(voice(3, sample_rate), made_by)
    ours = mfcc.mfcc(window[None], made_by)
    assert ours.shape == (1, 12, 98)
    assert ours.dtype == np.float64
    # of values up to 1,400; librosa keeps its mel filters in float32
    np.testing.assert_allclose(ours[0], cepstra(window.astype(np.float64), made_by), rtol=0, atol=2e-5)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 48_000])
def test_mel_filters_equal_librosas(sample_rate: int) -> None:
    n_fft = sample_rate // 40
    theirs = mel_by_librosa(sr=sample_rate, n_fft=n_fft, n_mels=40, dtype=np.float64)
    np.testing.assert_allclose(mfcc.mel_filters(sample_rate, n_fft, 40), theirs, rtol=1e-9, atol=1e-12)


def test_viridis_equals_matplotlibs_in_every_entry() -> None:
    np.testing.assert_array_equal(VIRIDIS, mpl.colormaps["viridis"](np.arange(256), bytes=True)[:, :3])


def test_colours_equal_matplotlibs_at_and_between_all_steps() -> None:
    values = np.concatenate([np.arange(257) / 256, np.nextafter(np.arange(1, 257) / 256, 0)])[None, None]
    theirs = mpl.colormaps["viridis"](mpl.colors.Normalize()(values[0]), bytes=True)[..., :3]
    np.testing.assert_array_equal(mfcc.colour(values)[0], theirs)


def test_a_constant_matrix_gets_the_lowest_colour() -> None:
    image = mfcc.colour(np.full((1, 12, 98), 7.0))[0]
    np.testing.assert_array_equal(image, np.broadcast_to(VIRIDIS[0], IMAGE_SHAPE))


def test_each_matrix_is_scaled_by_its_own_range() -> None:
    values = np.random.default_rng(0).normal(size=(2, 12, 98))
    np.testing.assert_array_equal(mfcc.colour(values * [[[1e-3]], [[1e3]]] + 5), mfcc.colour(values))


# --- one window of a clip


@pytest.mark.parametrize("made_by", (MFCC, MFCC48), ids=str)
@pytest.mark.parametrize("seconds", [0.1, 0.5, 0.99, 1.0, 2.5])
def test_images_have_one_shape_whatever_the_length(made_by: MfccRecipe, seconds: float) -> None:
    clip = noise(seconds, 2, made_by.sample_rate)
    assert mfcc.place(clip, made_by).shape == (made_by.n_samples,)
    assert mfcc.place(clip, made_by).dtype == np.float32
    image = images([clip], made_by)
    assert image.shape == (1, *IMAGE_SHAPE)
    assert image.dtype == np.uint8


def test_a_short_clip_is_kept_whole_with_zeros_around() -> None:
    clip = noise(0.5)
    placed = mfcc.place(clip, MFCC)
    (start,) = np.flatnonzero(placed == clip[0])
    np.testing.assert_array_equal(placed[start : start + len(clip)], clip)
    assert not placed[:start].any()
    assert not placed[start + len(clip) :].any()


def test_a_clip_as_long_as_a_window_is_not_changed() -> None:
    clip = noise(1.0)[: MFCC.n_samples]
    np.testing.assert_array_equal(mfcc.place(clip, MFCC), clip)


def zeros_before(clip: NDArray[np.float32]) -> int:
    return int(np.flatnonzero(mfcc.place(clip, MFCC))[0])


def test_the_position_of_a_short_clip_depends_on_its_content_only() -> None:
    for seed in range(5):
        clip = np.round(noise(0.4, seed) * 32767) / np.float32(32767)
        assert zeros_before(clip) == zeros_before(clip.copy())
        assert zeros_before(clip) == zeros_before(clip + np.float32(1e-6))  # the same 16 bits


def test_positions_of_short_clips_spread_over_the_whole_window() -> None:
    room = MFCC.n_samples - 6_400
    starts = np.array([zeros_before(noise(0.4, seed) + 1) for seed in range(200)])
    assert starts.min() < 0.05 * room
    assert starts.max() > 0.95 * room
    assert starts.max() <= room
    assert abs(starts.mean() / room - 0.5) < 0.1  # three standard errors of a uniform draw are 0.06
    assert len(set(starts.tolist())) > 190


@pytest.mark.parametrize("loud_at", [0, 1_120, 20_000, 32_000])  # whole hops
@pytest.mark.parametrize("offset", [0.0, 0.3, -0.084])
def test_a_long_clip_keeps_its_loudest_window_whatever_its_offset(loud_at: int, offset: float) -> None:
    clip = noise(3.0) * np.float32(0.01)
    clip[loud_at : loud_at + MFCC.n_samples] *= 50
    clip += np.float32(offset)
    np.testing.assert_array_equal(mfcc.place(clip, MFCC), clip[loud_at : loud_at + MFCC.n_samples])


# --- all windows of a clip


@pytest.mark.parametrize("seconds", [1.01, 1.5, 2.0, 2.25, 7.3])
def test_windows_overlap_by_half_cover_everything_and_end_flush(seconds: float) -> None:
    n = MFCC.n_samples
    clip = np.arange(1, round(seconds * 16_000) + 1, dtype=np.float32)  # a sample's value says where it stood
    cut = mfcc.windows(clip, MFCC)
    starts = np.array([int(window[0]) - 1 for window in cut])
    for start, window in zip(starts, cut, strict=True):
        np.testing.assert_array_equal(window, clip[start : start + n])
    assert starts[0] == 0
    assert starts[-1] + n == len(clip)
    assert (np.diff(starts)[:-1] == n // 2).all()
    assert 0 < np.diff(starts)[-1] <= n // 2


@pytest.mark.parametrize("length", [1_600, 15_998, 15_999])
def test_a_clip_that_fits_gives_one_placed_window(length: int) -> None:
    clip = noise(1.0)[:length]
    (window,) = mfcc.windows(clip, MFCC)
    np.testing.assert_array_equal(window, mfcc.place(clip, MFCC))


def test_windows_of_constant_samples_are_left_out() -> None:
    pause = np.full(48_000, -0.084, dtype=np.float32)
    clip = np.concatenate([noise(1.0), pause, noise(1.0, 1)])
    cut = mfcc.windows(clip, MFCC)
    assert len(cut) == 6  # near 0, 0.5 and 1 s (with two samples of noise), 3.5 and 4 s, and the one at the end
    assert all(np.ptp(window) > 0 for window in cut)
    assert len(mfcc.windows(pause, MFCC)) == 1  # never none


def test_a_batch_equals_single_clips() -> None:
    clips = [voice(i) for i in range(6)] + [noise(2.0)]
    together = images(clips, MFCC)
    np.testing.assert_array_equal(together, np.concatenate([images([clip], MFCC) for clip in clips]))
    np.testing.assert_array_equal(together, [MFCC.decode(MFCC.encode(clip)) for clip in clips])
    np.testing.assert_array_equal(together, [MFCC.place(clip).stored for clip in clips])
    assert len({image.tobytes() for image in together}) == len(clips)


# --- files that are no image of ours


def image_file(size: tuple[int, int] = (98, 12), mode: str = "RGB", kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, format=kind)
    return buffer.getvalue()


REFUSED = {
    "a PNG": (image_file(kind="PNG"), "no whole JPEG"),
    "wrong width": (image_file((97, 12)), "97x12 RGB"),
    "on its side": (image_file((12, 98)), "12x98 RGB"),
    "grey": (image_file(mode="L"), "98x12 L"),
    "CMYK": (image_file(mode="CMYK"), "98x12 CMYK"),
    "nothing": (b"", "no whole JPEG"),
    "text": (b"<html>not found</html>", "no whole JPEG"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_decoding_refuses_other_files_by_name(case: str) -> None:
    data, reason = REFUSED[case]
    with pytest.raises(RecipeError, match=f"^x/y.jpg: {reason}.*expected.*98x12 RGB"):
        MFCC.decode(data, "x/y.jpg")


@pytest.mark.parametrize("part", [0.01, 0.2, 0.5, 0.65, 0.8, 0.99])
def test_decoding_refuses_a_torn_file(part: float) -> None:
    data = mfcc.jpegs(mfcc.place(voice(0), MFCC)[None], MFCC)[0]
    MFCC.decode(data)
    with pytest.raises(RecipeError, match="no whole JPEG"):
        MFCC.decode(data[: int(part * len(data))])


def test_decoding_refuses_a_file_that_claims_billions_of_pixels() -> None:
    data = bytearray(image_file())
    frame = data.index(b"\xff\xc0")  # SOF0: marker, length, precision, height, width
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(RecipeError, match="98x12 RGB"):
        MFCC.decode(bytes(data))
