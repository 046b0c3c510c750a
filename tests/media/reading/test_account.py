"""A lost picture of interlaced video is named, and the second field of a pair is none."""

from fractions import Fraction
from itertools import accumulate

import av
import pytest

from cloudconv.media.reading.source import Source
from tests.helpers.factory import FIELDS, interlaced, packets_of, remux, write_clip
from tests.helpers.field_pairs import write_field_pairs

KINDS = {
    "mpeg2video": {"flags": "+ilme+ildct", "g": "1", "bf": "0"},
    "libx264": {**FIELDS, "g": "1", "bf": "0"},
}


def result(path):
    """Return the number of frames of a file, and the codes of its warnings."""
    with Source(path) as source:
        count = len(list(source.frames()))
    return count, [w.text for w in source.warnings if "could not be" in w.text]


def damaged(source, target, *zeroed):
    """Copy a video, with zeros in place of the packets with these numbers."""
    number = iter(range(1000))

    def change(packet):
        if next(number) not in zeroed:
            return packet
        empty = av.Packet(bytes(packet.size))
        for name in ("pts", "dts", "duration", "time_base"):
            setattr(empty, name, getattr(packet, name))
        return empty

    return remux(source, target, change)


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    """Return a video of pictures with two fields, each in one packet."""
    path = tmp_path_factory.mktemp("whole") / "a.mkv"
    pictures = [interlaced(k) for k in range(20)]
    codec = request.param
    return write_clip(path, pictures, rate=25, codec=codec, options=KINDS[codec])


@pytest.mark.parametrize("number", [1, 2, 7, 18])
def test_a_lost_picture_of_interlaced_video_is_named(whole, tmp_path, number):
    count, warnings = result(damaged(whole, tmp_path / "b.mkv", number))
    assert count == 19
    assert len(warnings) == 1
    assert warnings[0].startswith("1 frame could not be decoded and is missing, the first")
    assert f"at {number / 25:.3f} s" in warnings[0]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("reordered", [0, 2])
@pytest.mark.parametrize("codec", KINDS)
def test_zeros_within_a_group_of_interlaced_pictures_are_named(
    tmp_path, codec, reordered, suffix
):
    options = KINDS[codec] | {"g": "12", "bf": str(reordered)}
    pictures = [interlaced(k) for k in range(20)]
    form = {"rate": 10, "codec": codec, "options": options}
    path = write_clip(tmp_path / f"a.{suffix}", pictures, **form)
    (packets,) = packets_of(path, "video")
    data = path.read_bytes()
    path.write_bytes(data.replace(packets[11], bytes(len(packets[11]))))
    count, warnings = result(path)
    assert count == 19
    assert len(warnings) == 1
    assert "1 frame could not be decoded and is missing" in warnings[0]


def test_several_lost_pictures_are_counted(whole, tmp_path):
    count, (warning,) = result(damaged(whole, tmp_path / "b.mkv", 3, 8, 9, 10, 15))
    assert count == 15
    assert warning.startswith("5 frames could not be decoded")
    assert warning.endswith("the first at 0.120 s.")


def test_losses_at_the_start_are_counted_as_soon_as_the_rate_is_known(whole, tmp_path):
    count, (warning,) = result(damaged(whole, tmp_path / "b.mkv", 1, 3))
    assert count == 18
    assert warning.startswith("2 frames could not be decoded")


def test_interlaced_video_without_damage_lacks_nothing(whole):
    assert result(whole) == (20, [])


def test_pairs_of_fields_without_damage_lack_nothing(tmp_path):
    assert result(write_field_pairs(tmp_path / "a.ts")) == (20, [])


def test_a_lost_pair_of_fields_is_named(tmp_path):
    count, warnings = result(write_field_pairs(tmp_path / "a.ts", zeroed=(10, 11)))
    assert count == 19
    assert len(warnings) == 1


def test_repeated_fields_lack_nothing(tmp_path):
    lasts = [Fraction(fields, 60) * Fraction(1001, 1000) for fields in [2, 3] * 10]
    form = {"rate": Fraction(30000, 1001), "codec": "libx264", "options": KINDS["libx264"]}
    times = list(accumulate(lasts[:-1], initial=Fraction(0)))
    pictures = [interlaced(k) for k in range(20)]
    path = write_clip(tmp_path / "a.mkv", pictures, times=times, **form)
    assert result(path) == (20, [])


def test_frames_that_an_avi_leaves_out_are_not_lost(tmp_path):
    times = [Fraction(k, 25) for k in range(24) if k not in (3, 9, 10)]
    pictures = [interlaced(k) for k in range(len(times))]
    form = {"rate": 25, "codec": "mpeg2video", "options": KINDS["mpeg2video"]}
    path = write_clip(tmp_path / "a.avi", pictures, times=times, **form)
    assert result(path) == (21, [])
