"""What FFmpeg reads where libsndfile cannot: every container and code that its own encoders can make.

AMR-WB, Speex and DTS have no encoder there, and are not tried.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from agr.audio import read as audio
from agr.errors import AudioError, NonFiniteAudio, UnreadableAudio

CASES = Path(__file__).parents[3].parent / "shared" / "cases"
SECONDS = 2.0
MADE = [  # container, codec, rate
    *(("ipod", "aac", 44_100), ("mp4", "aac", 48_000), ("ipod", "alac", 44_100), ("mov", "pcm_s16le", 16_000)),
    *(("3gp", "libopencore_amrnb", 8_000), ("3gp", "aac", 16_000), ("matroska", "flac", 16_000)),
    *(("matroska", "vorbis", 44_100), ("webm", "libopus", 48_000), ("webm", "vorbis", 48_000)),
    *(("amr", "libopencore_amrnb", 8_000), ("asf", "wmav1", 22_050), ("asf", "wmav2", 44_100), ("ac3", "ac3", 48_000)),
    *(("eac3", "eac3", 48_000), ("adts", "aac", 44_100), ("flv", "libmp3lame", 22_050), ("avi", "libmp3lame", 16_000)),
    *(("mpegts", "aac", 48_000), ("wv", "wavpack", 16_000), ("tta", "tta", 16_000), ("caf", "alac", 44_100)),
    *(("aiff", "pcm_s24be", 16_000), ("au", "pcm_mulaw", 8_000), ("w64", "pcm_s16le", 16_000)),
    *(
        ("wav", "libmp3lame", 22_050),
        ("wav", "adpcm_swf", 22_050),
        ("wav", "g722", 16_000),
        ("wav", "pcm_s64le", 16_000),
    ),
    *(("ogg", "libopus", 48_000), ("ogg", "flac", 16_000), ("mp2", "mp2", 32_000), ("mp3", "libmp3lame", 44_100)),
]

CHANNELS = {"libopencore_amrnb": (1,), "g722": (1,), "vorbis": (2,)}  # of the others: one and two


def tone(rate: int, channels: int = 1, seconds: float = SECONDS) -> NDArray[np.float32]:
    """220 Hz that swell, (channels, n)."""
    t = np.arange(int(seconds * rate)) / rate
    y = 0.5 * np.sin(2 * np.pi * 220 * t) * np.linspace(0.4, 1, len(t))
    return np.broadcast_to(y, (channels, len(t))).astype(np.float32)


def encoded(y: NDArray[np.float32], container: str, codec: str, rate: int, video: bool = False) -> bytes:
    """A file of these samples, (channels, n); with `video` also a picture, in front of them."""
    layout = {1: "mono", 2: "stereo"}[len(y)]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        if video:
            picture = out.add_stream("mjpeg", rate=1, width=16, height=16, pix_fmt="yuvj420p")
        stream = out.add_stream(codec, rate=rate, layout=layout, options={"strict": "-2"})
        if codec.startswith("wma"):
            stream.bit_rate = 64_000
        if video:
            out.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))))
            out.mux(picture.encode(None))
        stream.codec_context.open(strict=False)
        whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(y), format="fltp", layout=layout)
        whole.sample_rate, whole.pts = rate, 0
        resampler = av.AudioResampler(stream.format.name, layout, rate, stream.codec_context.frame_size or 1024)
        for frame in [*resampler.resample(whole), *resampler.resample(None)]:
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def similarity(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest correlation of the two over the delays that encoders cause."""
    size = 1 << 18
    product = np.fft.rfft(found, size) * np.conj(np.fft.rfft(expected, size))
    return float(np.fft.irfft(product).max() / np.linalg.norm(found) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("container", "codec", "rate", "channels"),
    [(*made, channels) for made in MADE for channels in CHANNELS.get(made[1], (1, 2))],
    ids=str,
)
def test_formats_are_read_whatever_they_are_called(
    tmp_path: Path, container: str, codec: str, rate: int, channels: int
) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(tone(rate, channels), container, codec, rate))
    found = audio.read(path, 16_000)
    assert found.samples.dtype == np.float32
    assert (found.channels, found.warning) == (channels, None)
    assert abs(len(found.samples) / 16_000 - SECONDS) < 0.1
    assert similarity(found.samples, tone(16_000)[0]) > 0.97
    np.testing.assert_array_equal(audio.read(path.read_bytes(), 16_000).samples, found.samples)


