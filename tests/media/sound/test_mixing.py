"""The sound of a dream: which part plays when, and how one part crosses to the next."""

from fractions import Fraction as F
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.media.sound.edits import Edit, EditList
from cloudconv.media.sound.fades import FilmSound, crossed, extension
from cloudconv.media.sound.mixing import Mixer

RATE = 8000
LENGTH = 10 * RATE  # of the film, which begins at the position 0
AMBIENCE = Edit(F(10), F(0), None)


def mixed(film, edits, seconds=20, *, chunk=F(1, 4), follows=True, **options):
    """Return the sound after the film, by an edit list that becomes known bit by bit."""
    ends = F(len(film), RATE)
    edit_list = EditList(ends, ends + seconds, F(0), **options)
    lead = film[: RATE // 2] if follows else None
    sound = FilmSound(film, RATE, 0)
    mixer = Mixer(edit_list, edit_list.follow(), sound, len(film), F(0), lead)
    parts = [film[:0]]
    waiting = list(edits)
    end = ends
    while not edit_list.is_complete:
        end = min(end + chunk, edit_list.ends)
        while waiting and waiting[0].begins < end:
            edit_list.add(waiting.pop(0))
        edit_list.reach(end)
        parts += mixer.play()
    return np.concatenate(parts)


def noise(length=LENGTH, channels=1, seed=1):
    result = np.random.default_rng(seed).normal(0, 0.1, (length, channels))
    return result.astype(np.float32)


def tone(hertz, length=LENGTH):
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(length) / RATE)
    return wave[:, None].astype(np.float32)


def crackling(seed=1, length=LENGTH, bursts=25):
    """Return a fire: filtered noise, and short bursts at random times."""
    random = np.random.default_rng(seed)
    film = np.convolve(noise(length, seed=seed)[:, 0], np.ones(8) / 8, "same")
    for start in random.integers(0, length - 800, bursts):
        fall = np.exp(-np.arange(800) / 120)
        film[start : start + 800] += random.normal(0, 0.4, 800) * fall
    return film[:, None].astype(np.float32)


