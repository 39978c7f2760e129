"""Decoding: formats, channels and rates that must work, and files that must be refused by name and reason."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from agr.audio import files, track
from agr.audio import read as audio
from agr.errors import AudioError, EmptyAudio, LongAudio, NonFiniteAudio, ShortAudio, SilentAudio, UnreadableAudio

Samples = NDArray[np.float64]
LOSSLESS = [("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT")]
LOSSLESS += [("WAV", "DOUBLE"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")]
STEP = {"PCM_U8": 2**-7, "PCM_16": 2**-15}  # of one quantisation; the others are finer than float32


def sine(rate: int = 16_000, seconds: float = 0.5, hz: float = 220.0, amplitude: float = 0.5) -> Samples:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def noise(seconds: float, rate: int = 16_000) -> Samples:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))


def encode(y: NDArray[np.floating], rate: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, y, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def save(folder: Path, data: bytes, kind: str = "wav") -> Path:
    path = folder / f"clip.{kind.lower()}"
    path.write_bytes(data)
    return path


def wav(samples: bytes, promised: int, riff: int | None = None, channels: int = 1, rate: int = 16_000) -> bytes:
    """A 16-bit WAV file by hand, so that its header can say what no library would write."""
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * rate, 2, 16)
    size = struct.pack("<I", (36 + promised if riff is None else riff) & 0xFFFFFFFF)
    return b"RIFF" + size + b"WAVEfmt " + form + b"data" + struct.pack("<I", promised) + samples


def refusal(path: Path, kind: type[AudioError]) -> str:
    """The message of exactly this error: one line that names the file."""
    with pytest.raises(AudioError) as caught:
        audio.decode(path)
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert message.startswith(f"{path}: ")
    assert "expected" in message
    assert "\n" not in message
    return message


# --- what can be read


@pytest.mark.parametrize(("kind", "subtype"), LOSSLESS)
def test_lossless_formats_come_back_within_one_quantisation_step(tmp_path: Path, kind: str, subtype: str) -> None:
    y, rate = audio.decode(save(tmp_path, encode(sine(), 16_000, kind, subtype), kind))
    assert y.dtype == np.float32
    assert (y.shape, rate) == ((8_000,), 16_000)
    np.testing.assert_allclose(y, sine(), atol=STEP.get(subtype, 2**-22))


@pytest.mark.parametrize(("kind", "rate"), [("OGG", 16_000), ("OGG", 48_000), ("MP3", 16_000), ("MP3", 44_100)])
def test_lossy_formats_keep_length_frequency_and_level(tmp_path: Path, kind: str, rate: int) -> None:
    y, found = audio.decode(save(tmp_path, encode(sine(rate, 1.0), rate, kind), kind))
    assert found == rate
    assert abs(len(y) - rate) <= 2_304  # MP3 pads to whole frames of 1,152 samples
    assert dominant_hz(y, rate) == pytest.approx(220, abs=2)
    assert np.sqrt(np.mean(np.square(y))) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_channels_become_their_mean(tmp_path: Path, kind: str, channels: int) -> None:
    levels = np.linspace(0.2, 1.0, channels)
    y, _ = audio.decode(save(tmp_path, encode(np.outer(sine(), levels), kind=kind), kind))
    assert y.shape == (8_000,)
    np.testing.assert_allclose(y, sine() * levels.mean(), atol=0.02 if kind == "OGG" else 1e-4)


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 44_100, 96_000, 192_000])
def test_sample_rates_from_4_to_192_khz_are_read(tmp_path: Path, rate: int) -> None:
    y, found = audio.decode(save(tmp_path, encode(sine(rate), rate)))
    assert (found, len(y)) == (rate, rate // 2)


@pytest.mark.parametrize("rate", [1, 3_999, 192_001, 2**31 - 1])
def test_sample_rates_outside_are_refused(tmp_path: Path, rate: int) -> None:
    message = refusal(save(tmp_path, wav(b"\1\2" * 8_000, 16_000, rate=rate)), AudioError)
    assert f"{rate} Hz" in message


def test_bytes_and_files_decode_alike_and_bytes_carry_the_given_name(tmp_path: Path) -> None:
    data = encode(sine())
    np.testing.assert_array_equal(audio.decode(data)[0], audio.decode(save(tmp_path, data))[0])
    with pytest.raises(EmptyAudio, match=r"^standard input: 0 bytes"):
        audio.decode(b"")
    with pytest.raises(UnreadableAudio, match=r"^given\.wav: "):
        audio.decode(b"RIFF", "given.wav")


# --- resampling


def dominant_hz(y: NDArray[np.floating], rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y)), 2**18))
    return float(np.argmax(spectrum)) * rate / 2**18


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 192_000])
def test_a_resampled_sine_keeps_frequency_amplitude_and_duration(rate: int) -> None:
    y = audio.resample(sine(rate, 1.0, 997.0).astype(np.float32), rate, 16_000)
    assert y.dtype == np.float32
    assert abs(len(y) - 16_000) <= 1
    assert dominant_hz(y, 16_000) == pytest.approx(997, abs=0.2)
    middle = slice(2_000, 14_000)
    np.testing.assert_allclose(y[middle], sine(16_000, 1.0, 997.0)[: len(y)][middle], atol=2e-3)


def test_resampling_agrees_with_a_polyphase_filter_on_band_limited_noise() -> None:
    rng = np.random.default_rng(0)
    y = resample_poly(rng.standard_normal(8_000), 6, 1) * 0.1  # 48 kHz, nothing above 4 kHz
    expected = resample_poly(y, 1, 3)
    found = audio.resample(y.astype(np.float32), 48_000, 16_000)
    assert np.abs(found - expected)[500:-500].max() < 0.01 * np.abs(expected).max()


def test_what_lies_above_the_new_band_does_not_fold_back() -> None:
    y = audio.resample(sine(48_000, 1.0, 11_000.0).astype(np.float32), 48_000, 16_000)
    assert np.abs(y[2_000:-2_000]).max() < 1e-3


def test_the_same_rate_is_left_alone_and_load_decodes_and_resamples(tmp_path: Path) -> None:
    y = sine().astype(np.float32)
    assert audio.resample(y, 16_000, 16_000) is y
    path = save(tmp_path, encode(sine(48_000), 48_000))
    assert abs(len(audio.load(path, 16_000)) - 8_000) <= 1


# --- what is refused


def test_a_file_that_is_missing_a_folder_or_empty(tmp_path: Path) -> None:
    refusal(tmp_path / "absent.wav", UnreadableAudio)
    refusal(tmp_path, UnreadableAudio)
    assert "0 bytes" in refusal(save(tmp_path, b""), EmptyAudio)


@pytest.mark.parametrize("kind", ["WAV", "OGG"])
def test_a_file_without_samples(tmp_path: Path, kind: str) -> None:
    assert "no samples" in refusal(save(tmp_path, encode(np.zeros(0), kind=kind), kind), EmptyAudio)


def test_no_samples_but_a_chunk_after_them_is_not_taken_for_a_pipe(tmp_path: Path) -> None:
    note = b"LIST" + struct.pack("<I", 20_000) + bytes(range(100)) * 200
    refusal(save(tmp_path, wav(note, 0, riff=36 + len(note))), EmptyAudio)


@pytest.mark.parametrize("data", [b"Dear diary,\n" * 500, b"\0" * 5_000, b"RIFF", b"fLaC", b"OggS" + b"\0" * 3])
def test_text_and_debris_named_wav(tmp_path: Path, data: bytes) -> None:
    refusal(save(tmp_path, data), UnreadableAudio)


@pytest.mark.parametrize("size", [0, 1, 3_200, 8_000, 14_300, 14_500, 15_998, 15_999])
def test_a_cut_wav_is_read_as_far_as_it_goes_and_says_so(tmp_path: Path, size: int) -> None:
    path = save(tmp_path, encode(sine())[: 44 + size])
    if size < 2:
        refusal(path, EmptyAudio)
        return
    found = audio.read(path, 16_000)
    np.testing.assert_allclose(found.samples, sine()[: size // 2], atol=2**-15)
    missing = f"{size / 32_000:.1f} s of the 0.5 s that its header promises"
    assert found.warning == (missing if size < 0.9 * 16_000 else None)


@pytest.mark.parametrize("size", range(4, 44, 5))
def test_a_wav_cut_in_its_header(tmp_path: Path, size: int) -> None:
    refusal(save(tmp_path, encode(sine())[:size]), UnreadableAudio)


@pytest.mark.parametrize("kind", ["OGG", "FLAC", "MP3", "AIFF", "AU", "CAF", "W64", "RF64"])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.8, 0.999])
def test_what_there_is_of_a_cut_file_is_read(tmp_path: Path, kind: str, part: float) -> None:
    data = encode(noise(10.0), kind=kind)
    found = audio.read(save(tmp_path, data[: int(part * len(data))], kind), 16_000)
    seconds = len(found.samples) / 16_000
    assert 10 * part - 1.5 < seconds <= 10 * part + 0.3  # a page of an Ogg holds more than a second
    told = found.warning == f"{seconds:.1f} s of the 10.0 s that its header promises"
    assert told == (part < 0.9 and kind != "OGG")  # which promises nothing


def test_an_ogg_whose_last_page_is_not_marked_as_the_end_is_whole(tmp_path: Path) -> None:
    data = bytearray(encode(noise(3.0), kind="OGG"))
    expected = audio.load(bytes(data), 16_000)
    data[data.rfind(b"OggS") + 5] &= ~4  # the checksum is now wrong as well
    found = audio.read(save(tmp_path, bytes(data), "ogg"), 16_000)
    assert found.warning is None
    assert len(expected) - len(found.samples) < 16_000 * 1.1


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "AU"])
def test_rubbish_behind_the_end_does_not_matter(tmp_path: Path, kind: str) -> None:
    data = encode(noise(2.0), kind=kind)
    expected = audio.load(data, 16_000)
    found = audio.read(save(tmp_path, data + b"rubbish!" * 100, kind), 16_000)
    assert found.warning is None
    np.testing.assert_array_equal(found.samples[: len(expected)], expected)
    assert len(found.samples) - len(expected) <= 2_304


@pytest.mark.parametrize("promised", [-2, 2, 4])
def test_a_promise_that_is_wrong_by_a_sample_or_two(tmp_path: Path, promised: int) -> None:
    samples = np.round(sine() * 32767).astype("<i2").tobytes()
    found = audio.read(save(tmp_path, wav(samples, len(samples) + promised)), 16_000)
    assert found.warning is None
    assert abs(len(found.samples) - 8_000) <= 1


def test_a_flac_of_which_nothing_but_the_header_is_left(tmp_path: Path) -> None:
    refusal(save(tmp_path, encode(sine(), kind="FLAC")[:60], "flac"), UnreadableAudio)


def test_a_chunk_after_the_samples_is_no_truncation(tmp_path: Path) -> None:
    data = encode(sine()) + b"LIST" + struct.pack("<I", 4) + b"INFO"
    assert len(audio.decode(save(tmp_path, data))[0]) == 8_000


@pytest.mark.parametrize("promised", [0, 0x7FFFF000, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF])
def test_a_wav_written_to_a_pipe_is_read_to_its_end(tmp_path: Path, promised: int, riff: int) -> None:
    samples = np.round(sine() * 32767).astype("<i2")
    y, rate = audio.decode(save(tmp_path, wav(samples.tobytes(), promised, riff)))
    assert rate == 16_000
    np.testing.assert_allclose(y, sine(), atol=2**-15)


@pytest.mark.parametrize("promised", [0, 0xFFFFFFFF])
def test_a_pipe_that_broke_before_the_first_sample(tmp_path: Path, promised: int) -> None:
    refusal(save(tmp_path, wav(b"", promised, 0)), EmptyAudio)


@pytest.mark.parametrize("offset", [0.0, -0.084, 0.5, 1.0])
@pytest.mark.parametrize(("kind", "subtype"), LOSSLESS)
def test_pure_silence_even_at_a_constant_offset(tmp_path: Path, kind: str, subtype: str, offset: float) -> None:
    path = save(tmp_path, encode(np.full((4_000, 2), offset), kind=kind, subtype=subtype), kind)
    assert "silence" in refusal(path, SilentAudio)


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_silence_in_a_lossy_format(tmp_path: Path, kind: str) -> None:
    refusal(save(tmp_path, encode(np.zeros(8_000), kind=kind), kind), SilentAudio)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_a_single_sample_that_is_no_number(tmp_path: Path, subtype: str, bad: float) -> None:
    y = np.stack([sine(), sine()], axis=1)
    y[17, 1] = bad
    assert "1 of 8000" in refusal(save(tmp_path, encode(y, subtype=subtype)), NonFiniteAudio)


def test_a_double_too_large_for_float32(tmp_path: Path) -> None:
    y = sine()
    y[5] = 1e300
    refusal(save(tmp_path, encode(y, subtype="DOUBLE")), NonFiniteAudio)


@pytest.mark.parametrize(("samples", "fits"), [(1, False), (1_599, False), (1_600, True)])
def test_a_tenth_of_a_second_is_the_least(tmp_path: Path, samples: int, fits: bool) -> None:
    path = save(tmp_path, encode(sine(16_000, 1.0)[1 : samples + 1]))
    if fits:
        assert len(audio.decode(path)[0]) == samples
    else:
        assert "0.1 s" in refusal(path, ShortAudio)


# --- headers that lie


def flac_promising(frames: int) -> bytes:
    """A FLAC whose STREAMINFO block holds another number of frames: 36 bits from byte 21.5 (RFC 9639, 8.2)."""
    data = bytearray(encode(sine(), kind="FLAC"))
    field = int.from_bytes(data[18:26], "big") >> 36 << 36 | frames
    data[18:26] = field.to_bytes(8, "big")
    return bytes(data)


@pytest.mark.parametrize("frames", [0, 7_999, 8_000, 2**28 + 1, 2**36 - 1])  # 0: not known, as of a pipe
def test_a_flac_is_read_whatever_it_promises(tmp_path: Path, frames: int) -> None:
    found = audio.read(save(tmp_path, flac_promising(frames), "flac"), 16_000)
    np.testing.assert_allclose(found.samples, sine()[: len(found.samples)], atol=2**-15)
    assert len(found.samples) >= 7_999
    assert (found.warning is None) == (frames <= 8_000)


@pytest.mark.parametrize("channels", [0, 1_025, 65_535])
def test_a_wav_that_promises_thousands_of_channels(tmp_path: Path, channels: int) -> None:
    refusal(save(tmp_path, wav(b"\1\2" * 8_000, 16_000, channels=channels)), UnreadableAudio)


PEAK_GROWTH = """
import resource, sys
from pathlib import Path
from agr.audio import read as audio; from agr import errors

