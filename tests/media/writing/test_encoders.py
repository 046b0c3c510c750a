"""The choice of an encoder, its options and its error messages."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cloudconv.errors import EncoderError
from cloudconv.media.containers.containers import CONTAINERS, PICTURES, container_of
from cloudconv.media.frames.frame import ColorTags
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from cloudconv.media.writing.encoders import EncodeSettings, choose
from cloudconv.media.writing.encoding import draft_encoding
from tests.helpers.factory import planes_of, read_planes, write_clip
from tests.helpers.sinks import info_of
from tests.media.writing.test_sink import write

RATE = Fraction(25)
MP4, MOV, MKV, WEBM = (CONTAINERS[s] for s in (".mp4", ".mov", ".mkv", ".webm"))


def chosen(
    container, pix_fmt, size=(96, 64), /, *, codec="rawvideo", transfer=2, **settings
):
    info = info_of(size, pix_fmt, codec=codec, tags=ColorTags(transfer=transfer))
    return choose(container, info, EncodeSettings(**settings))


@pytest.mark.parametrize(
    ("container", "pix_fmt", "size", "encoder", "handed"),
    [
        (MP4, "yuv420p", (96, 64), "libx264", "yuv420p"),
        (MP4, "yuv422p10le", (96, 65), "libx265", "yuv422p10le"),
        (MP4, "yuv444p", (97, 65), "libx264", "yuv444p"),
        (MP4, "yuv440p", (96, 64), "libx264", "yuv444p"),  # MP4 cannot state 4:4:0 of VP9
        (MP4, "gray", (97, 65), "libx264", "gray"),
        (MP4, "yuv420p12le", (96, 64), "libx265", "yuv420p12le"),
        (MP4, "gbrp", (97, 65), "libx264rgb", "bgr0"),
        (MP4, "yuv420p", (97, 65), "libvpx-vp9", "yuv420p"),
        (MP4, "yuv420p10le", (97, 64), "libsvtav1", "yuv420p10le"),
        (MP4, "yuv420p", (2, 2), "libx264", "yuv420p"),
        # libx265 corrupts memory at widths from 33 to 63.
        (MP4, "yuv420p10le", (48, 32), "libx264", "yuv420p10le"),
        (MP4, "yuv420p10le", (64, 32), "libx265", "yuv420p10le"),
        (MOV, "yuva420p", (96, 64), "prores_ks", "yuva444p10le"),
        (MOV, "yuv420p", (97, 65), "libx264", "yuv444p"),
        (MKV, "yuv420p", (96, 64), "libx264", "yuv420p"),
        (MKV, "gbrp", (97, 65), "ffv1", "bgr0"),
        (MKV, "gbrap", (96, 64), "ffv1", "bgra"),
        (MKV, "yuva420p", (96, 64), "ffv1", "yuva420p"),
        (MKV, "yuv420p12le", (96, 64), "ffv1", "yuv420p12le"),
        (MKV, "gray16le", (96, 64), "ffv1", "gray16le"),
        (MKV, "yuv422p10le", (97, 65), "ffv1", "yuv422p10le"),
        (WEBM, "yuv420p", (97, 65), "libvpx-vp9", "yuv420p"),
        (WEBM, "yuva420p", (96, 64), "libvpx-vp9", "yuva420p"),
        (WEBM, "yuv420p10le", (96, 64), "libsvtav1", "yuv420p10le"),
        (PICTURES[".png"], "gbrp16le", (97, 65), "png", "rgb48be"),
        (PICTURES[".tif"], "yuv420p", (97, 65), "tiff", "rgb24"),
        (PICTURES[".tif"], "yuv420p10le", (97, 65), "tiff", "rgb48le"),
        (PICTURES[".bmp"], "yuv420p", (97, 65), "bmp", "bgr24"),
        (PICTURES[".exr"], "yuv420p", (97, 65), "exr", "gbrpf32le"),
        (PICTURES[".exr"], "yuva420p", (97, 65), "exr", "gbrapf32le"),
        (PICTURES[".exr"], "gray", (97, 65), "exr", "grayf32le"),
    ],
)
def test_the_default_encoder_suits_container_format_and_size(
    container, pix_fmt, size, encoder, handed
):
    choice = chosen(container, pix_fmt, size)
    assert (choice.encoder, choice.pix_fmt) == (encoder, handed)
    # The pixel format of pictures changes to RGB without a warning.
    changed = encoder != container.encoders[0] or choice.working != pix_fmt
    seldom_shown = container == MP4 and pix_fmt in ("yuv444p", "gbrp")
    assert bool(choice.warnings) == (
        not container.has_one_encoder and (changed or seldom_shown)
    )


PLAIN = {"pix_fmt": "yuv420p"}
_SILENT = {"x265-params": "log-level=none"}


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options", "suffix", "settings", "encoder", "becomes", "words"),
    [
        ("prores_ks", "yuv422p10le", {"profile": "2"}, ".mov", {}, None, None, []),
        ("prores_ks", "yuva444p10le", {"profile": "4"}, ".mov", {}, None, None,
         ["written as 4:4:4 of 10 bits with transparency"]),
        ("prores_ks", "yuv422p10le", {"profile": "2"}, ".mkv", {}, None, None, []),
        ("dnxhd", "yuv422p", {"profile": "dnxhr_hq"}, ".mov", {}, None, None, []),
        ("dnxhd", "yuv422p10le", {"profile": "dnxhr_hqx"}, ".mov", {}, None, None, []),
        ("dnxhd", "yuv444p10le", {"profile": "dnxhr_444"}, ".mov", {}, None, None, []),
        ("libx265", "yuv420p10le", _SILENT, ".mp4", {}, None, None, []),
        ("qtrle", "rgb24", {}, ".mov", PLAIN, "libx264", "yuv420p", []),
        ("ffv1", "yuv444p", {}, ".mov", PLAIN, "libx264", "yuv420p", []),
        ("qtrle", "rgb24", {}, ".mp4", {}, "libx264rgb", "gbrp",
         ["Few players show RGB in MP4", "yuv420p"]),
        ("ffv1", "yuv444p", {}, ".mp4", {}, "libx264", "yuv444p",
         ["Few players show 4:4:4 in MP4", "yuv420p"]),
        ("qtrle", "argb", {}, ".mp4", {}, "libx264", "yuv420p",
         ["without transparency. .mov and .webm keep", "yuv444p'"]),
        ("ffv1", "yuva444p", {}, ".mp4", {}, "libx264", "yuv420p",
         ["without transparency. .mov and .webm keep", "yuv444p'"]),
        ("ffv1", "yuva422p10le", {}, ".mp4", {}, "libx265", "yuv420p10le",
         ["without transparency. .mov and .webm keep", "yuv444p10le'"]),
    ],
)  # fmt: skip
def test_codec_and_pixel_format_are_kept_or_a_warning_names_the_change(
    tmp_path, codec, pix_fmt, options, suffix, settings, encoder, becomes, words
):
    source = tmp_path / ("in.mkv" if codec == "ffv1" else "in.mov")
    form = {"size": (256, 144), "codec": codec, "pix_fmt": pix_fmt, "options": options}
    info = probe(write_clip(source, 3, rate=RATE, **form))
    target = tmp_path / f"out{suffix}"
    sink = write(target, Source(info).frames(), info, rate=RATE, **settings)
    pix_fmt_made = probe(target).working_pix_fmt.replace("12", "10")
    assert (sink.plan.choice.encoder, pix_fmt_made) == (
        encoder or codec,
        becomes or pix_fmt,
    )
    said = [*map(str, sink.warnings)]
    assert [all(word in text for word in words) for text in said] == [True] * bool(words)


@pytest.mark.parametrize(
    ("codec", "name", "settings", "encoder"),
    [
        ("prores", "a.mov", {}, "prores_ks"),
        ("prores", "a.mkv", {"threads": 2}, "prores_ks"),
        ("prores", "a.mp4", {}, "libx265"),
        ("prores", "a.mov", {"crf": 20}, "libx265"),
        ("prores", "a.mov", {"pix_fmt": "yuv420p"}, "libx264"),
        ("prores", "a.mov", {"encoder": "libx264"}, "libx264"),
        ("prores", "%d.png", {}, "png"),
        # The picture is below the smallest size of DNxHR.
        ("dnxhd", "a.mov", {}, "libx265"),
    ],
)
def test_an_editing_codec_is_kept_without_other_settings(codec, name, settings, encoder):
    size = (256, 144) if codec == "prores" else (128, 72)
    choice = chosen(container_of(Path(name)), "yuv422p10le", size, codec=codec, **settings)
    assert choice.encoder == encoder


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "profile"),
    [
        *(("prores_ks", "yuv422p10le", name) for name in ("proxy", "lt", "standard", "hq")),
        *(("prores_ks", "yuv444p10le", name) for name in ("4444", "4444xq")),
        *(("dnxhd", "yuv422p", name) for name in ("dnxhr_lb", "dnxhr_sq", "dnxhr_hq")),
    ],
)
def test_an_editing_codec_keeps_its_profile(tmp_path, codec, pix_fmt, profile):
    about = {"codec": codec, "pix_fmt": pix_fmt, "options": {"profile": profile}}
    source, target = (tmp_path / name for name in ("a.mov", "b.mov"))
    info = probe(write_clip(source, 3, rate=RATE, size=(256, 144), **about))
    write(target, Source(info).frames(), info, rate=RATE)
    assert info.profile
    assert probe(target).profile == info.profile


@pytest.mark.parametrize(
    ("name", "encoder"),
    [("x264", "libx264"), ("H265", "libx265"), ("x265", "libx265"), ("AVC", "libx264")],
)
def test_common_names_of_encoders_are_known(name, encoder):
    assert chosen(MP4, "yuv420p", encoder=name).encoder == encoder


@pytest.mark.parametrize(("transfer", "curve"), [(16, "PQ"), (18, "HLG"), (1, None)])
@pytest.mark.parametrize("name", ["b.gif", "b.apng", "%d.png", "b.mp4", "b.mkv", "%d.exr"])
def test_hdr_converted_to_pictures_gives_a_warning(transfer, curve, name):
    choice = chosen(container_of(Path(name)), "yuv420p10le", transfer=transfer)
    said = [text for text in map(str, choice.warnings) if "The source is HDR" in text]
    keeps = curve is None or name in ("b.mp4", "b.mkv", "%d.exr")
    assert [f"({curve})" in text for text in said] == ([] if keeps else [True])


@pytest.mark.parametrize(("transfer", "curve"), [(16, "PQ"), (18, "HLG")])
def test_hdr_in_8_bits_is_the_reason_for_another_encoder(transfer, curve):
    choice = chosen(MP4, "yuv420p", transfer=transfer)
    (said,) = (text for text in map(str, choice.warnings) if "is used instead" in text)
    assert f"4:2:0 in HDR ({curve})" in said


@pytest.mark.parametrize("name", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
def test_default_quality_is_visually_lossless(name):
    def options(crf):
        return chosen(MKV, "yuv420p", encoder=name, crf=crf).options

    assert options(None) == options(17)
    # One scale for all encoders: a lower value is better, over the whole range.
    values = [float(options(crf)["crf"]) for crf in range(52)]
    assert values == sorted(values)
    assert (values[0], values[51]) == (0, 51 if name in ("libx264", "libx265") else 63)


@pytest.mark.full
@pytest.mark.parametrize("name", ["libx265", "libsvtav1", "libvpx-vp9"])
@pytest.mark.parametrize("crf", [14, 20, 28])
def test_a_crf_looks_the_same_from_every_encoder(tmp_path, name, crf):
    def error(encoder):
        target = tmp_path / f"{encoder}.mkv"
        write(target, frames, probe(clip), rate=RATE, encoder=encoder, crf=crf)
        pairs = zip(read_planes(target), frames, strict=True)
        return np.mean(
            [(p[0] - planes_of(f.picture)[0].astype(float)) ** 2 for p, f in pairs]
        )

    clip = write_clip(tmp_path / "clip.mkv", 12, rate=RATE, size=(192, 128), noise=4.0)
    with Source(clip) as source:
        frames = list(source.frames())
    # On one small noisy clip the errors differ by up to 4 dB; with raw values it would be 8
    # dB.
    assert abs(10 * np.log10(error(name) / error("libx264"))) < 4


@pytest.mark.parametrize("size", [(1, 1), (8, 23), (16, 1)])
def test_ffv1_refuses_pictures_that_are_too_small_for_slices(size):
    with pytest.raises(
        EncoderError, match=f"ffv1 cannot encode pictures of {size[0]}x{size[1]}"
    ):
        chosen(MKV, "gbrp", size, encoder="ffv1")


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"crf": 23.5, "preset": "fast"}, {"crf": "23.5", "preset": "fast"}),
        ({"encoder": "libsvtav1", "encoder_option": (("crf", "31"),)}, {"crf": "31"}),
        ({"encoder_option": (("qp", "0"),)}, {"qp": "0", "crf": None}),
        (
            {
                "encoder": "libx265",
                "encoder_option": (("x265-params", "aq-mode=1"),),
                "threads": 2,
            },
            {"x265-params": "pools=2:log-level=none:aq-mode=1"},
        ),
    ],
)
def test_given_options_reach_the_encoder_and_replace_its_defaults(settings, options):
    result = chosen(MKV, "yuv420p", **settings).options
    assert {name: result.get(name) for name in options} == options


@pytest.mark.parametrize(
    ("size", "given", "made", "warns"),
    [((96, 64), {"pix_fmt": "yuv420p"}, "yuv420p", False),
     ((97, 65), {"encoder": "libx264"}, "yuv444p", True)],
)  # fmt: skip
def test_a_chosen_encoder_or_pixel_format_is_kept(size, given, made, warns):
    choice = chosen(MP4, "yuv420p", size, **given)
    assert (choice.encoder, choice.pix_fmt, bool(choice.warnings)) == (
        "libx264",
        made,
        warns,
    )


@pytest.mark.parametrize(
    ("container", "settings", "words"),
    [
        (MP4, {"encoder": "nosuch"}, 'no encoder "nosuch"'),
        (MP4, {"encoder": "aac"}, "encodes audio"),
        (WEBM, {"encoder": "libx264"}, "does not write what libx264 makes to WebM"),
        (MOV, {"encoder": "libvpx-vp9"}, "libvpx-vp9 makes to MOV"),
        (MOV, {"encoder": "ffv1"}, "ffv1 makes to MOV"),
        (MP4, {"encoder_option": (("preste", "fast"),)}, "did you mean preset"),
        (MP4, {"encoder_option": (("sample_rate", "1"),)}, "no option 'sample_rate'"),
        (MP4, {"preset": "fats"}, "no preset 'fats'"),
        (MKV, {"encoder": "ffv1", "preset": "fast"}, "no presets"),
        (MKV, {"encoder": "ffv1", "crf": 16}, "no `crf`"),
        (MP4, {"crf": 99}, "out of range"),
        (MP4, {"pix_fmt": "nosuch"}, "nosuch"),
        (MP4, {"encoder": "libx264", "pix_fmt": "yuv420p12le"}, "choose one of"),
        (CONTAINERS[".gif"], {"encoder": "libx264"}, "always written by gif"),
    ],
)
def test_an_impossible_choice_is_one_clear_sentence(container, settings, words):
    with pytest.raises(EncoderError, match=words) as caught:
        chosen(container, "yuv420p", **settings)
    assert "\n" not in str(caught.value)


nvenc = pytest.mark.skipif(
    not {"h264_nvenc", "hevc_nvenc", "av1_nvenc"} <= av.codec.codecs_available,
    reason="this FFmpeg is built without NVENC",
)


@nvenc
@pytest.mark.parametrize(
    ("container", "pix_fmt", "encoder", "crf", "quality"),
    [
        (MP4, "yuv420p", "h264_nvenc", 0, "1"),  # 0 would leave the choice to the encoder
        (MP4, "yuv420p", "h264_nvenc", 51, "51"),
        (MKV, "yuv444p", "h264_nvenc", 21, "21"),
        (MP4, "yuv420p10le", "hevc_nvenc", 21, "21"),
        (WEBM, "yuv420p", "av1_nvenc", 0, "1"),
        (WEBM, "yuv420p", "av1_nvenc", 21, "29"),
        (WEBM, "yuv420p", "av1_nvenc", 51, "63"),
    ],
)
def test_the_crf_of_nvenc_is_its_cq(container, pix_fmt, encoder, crf, quality):
    choice = chosen(container, pix_fmt, (640, 360), encoder=encoder, crf=crf)
    assert (choice.encoder, choice.working) == (encoder, pix_fmt)
    assert (choice.options["rc"], choice.options["cq"]) == ("vbr", quality)
    assert choice.codec_tag == (
        "hvc1" if (encoder, container) == ("hevc_nvenc", MP4) else None
    )


@pytest.mark.parametrize(
    ("suffix", "size", "rate", "asked", "advice"),
    [
        (".mp4", (1920, 1080), 240, {}, None),
        (".mp4", (1920, 1080), 480, {}, "--encoder=libx265"),
        (".mp4", (3840, 2160), 60, {}, None),
        (".mkv", (3840, 2160), 120, {}, "--encoder=libx265"),
        (".mp4", (3840, 2160), 120, {"encoder": "libx265"}, None),
        (".mp4", (7680, 4320), 120, {"encoder": "libx265"}, "a lower rate"),
        (".mp4", (7680, 4320), 120, {}, "a lower rate"),
        (".mp4", (96, 64), 24, {"crf": 0}, "--crf=1"),
        (".mp4", (96, 64), 24, {"crf": 1}, None),
        (".webm", (7680, 4320), 120, {}, None),
    ],
)
def test_video_that_phones_refuse_is_named(suffix, size, rate, asked, advice):
    form = {"rate": Fraction(rate), "settings": EncodeSettings(**asked)}
    draft = draft_encoding(Path(f"out{suffix}"), info_of(size), **form)
    (said,) = [warning.text for warning in draft.warnings] or [""]
    assert said.endswith(f"{advice}.") if advice else not said


def test_h264_of_10_bits_and_444_is_named():
    deep = {"pix_fmt": "yuv420p10le", "codec": "hevc"}
    form = {"rate": RATE, "settings": EncodeSettings(encoder="libx264")}
    (said,) = draft_encoding(Path("out.mp4"), info_of(**deep), **form).warnings
    assert said.text.endswith("of 10 bits: give --encoder=libx265.")
    assert not draft_encoding(Path("out.mp4"), info_of(**deep), rate=RATE).warnings
    (said,) = chosen(MKV, "yuv444p", codec="vp9").warnings
    assert said.text.endswith("give --pix-fmt=yuv420p.")
    assert not chosen(MKV, "yuv444p", codec="h264").warnings