def loudness(sound):
    """Return the level of windows of 0.4 seconds in dB, one every 0.01 seconds."""
    size = int(0.4 * RATE)
    power = np.cumsum(np.pad((sound.astype(float) ** 2).mean(1), (1, 0)))
    windows = (power[size:] - power[:-size]) / size
    return 10 * np.log10(windows[:: RATE // 100] + 1e-12)


def positions(sound, film, length=64):
    """Return where in the film each ``length`` samples were taken from, -1 for nowhere."""
    places = {film[k : k + length].tobytes(): k for k in range(len(film) - length + 1)}
    blocks = (
        sound[k : k + length].tobytes() for k in range(0, len(sound) - length, length)
    )
    return np.array([places.get(block, -1) for block in blocks])


def test_between_two_jumps_the_sound_of_the_film_plays_to_the_sample():
    film = noise()
    sound = mixed(film, [Edit(F(10), F(1, 25), F(-8)), Edit(F(14), F(0), F(-11))])
    assert len(sound) == 20 * RATE
    # From a second after each jump to half a second before the next.
    np.testing.assert_array_equal(sound[RATE : 3 * RATE], film[3 * RATE : 5 * RATE])
    np.testing.assert_array_equal(sound[5 * RATE : 6 * RATE], film[4 * RATE : 5 * RATE])


@pytest.mark.full
@settings(max_examples=30, deadline=None)
@given(st.floats(62.5, 3000), st.lists(st.integers(25, 170), min_size=10, max_size=10))
def test_a_sine_through_ten_jumps_has_no_step_and_no_dip(hertz, targets):
    film = tone(hertz)
    edits = [
        Edit(10 + F(2 * number), F(1, 25), F(target, 25) - 10 - 2 * number)
        for number, target in enumerate(targets)
    ]
    sound = mixed(film, edits)
    steps = np.abs(np.diff(sound[:, 0], prepend=film[-1, 0]))
    assert steps.max() <= 1.05 * np.abs(np.diff(film[:, 0])).max()
    assert np.abs(loudness(sound) - loudness(film).mean()).max() < 0.3


@pytest.mark.parametrize("film", [noise(), crackling()], ids=["rain", "fire"])
def test_a_steady_sound_keeps_its_loudness_at_jumps(film):
    edits = [
        Edit(10 + F(number), F(1, 25), F(-9 + number * 2 % 7 - number))
        for number in range(9)
    ]
    usual, made = loudness(film), loudness(mixed(film, edits, 10))
    assert made.min() > usual.min() - 1.5
    assert made.max() < usual.max() + 1.5


def test_gaps_between_crackles_rarely_join_to_a_longer_one():
    """At most 7 % of jumps leave the range of the film by more than 1.5 dB.

    These few have no place that is outside of crackles and keeps the loudness.
    """
    ends = F(12, 5)
    jumps = 16
    apart = 0
    for seed in range(12):
        film = crackling(seed, int(ends * RATE), bursts=17)
        edits = [Edit(ends, F(0), -ends)]
        targets = np.random.default_rng(seed).integers(0, 20, jumps)
        for number, target in enumerate(targets.tolist(), 1):
            begins = ends + F(5, 4) * number
            edits.append(Edit(begins, F(1, 8), F(target, 20) - begins - F(1, 8)))
        usual = loudness(film)
        heard = loudness(mixed(film, edits, 21))
        outside = np.maximum(heard - usual.max(), usual.min() - heard) > 1.5
        for number in range(1, jumps + 1):
            place = 125 * number  # in hundredths of a second
            apart += outside[place - 62 : place + 63].any()
    assert apart <= 0.07 * 12 * jumps


def test_a_sound_crosses_outside_of_attacks():
    film = 0.01 * noise()
    clicks = [RATE * 2 + RATE * k // 5 for k in range(-5, 6)]  # one every 0.2 seconds
    for click in clicks:
        film[click : click + 200] += 0.5
    sound = mixed(film, [Edit(F(10), F(0), F(-9)), Edit(F(11), F(1, 25), F(-3))], 5)
    # Each click that is heard is heard whole.
    loud = np.flatnonzero(sound[:, 0] > 0.1)
    ends = np.flatnonzero(np.diff(loud, append=10 * LENGTH) > 1)
    lengths = np.diff(ends, prepend=-1)
    assert len(lengths) >= 3
    assert set(lengths) == {200}


def joins(sound, film):
    """Return where the film's own sound ends, and where it goes on, at each join."""
    at = positions(sound, film, 32)
    exact = [(32 * n, int(k)) for n, k in enumerate(at) if k >= 0]
    return [
        (before + 32, after)
        for (early, before), (late, after) in pairwise(exact)
        if late - early != after - before
    ]


@pytest.mark.parametrize("seed", range(3))
def test_no_fade_begins_or_ends_in_a_loud_event(seed):
    random = np.random.default_rng(seed)
    jumps = [int(second) for second in random.integers(1, 8, 8)]
    start = int(random.integers(4000))
    # Two events are more alike than the quiet and the loud half of the film.
    film = noise(seed=seed) * np.where(np.arange(LENGTH) < LENGTH // 2, 1e-4, 0.3)[:, None]
    events = np.arange(start, LENGTH - RATE // 2, 6400)  # one every 0.8 seconds
    for event in events:
        film[event : event + 640] += 5 * noise(640) * np.exp(-np.arange(640) / 200)[:, None]
    film = film.astype(np.float32)
    edits = [
        Edit(10 + F(2 * n), F(1, 25), -F(4, 5) * -(-(10 + 2 * n - target) * 5 // 4))
        for n, target in enumerate(jumps)
    ]
    ends = []
    for score in (edits, [AMBIENCE]):
        ends += joins(mixed(film, score, seed=seed), film)
    assert len(ends) > 8
    for positions_of_join in ends:
        for position in positions_of_join:
            since = (position - events)[position >= events].min(initial=LENGTH)
            assert since == 0 or since >= 640


def test_the_fade_at_the_end_of_the_film_is_as_long_as_others():
    film = noise()
    sound = mixed(film, [Edit(F(10), F(0), F(-8))], 3)
    first = int((positions(sound, film, 16) >= 0).argmax()) * 16
    assert 0.29 * RATE < first < 0.45 * RATE


def test_a_slow_jump_fades_as_long_as_it_lasts():
    film = np.concatenate([noise(), noise() * 0]).astype(np.float32)
    film[LENGTH:] = 0.2
    edits = [Edit(F(20), F(0), F(-20)), Edit(F(23), F(4), F(-12))]
    sound = mixed(film, edits, 9)
    rises = sound[3 * RATE : 7 * RATE, 0].reshape(8, -1).mean(1)
    assert np.all(np.diff(rises) > 0)
    np.testing.assert_array_equal(sound[7 * RATE : 8 * RATE], film[15 * RATE : 16 * RATE])


@pytest.mark.full
@given(st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_an_ambience_joins_pieces_of_two_seconds_and_no_join_twice_in_a_row(seed):
    film = noise()
    sound = mixed(film, [AMBIENCE], 60, seed=seed)
    at = positions(sound, film)
    shifts = [int(k - 64 * n) for n, k in enumerate(at) if k >= 0]
    pieces = [(shift, shifts.count(shift)) for shift in dict.fromkeys(shifts)]
    # The fades shorten what is found of a piece.
    assert all(count * 64 >= 1.6 * RATE for _, count in pieces[:-1])
    assert len(pieces) >= 8
    joins = []
    for (before, _), (after, _) in pairwise(pieces):
        place = 64 * next(n for n, k in enumerate(at) if k >= 0 and k - 64 * n == after)
        joins.append((place + before, place + after))
    for (a, b), (c, d) in pairwise(joins):
        assert max(abs(a - c), abs(b - d)) > RATE // 10


def test_a_seed_repeats_the_sound_and_another_seed_does_not():
    film = noise()
    first, again, other = (mixed(film, [AMBIENCE], seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_the_sound_does_not_depend_on_how_far_ahead_the_score_is_known():
    film = noise()
    edits = [Edit(F(10), F(0), F(-8)), Edit(F(13), F(1, 5), F(-12))]
    parts = [mixed(film, edits, chunk=chunk) for chunk in (F(1, 50), F(2), F(20))]
    np.testing.assert_array_equal(parts[0], parts[1])
    np.testing.assert_array_equal(parts[0], parts[2])


@pytest.mark.parametrize("follows", [True, False], ids=["film", "only-new"])
@pytest.mark.parametrize(
    "edit", [AMBIENCE, Edit(F(10), F(0), F(-7))], ids=["ambience", "edit"]
)
def test_the_last_sample_of_a_loop_leads_into_the_first(follows, edit):
    film = tone(437, LENGTH + 7)
    sound = mixed(film, [edit], 5 if edit.offset else 20, loops=True, follows=follows)
    begin = film if follows else sound
    seam = np.concatenate([sound[-3:, 0], begin[:3, 0]])
    for order in (1, 2):  # steps, and changes of the slope
        usual = np.abs(np.diff(film[:, 0], order)).max()
        assert np.abs(np.diff(seam, order)).max() <= 1.1 * usual


def test_silence_stays_silence():
    film = noise()
    film[: 4 * RATE] = 0
    sound = mixed(film, [Edit(F(10), F(0), F(-9))], 5)
    assert not sound[RATE : 2 * RATE].any()
    np.testing.assert_array_equal(sound[4 * RATE :], film[5 * RATE : 6 * RATE])


def test_a_sound_of_a_second_loops_and_one_of_a_fifth_is_silent():
    short = noise(RATE)
    sound = mixed(short, [Edit(F(1), F(0), None)], 10)
    assert loudness(sound).min() > loudness(short).mean() - 2
    shortest = noise(RATE // 5)
    assert not mixed(shortest, [Edit(F(1, 5), F(0), None)], 3)[RATE:].any()


@settings(deadline=None, max_examples=30)
@given(
    st.one_of(st.integers(0, RATE // 50), st.integers(0, RATE)),
    st.sampled_from([None, F(0), F(-1, 10)]),
    st.booleans(),
)
def test_a_sound_of_any_length_gives_one_as_long_as_the_picture(length, offset, loops):
    edit = Edit(F(length, RATE), F(0), offset)
    sound = mixed(noise(length), [edit], 1, loops=loops)
    assert len(sound) == RATE
    assert np.isfinite(sound).all()


@pytest.mark.parametrize("alike", [0, 1])
def test_the_law_of_a_fade_follows_the_correlation(alike):
    old, other = noise(seed=1), noise(seed=2)
    new = old if alike else other
    level = loudness(crossed(old, new))
    assert np.abs(level - loudness(old).mean()).max() < 0.5


def test_an_extension_goes_on_with_a_tone_and_with_noise():
    wave = tone(437, LENGTH + 800)
    result = extension(wave[:LENGTH], 800)
    np.testing.assert_allclose(result[:600], wave[LENGTH : LENGTH + 600], atol=0.01)
    hiss = extension(noise(), 800)[:600]
    assert 0.05 < hiss.std() < 0.2


def test_many_fast_jumps_do_not_delay_the_sound():
    film = noise()
    edits = [Edit(10 + F(n, 50), F(0), F(-9 + n % 3) - F(n, 50)) for n in range(200)]
    edits.append(Edit(F(14), F(0), F(-12)))
    sound = mixed(film, edits, 8)
    np.testing.assert_array_equal(sound[5 * RATE : 7 * RATE], film[3 * RATE : 5 * RATE])
