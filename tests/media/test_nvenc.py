"""``--encoder nvenc`` chooses the codec for container and bit depth; these tests need no GPU."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from cloudconv.errors import EncoderUsageError
from cloudconv.media.containers import container_of
from cloudconv.media.encoders import choose
from cloudconv.settings import EncodeSettings

pytestmark = pytest.mark.skipif(
    not {"h264_nvenc", "hevc_nvenc", "av1_nvenc"} <= av.codec.codecs_available,
    reason="this FFmpeg is built without NVENC",
)


@pytest.mark.parametrize(
    ("output", "pix_fmt", "encoder"),
    [
        ("a.mp4", "yuv420p", "h264_nvenc"),
        ("a.mkv", "yuv444p", "h264_nvenc"),
        ("a.mp4", "yuv420p10le", "hevc_nvenc"),
        ("a.mkv", "yuv420p10le", "hevc_nvenc"),
        ("a.webm", "yuv420p", "av1_nvenc"),
    ],
)
def test_the_codec_follows_container_and_depth(output: str, pix_fmt: str, encoder: str) -> None:
    settings = EncodeSettings(encoder="nvenc", crf=21)
    chosen = choose(container_of(Path(output)), pix_fmt, 640, 360, settings)
    assert (chosen.encoder, chosen.working) == (encoder, pix_fmt)
    quality = "29" if encoder == "av1_nvenc" else "21"
    assert (chosen.options["rc"], chosen.options["cq"]) == ("vbr", quality)
    assert chosen.codec_tag == (
        "hvc1" if (encoder, output[-4:]) == ("hevc_nvenc", ".mp4") else None
    )


@pytest.mark.parametrize(
    ("output", "crf", "quality"),
    [("a.mp4", 0, "1"), ("a.mp4", 51, "51"), ("a.webm", 0, "1"), ("a.webm", 51, "63")],
)
def test_the_whole_range_of_crf_is_mapped(output: str, crf: float, quality: str) -> None:
    """The result is never 0, because 0 would leave the choice to the encoder."""
    settings = EncodeSettings(encoder="nvenc", crf=crf)
    chosen = choose(container_of(Path(output)), "yuv420p", 640, 360, settings)
    assert chosen.options["cq"] == quality


def test_hdr_is_encoded_as_hevc() -> None:
    settings = EncodeSettings(encoder="nvenc")
    chosen = choose(container_of(Path("a.mkv")), "yuv420p", 640, 360, settings, hevc=True)
    assert chosen.encoder == "hevc_nvenc"


def test_nvenc_without_a_codec_for_the_container_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("av.codec.codecs_available", frozenset())
    with pytest.raises(EncoderUsageError, match="another container"):
        choose(container_of(Path("a.mp4")), "yuv420p", 640, 360, EncodeSettings(encoder="nvenc"))