def test_lossless_samples_come_back_to_the_bit() -> None:
    y = np.round(tone(16_000, 2)[0] * 2**15) / 2**15
    for container, codec in [("matroska", "flac"), ("ipod", "alac"), ("mov", "pcm_s16le")]:
        samples, rate = audio.decode(encoded(np.stack([y, y]).astype(np.float32), container, codec, 16_000))
        assert rate == 16_000
        np.testing.assert_allclose(samples[: len(y)], y, atol=1.01 * 2**-15)


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("matroska", "libopus"), ("mov", "aac"), ("avi", "mp2")]
)
def test_of_a_video_the_sound_is_read(container: str, codec: str) -> None:
    found = audio.read(encoded(tone(48_000), container, codec, 48_000, video=True), 16_000)
    assert similarity(found.samples, tone(16_000)[0]) > 0.97


def test_of_several_sound_tracks_the_first_is_read() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        streams = [out.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        for stream, level in zip(streams, (0.5, 0.1), strict=True):
            samples = np.full((1, 8_000), level * 2**15, np.int16)
            samples[0, ::2] = 0
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            out.mux(stream.encode(frame))
    assert audio.load(file.getvalue(), 16_000).max() == pytest.approx(0.5, abs=1e-4)


def test_a_video_without_sound_is_refused() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        picture = out.add_stream("mjpeg", rate=1, width=16, height=16, pix_fmt="yuvj420p")
        out.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))))
        out.mux(picture.encode(None))
    with pytest.raises(UnreadableAudio, match=r"^film: a video without sound; expected a recording$"):
        audio.read(file.getvalue(), 16_000, "film")


@pytest.mark.parametrize("container", ["matroska", "webm", "flv", "wv"])
@pytest.mark.parametrize("part", [0.3, 0.6])
def test_a_cut_file_is_read_as_far_as_it_goes_and_says_so(container: str, part: float) -> None:
    codec = {"matroska": "flac", "webm": "libopus", "flv": "aac", "wv": "wavpack"}[container]
    rate = 44_100 if container == "flv" else 48_000
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 10 * rate)).astype(np.float32)
    data = encoded(noise, container, codec, rate)
    found = audio.read(data[: int(part * len(data))], 16_000)
    seconds = len(found.samples) / 16_000
    assert abs(seconds - 10 * part) < 1
    assert found.warning == f"{seconds:.1f} s of the 10.0 s that its header promises"


def test_damage_in_the_middle_costs_no_more_than_its_place() -> None:
    data = bytearray(encoded(tone(48_000, seconds=5), "adts", "aac", 48_000))
    at = len(data) // 2
    data[at : at + 300] = bytes(300)
    assert len(audio.load(bytes(data), 16_000)) > 4.5 * 16_000


def test_sound_that_changes_its_rate_and_channels_keeps_those_of_its_beginning() -> None:
    first, then = encoded(tone(16_000), "adts", "aac", 16_000), encoded(tone(44_100, 2), "adts", "aac", 44_100)
    found = audio.read(first + then, None)
    assert (found.sample_rate, found.channels) == (16_000, 1)
    assert abs(len(found.samples) / 16_000 - 2 * SECONDS) < 0.2
    assert similarity(found.samples[-len(tone(16_000)[0]) :], tone(16_000)[0]) > 0.97