def peak():  # MiB; macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)

before = peak()
for path in Path(sys.argv[1]).glob("*.bin"):
    try:
        audio.decode(path)
    except errors.AudioError:
        pass
print(peak() - before)
"""


def test_promises_cost_no_memory(tmp_path: Path) -> None:
    """In a process of its own, as only the highest use of memory so far can be asked for."""
    pytest.importorskip("resource")
    lies = [flac_promising(frames) for frames in (8_001, 2**28, 2**36 - 1)]
    lies += [wav(b"\1\2" * 800, size, channels=n) for size in (0xFFFFFFFE, 1_600) for n in (1, 1_024, 65_535)]
    lies += [AU, CAF, RF64]
    for i, data in enumerate(lies):
        (tmp_path / f"{i}.bin").write_bytes(data)
    command = [sys.executable, "-c", PEAK_GROWTH, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50  # MiB; the promises add up to hundreds of gigabytes


FOUR_BILLION = 2**32 - 1
AU = b".snd" + struct.pack(">IIIII", 24, FOUR_BILLION, 3, 16_000, FOUR_BILLION) + bytes(100)
CAF = b"caff" + struct.pack(">HH4sqd4sIIIII", 1, 0, b"desc", 32, 16_000.0, b"lpcm", 0, 2, 1, FOUR_BILLION, 16)
CAF += b"data" + struct.pack(">qI", 2**62, 0) + bytes(100)
RF64 = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 28, 2**63, 2**63 - 1, 2**62, 0)
RF64 += wav(b"\1\2" * 800, FOUR_BILLION)[12:]


@pytest.mark.parametrize("data", [AU, CAF, RF64], ids=["AU", "CAF", "RF64"])
def test_billions_of_channels_or_of_gigabytes_are_refused(tmp_path: Path, data: bytes) -> None:
    assert peak_of_refusal(save(tmp_path, data)) < 2**20


@pytest.mark.parametrize("channels", [1, 16, 1_024])
def test_a_wav_that_promises_4_gb_and_holds_nothing_costs_nothing(tmp_path: Path, channels: int) -> None:
    data = wav(b"\1\2" * 800, 0xFFFFFFF0, riff=36, channels=channels)[:-1_500]
    assert peak_of_refusal(save(tmp_path, data)) < 2**23


def peak_of_refusal(path: Path) -> int:
    """Bytes that Python and NumPy took at most at one time while this file was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(AudioError, match="expected"):
            audio.load(path, 8_000)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- long clips, and what is read at once


