"""The sound of dreams from file to file: in step, exact until the end, all containers."""

from fractions import Fraction as F

import av
import numpy as np
import pytest
from av.stream import Disposition

from cloudconv.errors import OutputError
from cloudconv.media.carried.carry import Carry
from cloudconv.media.reading.probe import probe
from cloudconv.media.sound.edits import Edit, EditList
from tests.helpers import calls
from tests.helpers.factory import packets_of, picture, read_planes, write_clip
from tests.helpers.tiers import first_full
from tests.media.writing.test_sink import even, write

pytestmark = pytest.mark.usefixtures("unmeasured")

RATE, FPS = 48000, 12
QUICK = {"mode": "flow", "seconds": 3, "threads": 1, "overwrite": True}  # an ambience


def filmed(number, size=(64, 48), *, wall=0):
    """Return a picture that no other number has; every second begins with a flash.

    ``wall``: the width of a wall.
    """
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    turn = 2 * np.pi * number / FPS
    grey = 128 + 40 * np.sin(columns / 9 + turn) + 30 * np.sin(rows / 7 - 2 * turn)
    grey += 8 * np.sin(columns / 5 + number / 16)
    if number % FPS == 0:
        grey[4:20, 4:20] = 255
    grey[10:40, :wall] = 0
    planes = np.concatenate([grey, np.full((height // 2, width), 128)])
    return av.VideoFrame.from_ndarray(
        planes.clip(0, 255).astype(np.uint8), format="yuv420p"
    )


def noted(seconds, rate=RATE, first=300):
    """Return a sound whose every second has another tone and begins with a click."""
    times = np.arange(int(seconds * rate)) / rate
    wave = 0.2 * np.sin(2 * np.pi * (first + 150 * times.astype(int)) * times)
    wave[times % 1 < 0.005] = 0.8
    return wave.astype(np.float32)


def rain(seconds, rate=RATE, channels=1):
    result = np.random.default_rng(1).normal(0, 0.1, (int(seconds * rate), channels))
    return result.astype(np.float32)


def film(
    path,
    *waves,
    seconds=4,
    codec="pcm_s16le",
    rate=RATE,
    layout="mono",
    late=F(0),
    odd=0,
    **options,
):
    """Write a film with a track for each wave, (samples,) or (samples, channels).

    A wall comes in by the last ``odd`` pictures.
    """
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1" if path.suffix == ".mkv" else "libx264", rate=FPS)
        video.width = 64
        video.height = 48
        video.pix_fmt = "yuv420p"
        tracks = [out.add_stream(codec, rate=rate, layout=layout) for _ in waves]
        for track in tracks:
            for name, value in options.items():
                setattr(track, name, value)
        for number in range(int(seconds * FPS)):
            inside = number - (int(seconds * FPS) - odd) + 1
            frame = filmed(number, wall=8 * max(inside, 0))
            frame.pts = number
            frame.time_base = F(1, FPS)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for track, wave in zip(tracks, waves, strict=True):
            channels = track.codec_context.layout.nb_channels
            samples = np.broadcast_to(wave.reshape(len(wave), -1), (len(wave), channels))
            for start in range(0, len(wave), 1024):
                block = np.ascontiguousarray(samples[start : start + 1024].reshape(1, -1))
                frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
                frame.sample_rate = rate
                frame.pts = start + int(late * rate)
                frame.time_base = F(1, rate)
                out.mux(track.encode(frame))
            out.mux(track.encode(None))
    return path


def heard(path, number=0):
    """Return the start of a track in seconds, its samples (n, channels), and its stream."""
    with av.open(str(path)) as clip:
        stream = clip.streams.audio[number]
        to_float = av.AudioResampler("dbl", stream.layout.name, stream.rate)
        frames = list(clip.decode(stream))
        parts = [p.to_ndarray() for frame in frames for p in to_float.resample(frame)]
        channels = stream.layout.nb_channels
        return float(frames[0].time), np.concatenate(parts, 1).reshape(-1, channels), stream


def dream(clip, out, **options):
    return calls.dream(clip, out, **{**QUICK, **calls.lossless(out), **options})


def said(result):
    """Return the codes of the warnings that are not about the pictures."""
    about_pictures = ("dream-fault", "rate-assumed")
    return [
        warning.code for warning in result.warnings if warning.code not in about_pictures
    ]


def level(sound):
    """Return the loudness in dB."""
    return 10 * np.log10((sound**2).mean() + 1e-12)


@pytest.mark.full
def test_each_frame_of_the_film_plays_with_its_own_sound(tmp_path):
    clip = film(tmp_path / "a.mkv", noted(8), seconds=8)
    out = tmp_path / "b.mkv"
    result = dream(clip, out, mode="texture", seconds=30, scene_cut="off")
    (_, before, _), (start, after, _) = heard(clip), heard(out)
    assert start == 0
    assert len(after) == 38 * RATE
    np.testing.assert_array_equal(after[: 8 * RATE], before)
    numbers = {planes[0].tobytes(): k for k, planes in enumerate(read_planes(clip))}
    numbers_shown = [numbers.get(planes[0].tobytes()) for planes in read_planes(out)]
    assert len(numbers_shown) == result.output_frames == 38 * FPS
    compared = 0
    length = RATE // FPS
    shift = RATE // 50
    for place, number in enumerate(numbers_shown):
        around = numbers_shown[max(place - FPS, 0) : place + FPS]
        first = place - min(place, FPS)
        if (
            number is None
            or len(around) < FPS
            or any(
                k is None or k - number != first + n - place for n, k in enumerate(around)
            )
        ):
            continue  # a jump is near
        compared += 1
        if compared % 4:
            continue  # each comparison takes 10 ms
        least = max(number * length - shift, 0)
        most = (number + 1) * length + shift
        field = before[least:most, 0]
        wanted = after[place * length : (place + 1) * length, 0]
        windows = np.lib.stride_tricks.sliding_window_view(field, len(wanted))
        assert np.abs(windows - wanted).max(1).min() < 1e-3
    assert compared > 10 * FPS


@pytest.mark.parametrize("mode", first_full(["texture", "flow"]))
def test_an_equal_seed_gives_equal_samples(tmp_path, mode):
    clip = film(tmp_path / "a.mkv", rain(4))
    sounds = []
    for seed in (3, 3, 4):
        dream(clip, tmp_path / "b.mkv", seed=seed, mode=mode, seconds=9)
        sounds.append(heard(tmp_path / "b.mkv")[1])
    np.testing.assert_array_equal(sounds[0], sounds[1])
    assert mode == "texture" or np.any(sounds[0] != sounds[2])


@pytest.mark.full
@pytest.mark.parametrize(
    ("codec", "format"),
    [("pcm_s16le", "s16"), ("pcm_s24le", "s32"), ("pcm_s32le", "s32"), ("flac", "s16")],
)
def test_sound_without_loss_is_exact_before_the_end_of_the_film(tmp_path, codec, format):
    clip = film(tmp_path / "a.mkv", rain(4), codec=codec, format=format)
    result = dream(clip, tmp_path / "b.mkv")
    (_, before, _), (start, after, stream) = heard(clip), heard(tmp_path / "b.mkv")
    assert stream.codec_context.codec.canonical_name == codec
    assert start == 0
    np.testing.assert_array_equal(after[: len(before)], before)
    assert len(after) == 7 * RATE
    assert abs(level(after[4 * RATE :]) - level(before)) < 1
    assert result.sound_encoded == []
    assert not said(result)


@pytest.mark.full
@pytest.mark.parametrize(
    ("suffix", "codec", "made"),
    [(".mp4", "aac", "aac"), (".webm", "aac", "opus"), (".mkv", "libopus", "opus")],
)
def test_each_container_gets_its_codec_and_the_whole_track_is_encoded_again(
    tmp_path, suffix, codec, made
):
    clip = film(tmp_path / ("a.mp4" if codec == "aac" else "a.mkv"), rain(4), codec=codec)
    result = calls.dream(clip, tmp_path / f"b{suffix}", **QUICK)
    start, after, stream = heard(result.output)
    assert stream.codec_context.codec.canonical_name == made
    assert result.sound_encoded == [made]
    assert f"the whole sound is encoded again ({made})" in result.headline
    assert abs(start) < 0.03
    assert abs(len(after) / RATE - 7) < 0.05
    windows = after[: 7 * RATE // 2400 * 2400].reshape(-1, 2400)
    levels = 10 * np.log10((windows[1:-1] ** 2).mean(1) + 1e-12)
    assert levels.max() - levels.min() < 3  # of 50 ms: no gap at the end of the film


@pytest.mark.full
def test_the_sound_ends_with_the_film_or_is_left_out_if_wanted(tmp_path):
    clip = film(tmp_path / "a.mkv", rain(4))
    dream(clip, tmp_path / "b.mkv", audio="copy")
    assert packets_of(tmp_path / "b.mkv") == packets_of(clip)
    result = dream(clip, tmp_path / "c.mkv", audio="drop")
    assert packets_of(tmp_path / "c.mkv") == []
    assert not said(result)
    with pytest.raises(OutputError, match=r"audio=.copy"):
        calls.dream(clip, tmp_path / "d.webm", **QUICK, audio="copy")


@pytest.mark.full
@pytest.mark.parametrize(("suffix", "seconds"), [(".mkv", 4), (".mkv", 12), (".mov", 12)])
def test_new_frames_alone_have_sound_of_their_length(tmp_path, suffix, seconds):
    clip = film(tmp_path / f"a{suffix}", rain(seconds), seconds=seconds)
    result = dream(clip, tmp_path / "b.mkv", only_new=True)
    start, after, _ = heard(tmp_path / "b.mkv")
    assert (start, len(after)) == (0, 3 * RATE)
    assert abs(level(after) - level(rain(seconds))) < 1
    assert not said(result)


@pytest.mark.full
def test_the_sound_of_a_film_that_is_left_early_ends_there_and_goes_on(tmp_path):
    clip = film(tmp_path / "a.mkv", noted(8), seconds=8, odd=6)
    out = tmp_path / "b.mkv"
    result = dream(clip, out, mode="texture", seconds=20, scene_cut="off")
    assert 7 <= result.left_at < 8
    (_, before, _), (start, after, _) = heard(clip), heard(out)
    left = round(result.left_at * RATE)
    assert start == 0
    assert len(after) == left + 20 * RATE
    np.testing.assert_array_equal(after[:left], before[:left])


@pytest.mark.full
def test_sound_of_the_part_that_is_left_out_plays_with_its_frames(tmp_path):
    clip = film(tmp_path / "a.mkv", noted(3), seconds=3)
    edit_list = EditList(F(2), F(3), F(0), F(3))

    def frames():
        for frame in even(36, (64, 48), rate=FPS):
            if frame.time == 2:
                edit_list.add(Edit(F(2), F(0), F(1, 2)))
                edit_list.reach(F(3))
            yield frame

    carry = Carry(probe(clip), F(0), end=F(2), edit_list=edit_list)
    options = {"rate": FPS, "carry": carry, "encoder": "ffv1"}
    write(tmp_path / "b.mkv", frames(), probe(clip), **options)
    (_, before, _), (_, after, _) = heard(clip), heard(tmp_path / "b.mkv")
    assert len(after) == 3 * RATE
    np.testing.assert_array_equal(after[: 2 * RATE], before[: 2 * RATE])
    # After the fade.
    faded = slice(int(2.35 * RATE), int(2.5 * RATE))
    own = before[faded.start + RATE // 2 : faded.stop + RATE // 2]
    np.testing.assert_allclose(after[faded], own, atol=1e-3)


@pytest.mark.full
def test_a_dream_from_an_earlier_time_never_plays_what_follows(tmp_path):
    wave = np.concatenate([rain(2)[:, 0], np.full(2 * RATE, 0.7, np.float32)])
    clip = film(tmp_path / "a.mkv", wave)
    dream(clip, tmp_path / "b.mkv", at=2)
    after = heard(tmp_path / "b.mkv")[1]
    assert len(after) == 5 * RATE
    assert after.max() < 0.65


@pytest.mark.full
def test_only_the_scene_that_is_continued_sounds(tmp_path):
    stripes = np.tile(np.repeat([20, 230], 8), (72, 4)).astype(np.uint8)
    other = [
        av.VideoFrame.from_ndarray(np.roll(stripes, k // 2, 1), "yuv420p")
        for k in range(48)
    ]
    pictures = [*other, *(filmed(k) for k in range(1, 49))]
    clip = write_clip(tmp_path / "v.mkv", pictures, rate=FPS, size=(64, 48))
    wave = np.concatenate([np.full(4 * RATE, 0.7, np.float32), rain(4)[:, 0]])
    with av.open(str(clip)) as video, av.open(str(tmp_path / "a.mkv"), "w") as out:
        copied = out.add_stream_from_template(video.streams.video[0], opaque=True)
        track = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for packet in video.demux(video.streams.video[0]):
            if packet.size:
                packet.stream = copied
                out.mux(packet)
        frame = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
        frame.sample_rate = RATE
        out.mux([*track.encode(frame), *track.encode(None)])
    result = dream(tmp_path / "a.mkv", tmp_path / "b.mkv", seconds=8)
    assert result.cut == 4
    assert heard(tmp_path / "b.mkv")[1][8 * RATE :].max() < 0.65


@pytest.mark.full
def test_every_track_goes_on_with_its_language_and_flags(tmp_path):
    clip = film(tmp_path / "v.mkv", rain(4), noted(4))
    with av.open(str(clip)) as source, av.open(str(tmp_path / "a.mkv"), "w") as out:
        targets = [
            out.add_stream_from_template(stream, opaque=True) for stream in source.streams
        ]
        targets[1].metadata["language"] = "eng"
        targets[2].metadata["language"] = "fra"
        targets[2].disposition = Disposition.comment
        for packet in source.demux():
            if packet.size:
                packet.stream = targets[packet.stream.index]
                out.mux(packet)
    dream(tmp_path / "a.mkv", tmp_path / "b.mkv")
    (_, first, _), (_, second, _) = (
        heard(tmp_path / "b.mkv", 0),
        heard(tmp_path / "b.mkv", 1),
    )
    assert len(first) == len(second) == 7 * RATE
    with av.open(str(tmp_path / "b.mkv")) as output:
        tracks = output.streams.audio
        assert [track.metadata["language"] for track in tracks] == ["eng", "fra"]
        assert Disposition.comment in tracks[1].disposition


@pytest.mark.parametrize("tracks", [1, 2])
def test_sound_that_waits_for_the_picture_at_the_end_is_written(tmp_path, tracks):
    """The edit list becomes complete while known sound waits for the picture."""
    clip = film(tmp_path / "a.mkv", *[noted(2)] * tracks, seconds=2, codec="aac")
    info = probe(clip)
    edit_list = EditList(F(2), F(4), F(0))

    def frames():
        for frame in even(48, (64, 48), rate=FPS):
            if frame.time == 2:
                edit_list.add(Edit(F(2), F(0), F(-2)))
                edit_list.reach(F(23, 6))
            elif frame.time == 3:
                edit_list.reach(F(4))
            yield frame

    carry = Carry(info, F(0), edit_list=edit_list)
    write(tmp_path / "b.mkv", frames(), info, rate=FPS, carry=carry, encoder="ffv1")
    for number in range(tracks):
        assert abs(len(heard(tmp_path / "b.mkv", number)[1]) / RATE - 4) < 0.03


def test_sound_after_a_gap_around_the_start_of_the_output_changes_nothing(tmp_path):
    """The output begins with the first new frame, where the sound of the film ends."""
    clip = film(tmp_path / "a.mkv", rain(4), seconds=4)

    def going_on(name, resumes):
        gapped = tmp_path / f"{name}.mkv"
        with av.open(str(clip)) as source, av.open(str(gapped), "w") as out:
            copied = {
                stream.index: out.add_stream_from_template(stream, opaque=True)
                for stream in source.streams
            }
            for packet in source.demux():
                time = packet.pts and packet.pts * packet.time_base
                is_sound = packet.stream.type == "audio"
                if packet.pts is not None and not (is_sound and F(99, 50) < time < resumes):
                    packet.stream = copied[packet.stream.index]
                    out.mux(packet)
        edit_list = EditList(F(2), F(4), F(0))
        edit_list.add(Edit(F(2), F(0), F(-1, 4)))
        edit_list.reach(F(4))
        info = probe(gapped)
        carry = Carry(info, F(2), F(2), audio=False, edit_list=edit_list)
        new = tmp_path / f"{name}-new.mkv"
        frames = even(24, (64, 48), rate=FPS)
        write(new, frames, info, rate=FPS, carry=carry, encoder="ffv1")
        return heard(new)[1]

    early, late = going_on("early", 2), going_on("late", 3)
    assert len(early) == len(late) == 2 * RATE
    assert level(early[RATE // 4 : RATE // 2]) > -40
    np.testing.assert_array_equal(early, late)


@pytest.mark.full
@pytest.mark.parametrize(
    ("rate", "layout", "channels"),
    [(44100, "stereo", 2), (96000, "mono", 1), (48000, "5.1", 6), (8000, "7.1", 8)],
)
def test_rates_and_channels_are_kept(tmp_path, rate, layout, channels):
    levels = 0.5 ** np.arange(channels, dtype=np.float32)
    wave = rain(4, rate, channels) * levels
    clip = film(tmp_path / "a.mkv", wave, rate=rate, layout=layout)
    dream(clip, tmp_path / "b.mkv")
    _, after, stream = heard(tmp_path / "b.mkv")
    assert (stream.rate, stream.layout.nb_channels, len(after)) == (
        rate,
        channels,
        7 * rate,
    )
    new = np.sqrt((after[4 * rate :] ** 2).mean(0))
    np.testing.assert_allclose(new / new[0], levels, rtol=0.1)


@pytest.mark.full
def test_silence_before_and_after_the_sound_stays_silence(tmp_path):
    late = film(tmp_path / "a.mkv", rain(3), late=1)
    dream(late, tmp_path / "b.mkv", mode="texture", seconds=8)
    start, after, _ = heard(tmp_path / "b.mkv")
    assert abs(start + len(after) / RATE - 12) < 0.01
    early = film(tmp_path / "c.mkv", rain(3))
    dream(early, tmp_path / "d.mkv")
    start, after, _ = heard(tmp_path / "d.mkv")
    assert (start, len(after)) == (0, 7 * RATE)
    assert not after[3 * RATE : 4 * RATE].any()


@pytest.mark.full
def test_a_short_sound_goes_on_and_a_very_short_one_ends_with_a_warning(tmp_path):
    short = film(tmp_path / "a.mkv", rain(1), seconds=1)
    result = dream(short, tmp_path / "b.mkv")
    after = heard(tmp_path / "b.mkv")[1]
    assert abs(level(after[RATE:]) - level(rain(1))) < 1.5
    assert not said(result)
    blip = film(tmp_path / "c.mkv", rain(1 / 3), seconds=F(1, 3))
    result = dream(blip, tmp_path / "d.mkv")
    assert said(result) == ["sound-too-short"]
    assert not heard(tmp_path / "d.mkv")[1][RATE:].any()


@pytest.mark.full
@pytest.mark.parametrize("rate", [8, 50, 119, 1000])
def test_a_sound_of_few_samples_a_second_goes_on_or_is_silent(tmp_path, rate):
    clip = film(tmp_path / "a.mkv", rain(2, rate), seconds=2, rate=rate)
    dream(clip, tmp_path / "b.mkv")
    after = heard(tmp_path / "b.mkv")[1]
    assert abs(len(after) - 5 * rate) <= 1


def test_samples_that_are_no_finite_numbers_become_silence_with_a_warning(tmp_path):
    wave = rain(2)
    wave[RATE // 2 : RATE // 2 + 100] = np.nan
    clip = film(tmp_path / "a.mkv", wave, seconds=2, codec="pcm_f32le")
    result = dream(clip, tmp_path / "b.mkv")
    assert said(result) == ["sound-damaged"]
    assert "1 of its packets could not be decoded, or have samples that are no" in str(
        result.warnings[0]
    )
    assert np.isfinite(heard(tmp_path / "b.mkv")[1]).all()


@pytest.mark.parametrize("only_new", [False, True])
def test_a_scene_after_the_end_of_the_sound_is_silent_with_a_warning(tmp_path, only_new):
    pictures = [picture(k, scene=int(k > 11)) for k in range(13)]
    clip = write_clip(
        tmp_path / "a.mkv", pictures, audio=["pcm_s16le"], audio_seconds=F(1, 2)
    )
    result = dream(clip, tmp_path / "b.mkv", seconds=1, only_new=only_new)
    assert said(result) == ["last-scene", "sound-too-short"]
    if not only_new:
        assert len(heard(tmp_path / "b.mkv")[1]) >= RATE // 2


@pytest.mark.full
def test_without_sound_nothing_is_said(tmp_path):
    clip = film(tmp_path / "a.mkv")
    folder = tmp_path / "p"
    folder.mkdir()
    for number in range(3):
        filmed(number + 1).to_image().save(folder / f"{number}.png")
    for given in (clip, folder, folder / "0.png"):
        result = dream(given, tmp_path / "b.mkv", seconds=1)
        assert not said(result)
        assert packets_of(tmp_path / "b.mkv") == []


@pytest.mark.full
@pytest.mark.parametrize("only_new", [False, True])
@pytest.mark.parametrize("mode", ["flow", "texture"])
def test_the_sound_of_a_loop_has_no_step_at_its_end(tmp_path, mode, only_new):
    times = np.arange(4 * RATE) / RATE
    wave = 0.3 * np.sin(2 * np.pi * 437 * times)
    clip = film(tmp_path / "a.mkv", wave.astype(np.float32))
    dream(clip, tmp_path / "b.mkv", mode=mode, loop=True, only_new=only_new, seconds=6)
    after = heard(tmp_path / "b.mkv")[1][:, 0]
    seam = np.concatenate([after[-4:], after[:4]])
    for order in (1, 2):
        usual = np.abs(np.diff(wave, order)).max()
        assert np.abs(np.diff(seam, order)).max() < 1.3 * usual + 1e-4
