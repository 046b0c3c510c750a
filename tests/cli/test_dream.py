"""``cloudconv dream``: options, exit code, stdout and stderr."""

from tests.helpers.command import invoke
from tests.helpers.dreams import ball, video
from tests.helpers.factory import read_planes, write_clip


def run(*words):
    result = invoke("dream", *words)
    return result.exit_code, result.stdout, result.stderr


def test_a_length_is_the_only_required_option(tmp_path):
    clip = write_clip(tmp_path / "ball.mkv", [video(p) for p in ball(26, (64, 48))], rate=25)
    code, out, err = run(clip, "--seconds", "0.5")
    assert (code, out) == (0, "")
    assert len(read_planes(tmp_path / "ball_dream.mkv")) == 39
    assert "39 frames (13 new, from 1.0 s on) at 25 fps" in err
    assert "in a trial of 150 small frames" in err
    assert "like the clip in 1 of 1 windows" in err
    code, _, err = run(clip, "--seconds", "0.5")
    assert code == 1
    assert "exists" in err
    code, _, err = run(clip, tmp_path / "b.mkv", "--frames", 5, "--only-new", "--mode", "flow")
    assert code == 0
    assert "b.mkv: 5 new frames that continue the source, from 1.0 s on at 25 fps" in err