def written(path: Path, seconds: float, rate: int, channels: int = 1) -> Path:
    """A file of a tone and noise."""
    rng = np.random.default_rng(0)
    y = np.asarray(sine(rate, seconds)[:, None] + rng.normal(0, 0.01, (round(seconds * rate), channels)))
    soundfile.write(path, y, rate)
    return path


@pytest.mark.parametrize("rate", [8_000, 11_025, 48_000])
@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_blocks_give_what_the_whole_gives_to_the_bit(
    tmp_path: Path, kind: str, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / f"clip.{kind}", 3.0, rate, channels=2)
    whole, expected = audio.decode(path)[0], audio.load(path, 16_000)
    np.testing.assert_array_equal(expected, audio.resample(whole, rate, 16_000))
    monkeypatch.setattr(track, "BLOCK", 5_000)
    np.testing.assert_array_equal(audio.decode(path)[0], whole)
    np.testing.assert_array_equal(audio.load(path, 16_000), expected)


def test_a_file_that_is_not_read_at_once_is_decoded_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "clip.wav", 1.0, 16_000)
    expected = audio.load(path, 8_000)
    monkeypatch.setattr(audio, "AT_ONCE_BYTES", 1_000)
    monkeypatch.setattr(files, "MAX_BYTES", 1_000)
    np.testing.assert_array_equal(audio.load(path, 8_000), expected)


