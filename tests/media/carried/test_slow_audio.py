"""Audio that is stretched with the video: length, pitch, position and every track."""

from fractions import Fraction as F
from itertools import pairwise

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given
from hypothesis import strategies as st

import cloudconv
from cloudconv.media.reading.probe import probe
from cloudconv.media.sound.stretch import TimeStretch
from cloudconv.timemap import TimeMap
from tests.helpers.factory import read_planes, read_times, remux, tone, write_clip
from tests.media.carried.test_carry import convert, said, video

RATE = 48000


def decode_audio(path, track=0):
    """Return the start of a track, its samples in mono, and their rate."""
    with av.open(str(path)) as clip:
        stream = clip.streams.audio[track]
        to_mono = av.AudioResampler("flt", "mono", stream.rate)
        frames = list(clip.decode(stream))
        begin = frames[0].pts * F(frames[0].time_base)
        parts = [
            made.to_ndarray()[0] for frame in frames for made in to_mono.resample(frame)
        ]
    return begin, np.concatenate(parts), stream.rate


def pitch(samples, rate=RATE):
    """Return the strongest frequency in hertz."""
    middle = samples[len(samples) // 4 : len(samples) * 3 // 4]
    power = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(power.argmax() * rate / len(middle))


def onsets(samples):
    """Return the seconds at which the audio starts after silence."""
    step = RATE // 200
    count = len(samples) // step
    loud = np.sqrt((samples[: count * step].reshape(count, step) ** 2).mean(1)) > 0.1
    return [
        i * step / RATE
        for i in range(count)
        if loud[i] and not loud[max(i - 10, 0) : i].any()
    ]


def noise(*bursts, length=F(1, 5)):
    """Return three seconds, nearly silent but for bursts of noise at these times."""
    wave = np.random.default_rng(1).normal(0, 0.3, 3 * RATE).astype(np.float32)
    level = np.full(len(wave), 1e-3, np.float32)
    for start in bursts:
        level[int(start * RATE) : int((start + length) * RATE)] = 1
    return wave * level


@pytest.mark.full
@pytest.mark.parametrize("factor", ["5/4", "2", "2.5", "8"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_stretched_audio_has_the_length_of_the_video_and_its_pitch(
    tmp_path, factor, suffix
):
    form = {"codec": "libx264", "size": (32, 32), "audio": ["aac"]}
    clip = write_clip(tmp_path / f"a{suffix}", 11, rate=10, **form)
    slowed = tmp_path / f"b{suffix}"
    factor = F(factor)
    assert convert(clip, slowed, slow=factor).warnings == []
    _, before, _ = decode_audio(clip)
    begin, samples, _ = decode_audio(slowed)
    assert abs(begin) <= F(1, 1000)
    assert abs(len(samples) - len(before) * factor) <= 1024
    assert pitch(samples) == pytest.approx(440, abs=2)
    tail = int(RATE * factor / 10)
    assert samples[-2 * tail : -tail].std() > 0.05
    times = read_times(slowed)
    assert times[0] == 0
    assert abs(times[-1] + F(1, 10) - F(11, 10) * factor) < F(1, 10)


@pytest.mark.full
@pytest.mark.parametrize(
    ("factor", "codec", "suffix"),
    [(2, "aac", ".mp4"), (4, "flac", ".mkv"), (8, "aac", ".mp4"), (16, "flac", ".mkv")],
)
def test_a_click_is_heard_when_the_flash_is_seen(tmp_path, factor, codec, suffix):
    flashes = [4, 9, 15, 22, 27]
    rate = 20
    wave = np.random.default_rng(5).normal(0, 1e-3, 2 * RATE).astype(np.float32)
    for number in flashes:
        wave[number * RATE // rate :][:240] += 0.7 * np.exp(
            -np.arange(240, dtype=np.float32) / 60
        )
    clip, slowed = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    video(clip, tracks=[(codec, 0, wave)], seconds=2, rate=rate, white=flashes)
    cloudconv.interpolate(clip, slowed, model="blend", slowmo=F(factor), audio="stretch")
    shown = zip(
        read_times(slowed), (luma.mean() for luma, *_ in read_planes(slowed)), strict=True
    )
    seen = [time for (_, dark), (time, light) in pairwise(shown) if dark < 230 < light]
    assert seen == [F(number * factor, rate) for number in flashes]
    begin, samples, _ = decode_audio(slowed)
    # Search the audio a tenth of a source second to both sides of the flash.
    for time in seen:
        first = round((time - begin) * RATE) - factor * RATE // 10
        nearby = np.abs(samples[first : first + factor * RATE // 5])
        heard = (first + np.argmax(nearby > 0.2)) / RATE
        assert abs(heard - float(time - begin)) < 0.02


def test_every_track_keeps_its_codec_start_and_name(tmp_path):
    tracks = [("flac", 0, tone(330, 3 * RATE)), ("libopus", F(1, 2), tone(700, 3 * RATE))]
    clip = video(tmp_path / "a.mkv", tracks=tracks, rate=10)
    slowed = tmp_path / "b.mkv"
    convert(clip, slowed, slow=F(5, 2))
    with av.open(str(slowed)) as out:
        tracks = out.streams.audio
        assert [t.codec_context.codec.canonical_name for t in tracks] == ["flac", "opus"]
        assert [t.language for t in tracks] == ["deu", "fra"]
        assert [t.metadata["title"] for t in tracks] == ["Ton 0", "Ton 1"]
        assert tracks[1].disposition & Disposition.comment
        assert tracks[0].codec_context.format.name == "s16"
    for track, (start, hertz) in enumerate([(F(0), 330), (F(5, 4), 700)]):
        begin, samples, _ = decode_audio(slowed, track)
        assert abs(begin - start) <= F(1, 100)
        assert abs(F(len(samples), RATE) - F(15, 2)) <= F(4096, RATE)
        assert pitch(samples) == pytest.approx(hertz, abs=2)


def test_a_part_keeps_its_own_audio(tmp_path):
    wave = noise(F(1, 5), F(6, 5), F(2), F(13, 5), length=F(1, 10))
    clip = video(tmp_path / "a.mkv", tracks=[("flac", 0, wave)], rate=10)
    sink = convert(clip, tmp_path / "b.mkv", slow=4, start=F(1), end=F(12, 5))
    begin, samples, _ = decode_audio(tmp_path / "b.mkv")
    assert begin == 0
    assert len(samples) == F(7, 5) * 4 * RATE
    assert onsets(samples) == pytest.approx([0.8, 4.0], abs=0.02)
    assert len(read_times(tmp_path / "b.mkv")) == 56
    assert sink.warnings == []


@pytest.fixture
def bursts(tmp_path):
    """Write a clip of three seconds with bursts of noise at .5 and 2.5 seconds."""
    return video(
        tmp_path / "whole.mkv", tracks=[("flac", 0, noise(F(1, 2), F(5, 2)))], rate=10
    )


def test_a_gap_in_the_audio_stays_a_gap(bursts, tmp_path):
    """Packets are missing in the middle, and the audio after them must not move forward."""

    def without(packet):
        missing = packet.stream.type == "audio" and 1 <= packet.pts * packet.time_base < 2
        return None if missing else packet

    convert(remux(bursts, tmp_path / "a.mkv", without), tmp_path / "b.mkv", slow=2)
    _, samples, _ = decode_audio(tmp_path / "b.mkv")
    assert len(samples) == 6 * RATE
    assert onsets(samples) == pytest.approx([1.0, 5.0], abs=0.02)
    assert not samples[int(2.3 * RATE) : int(3.7 * RATE)].any()


def test_damaged_audio_is_counted_and_the_rest_keeps_its_times(bursts, tmp_path):
    with av.open(str(bursts)) as opened:
        packets = [(p.pos, p.size) for p in opened.demux(audio=0) if p.size]
    data = bytearray(bursts.read_bytes())
    for position, size in packets[14:17]:
        at = data.index(b"\xff\xf8", position)
        data[at : at + size] = bytes(size)
    bursts.write_bytes(data)
    sink = convert(bursts, tmp_path / "b.mkv", slow=2)
    _, samples, _ = decode_audio(tmp_path / "b.mkv")
    assert onsets(samples) == pytest.approx([1.0, 5.0], abs=0.02)
    assert abs(len(samples) - 6 * RATE) <= 4608
    assert said(sink, "3 of its packets")


@pytest.mark.parametrize(
    ("encoded", "suffix", "codec"),
    [
        ("aac", ".webm", "opus"),
        ("libmp3lame", ".mkv", "mp3"),
        ("adpcm_ms", ".mkv", "aac"),
        ("pcm_s16le", ".mov", "pcm_s16le"),
        ("ac3", ".mp4", "ac3"),
    ],
)
def test_the_source_codec_is_kept_if_the_container_can_hold_it(
    tmp_path, encoded, suffix, codec
):
    source = tmp_path / ("a.avi" if encoded == "adpcm_ms" else "a.mkv")
    clip = write_clip(source, 10, rate=10, codec="libx264", audio=[encoded])
    slowed = tmp_path / f"b{suffix}"
    sink = convert(clip, slowed, slow=2)
    with av.open(str(slowed)) as out:
        assert out.streams.audio[0].codec_context.codec.canonical_name == codec
    first, before, _ = decode_audio(clip)
    begin, samples, rate = decode_audio(slowed)
    end = 2 * (first + F(len(before), RATE) - probe(clip).timing.start)
    assert begin + F(len(samples), rate) == pytest.approx(float(end), abs=0.03)
    assert pitch(samples, rate) == pytest.approx(440, abs=4)
    assert bool(said(sink, f"becomes {codec}")) == (encoded in ("aac", "adpcm_ms"))


@pytest.mark.full
@given(
    factor=st.fractions(1, 40, max_denominator=1001),
    blocks=st.lists(st.integers(0, 3000), max_size=6),
    channels=st.integers(1, 3),
)
def test_the_length_is_exact_for_any_factor_and_block_sizes(factor, blocks, channels):
    random = np.random.default_rng(2)
    stretch = TimeStretch(8000, channels, TimeMap.even(1 / F(factor)))
    result = 0
    for count in blocks:
        samples = random.normal(0, 0.1, (count, channels)).astype(np.float32)
        result += sum(len(block) for block in stretch.push(samples))
    result += sum(len(block) for block in stretch.finish())
    assert result == round(sum(blocks) * factor)


@pytest.mark.parametrize("factor", [2, 8])
def test_a_stretched_chord_has_little_noise(factor):
    """Power at other frequencies is 30 dB below that of the chord."""
    tones = (220.0, 277.2, 329.6, 440.3)
    times = np.arange(3 * RATE) / RATE
    chord = sum(0.1 * np.sin(2 * np.pi * hertz * times) for hertz in tones)
    stretch = TimeStretch(RATE, 1, TimeMap.even(1 / F(factor)))
    result = [*stretch.push(np.asarray(chord, np.float32)[:, None]), *stretch.finish()]
    samples = np.concatenate(result)[RATE:-RATE, 0]
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    own = np.any([np.abs(hertz - tone) < 8 for tone in tones], axis=0)
    assert power[~own].sum() < power.sum() / 1000


SLOWER = TimeMap.through([(F(0), F(1)), (F(1), F(1)), (F(5), F(1, 4)), (F(9), F(1))])


@pytest.mark.full
def test_sound_stays_with_the_picture_along_a_ramp(tmp_path):
    """Bursts of noise begin at known times; the speed falls and rises for 16 seconds."""
    begins = [F(k, 2) + F(1, 4) for k in range(18)]
    wave = np.random.default_rng(1).normal(0, 0.3, 10 * RATE).astype(np.float32)
    level = np.full(len(wave), 1e-3, np.float32)
    for start in begins:
        level[int(start * RATE) : int((start + F(1, 10)) * RATE)] = 1
    sounds = [("pcm_s16le", 0, wave * level)]
    clip = video(tmp_path / "a.mkv", tracks=sounds, seconds=10, rate=10)
    slowed = tmp_path / "b.mkv"
    convert(clip, slowed, slow=SLOWER)
    _, samples, _ = decode_audio(slowed)
    assert abs(len(samples) - SLOWER.output(F(10)) * RATE) <= 1
    heard = onsets(samples)
    wanted = [float(SLOWER.output(start)) for start in begins]
    assert len(heard) == len(wanted)
    drift = max(abs(a - b) for a, b in zip(heard, wanted, strict=True))
    assert drift < 0.02


def test_points_of_one_speed_are_one_factor_of_sound():
    samples = noise(F(1, 2), F(3, 2))[:, None]
    whole = TimeStretch(RATE, 1, TimeMap.even(F(1, 2)))
    parts = TimeMap.through([(F(0), F(1, 2)), (F(1), F(1, 2)), (F(2), F(1, 2))])
    stretched = TimeStretch(RATE, 1, parts)
    one, other = (
        np.concatenate([*stretch.push(samples), *stretch.finish()])
        for stretch in (whole, stretched)
    )
    assert np.array_equal(one, other)


def test_chapters_go_where_the_map_sends_them(tmp_path):
    chapters = [(F(0), F(1), "one"), (F(1), F(9), "two")]
    clip = write_clip(tmp_path / "a.mkv", 90, rate=10, size=(32, 32), chapters=chapters)
    convert(clip, tmp_path / "b.mkv", slow=SLOWER)
    with av.open(str(tmp_path / "b.mkv")) as out:
        ends = [chapter["end"] * chapter["time_base"] for chapter in out.chapters()]
    assert ends == pytest.approx([1, float(SLOWER.output(F(9)))], abs=0.001)