def test_tracks_that_begin_late_in_a_transport_stream_do_not_end_the_first() -> None:
    """For a track that it met while reading, PyAV looks in a list that ends before it."""
    late = io.BytesIO()
    with av.open(late, "w", format="mpegts", options={"mpegts_start_pid": "300", "mpegts_pmt_start_pid": "200"}) as out:
        streams = [out.add_stream("mp2", rate=48_000, layout="mono") for _ in range(40)]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(np.ones((1, 1152), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48_000, 0
            out.mux(stream.encode(frame))
    data = encoded(tone(48_000, seconds=60), "mpegts", "aac", 48_000) + late.getvalue()
    assert abs(len(audio.load(data, 16_000)) / 16_000 - 60) < 0.2


def test_a_signalling_nan_is_no_sound() -> None:
    data = encoded(tone(16_000), "mov", "pcm_f64le", 16_000)
    at = data.index(b"mdat") + 4 + 8 * 1_000
    with pytest.raises(NonFiniteAudio, match=r"^memo: NaN or infinity"):
        audio.load(data[:at] + struct.pack("<Q", 0x7FF0000000000001) + data[at + 8 :], 16_000, "memo")


def test_an_mp4_without_its_table_of_contents_is_one_line() -> None:
    data = encoded(tone(48_000), "mp4", "aac", 48_000)
    with pytest.raises(UnreadableAudio, match=r"^memo: .*; expected a sound file$"):
        audio.read(data[: data.rfind(b"moov")], 16_000, "memo")


def test_eight_channels_in_planes_of_their_own_are_read() -> None:
    """PyAV reads beyond the list of planes of such a frame."""
    y = 0.1 * np.random.default_rng(0).standard_normal((16_000, 8)).astype(np.float32)
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("pcm_f32le", rate=16_000, layout="7.1")
        frame = av.AudioFrame(format="flt", layout="7.1", samples=len(y))
        frame.sample_rate, frame.pts = 16_000, 0
        frame.planes[0].update(y.tobytes())
        out.mux(stream.encode(frame))
    for channel in (1, 8):
        np.testing.assert_array_equal(audio.read(file.getvalue(), 16_000, channel=channel).samples, y[:, channel - 1])
    alac = io.BytesIO()
    soundfile.write(alac, y, 16_000, format="CAF", subtype="ALAC_16")
    cut = audio.read(alac.getvalue()[:-20], 16_000, channel=8)
    np.testing.assert_allclose(cut.samples, y[: len(cut.samples), 7], atol=2**-14)
    assert len(cut.samples) > 8_000


@pytest.mark.parametrize("text", ["#EXTM3U\n{}\n", "ffconcat version 1.0\nfile {}\n", "<MPD>{}</MPD>", "v=0\n{}\n"])
def test_a_list_of_other_files_opens_none(tmp_path: Path, text: str) -> None:
    secret = tmp_path / "secret.wav"
    soundfile.write(secret, tone(16_000)[0], 16_000)
    path = tmp_path / "list.m4a"
    path.write_text(text.format(secret))
    with pytest.raises(AudioError, match=r"list\.m4a: text; expected a sound file"):
        audio.read(path, 16_000)


def test_an_mp4_that_refers_to_another_file_opens_it_not(tmp_path: Path) -> None:
    """Its `dref` box says that the samples are elsewhere, and where."""
    secret = tmp_path / "secret.pcm"
    secret.write_bytes(np.full(16_000, 9_000, "<i2").tobytes())
    data = encoded(tone(16_000), "mov", "pcm_s16le", 16_000)
    at = data.index(b"dref")
    size = struct.unpack(">I", data[at + 12 : at + 16])[0]  # of the entry
    other = bytearray(data)
    other[at + 16 : at + 20] = b"url "
    other[at + 20 : at + 24] = bytes(4)  # not in this file
    assert size >= 12
    try:
        found = audio.read(bytes(other), 16_000)
    except AudioError:
        return
    assert abs(found.samples).max() < 0.6  # the file's own


REPORTED = ["pipe.flac", "opus_no_eos.ogg", "mp3_in.wav", "datasize_plus2.wav", "stereo_antiphase.wav", "f.opus"]


@pytest.mark.parametrize("name", [*REPORTED, "f.m4a", "f.webm"])
def test_the_voice_of_reported_cases_is_found(name: str) -> None:
    if not (CASES / name).is_file():
        pytest.skip(f"{name} is not beside this checkout")
    found, expected = audio.read(CASES / name, 16_000), audio.load(CASES / "voice.wav", 16_000)
    assert found.warning is None
    assert similarity(found.samples, expected) > 0.9