def test_longer_than_the_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, short = written(tmp_path / "long.wav", 3.0, 16_000), written(tmp_path / "long.mp3", 3.0, 16_000)
    monkeypatch.setattr(audio, "MAX_SECONDS", 2)
    for each in (path, short):
        assert refusal(each, LongAudio) == f"{each}: over 2 s; expected at most 2 s"


def test_more_bytes_than_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 1_000)
    path = save(tmp_path, bytes(1_000))
    assert audio.read_bytes(path) == bytes(1_000)
    with pytest.raises(AudioError, match=r"clip\.wav: 1001 bytes; expected at most 1000$"):
        audio.read_bytes(save(tmp_path, bytes(1_001)))
    with pytest.raises(AudioError, match="standard input: endless bytes; expected at most 1000"):
        audio.read_stream(io.BytesIO(bytes(1_001)), "standard input")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device that never ends")
def test_a_device_that_never_ends() -> None:
    assert "a device; expected a sound file" in refusal(Path("/dev/zero"), UnreadableAudio)


@pytest.mark.parametrize("values", [[1e10, 0.1], [3e38, 3e38], [-3e38, -3e38]])
def test_samples_too_large_to_be_sound_even_where_only_their_mean_is(tmp_path: Path, values: list[float]) -> None:
    y = np.stack([sine(), sine()], axis=1)
    y[17] = values
    assert "1 of 8000" in refusal(save(tmp_path, encode(y, subtype="FLOAT")), NonFiniteAudio)


LONG_CLIP = """
import resource, sys
from pathlib import Path
from agr.audio import read as audio; from agr.recipes import voice_features; from agr.recipes import speech
from agr.recipes.voice import VOICE

def peak():  # MiB; macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)

before = peak()
y = audio.load(Path(sys.argv[1]), VOICE.sample_rate)
found = voice_features.extract(y, VOICE)
speech.speech_seconds(y, VOICE)
print(peak() - before)
"""


def test_a_long_clip_takes_little_more_memory_than_its_features(tmp_path: Path) -> None:
    """Four minutes: 8 MB of samples, 3 MB of features; in one go they took 380 MiB."""
    pytest.importorskip("resource")
    path = written(tmp_path / "long.wav", 240.0, 8_000)
    done = subprocess.run([sys.executable, "-c", LONG_CLIP, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 160
