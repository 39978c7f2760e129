"""Sound files of the formats that only FFmpeg reads, made with its own encoders; AMR-WB has none there."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np
from numpy.typing import NDArray

KINDS = (  # container, codec, rate, channels
    *(("mp4", "aac", 16_000, 1), ("ipod", "alac", 44_100, 2), ("mov", "pcm_s16be", 8_000, 1), ("3gp", "aac", 8_000, 1)),
    *(("3gp", "libopencore_amrnb", 8_000, 1), ("amr", "libopencore_amrnb", 8_000, 1), ("adts", "aac", 44_100, 2)),
    *(("webm", "libopus", 48_000, 1), ("matroska", "vorbis", 44_100, 2), ("matroska", "flac", 16_000, 1)),
    *(("asf", "wmav2", 44_100, 1), ("asf", "wmav1", 22_050, 2), ("ac3", "ac3", 48_000, 2), ("eac3", "eac3", 48_000, 1)),
    *(("flv", "libmp3lame", 22_050, 1), ("avi", "libmp3lame", 16_000, 1), ("mpegts", "aac", 48_000, 1)),
    *(
        ("wv", "wavpack", 16_000, 2),
        ("tta", "tta", 16_000, 1),
        ("wav", "libmp3lame", 22_050, 1),
        ("wav", "g722", 16_000, 1),
    ),
    *(("wav", "g722", 16_000, 1), ("caf", "alac", 44_100, 1), ("ogg", "flac", 16_000, 1), ("mp2", "mp2", 32_000, 1)),
)


def encoded(y: NDArray[np.float32], container: str, codec: str, rate: int) -> bytes:
    """A file of these samples, (channels, n); the same bytes on every call."""
    layout = {1: "mono", 2: "stereo"}[len(y)]
    file = io.BytesIO()
    with av.open(file, "w", format=container, container_options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout, options={"strict": "-2", "flags": "+bitexact"})
        if codec.startswith("wma"):
            stream.bit_rate = 64_000
        whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(y), format="fltp", layout=layout)
        whole.sample_rate, whole.pts = rate, 0
        stream.codec_context.open(strict=False)
        resampler = av.AudioResampler(stream.format.name, layout, rate, stream.codec_context.frame_size or 1024)
        for frame in [*resampler.resample(whole), *resampler.resample(None)]:
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def seeds(seconds: float) -> Iterator[bytes]:
    """A file of each of KINDS."""
    rng = np.random.default_rng(1)
    for container, codec, rate, channels in KINDS:
        y = np.sin(np.arange(int(seconds * rate)) * 900 / rate) * 0.4 + 0.02 * rng.standard_normal((channels, 1))
        yield encoded(np.broadcast_to(y, (channels, y.shape[-1])).astype(np.float32), container, codec, rate)
