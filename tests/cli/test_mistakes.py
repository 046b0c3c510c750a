"""Wrong command lines: one sentence each, an exit code, and an object with ``--json``."""

import json
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cloudconv.cli.app import app
from tests.helpers.factory import write_clip

INTERP = "interp a.mp4 --factor 2 "
COMPARE = "compare a.mp4 --model blend "
USAGE = {
    "nonsense": "train, doctor, models.",
    "interp": "Missing argument 'IN [OUT]': see --help.",
    "interp a.mp4": "exactly one of --factor",
    "interp a.mp4 --factor 0.5": "from 1 to 1000",
    "interp a.mp4 --factor 1": "give a larger factor",
    "interp a.mp4 --factor four": "'four' is not a factor",
    "interp a.mp4 --fps 0": "fps",
    "interp a.mp4 --fps 60 --audio drop": "is for slow motion",
    "interp a.mp4 --slowmo 2 --audio keep": "must be drop, stretch or copy",
    "interp a.mp4 --nonsense": "There is no option --nonsense",
    "interp a.mp4 -f 2": "There is no option -f: see --help.",
    "interp a.mp4 --facter 2": "(did you mean --factor?): see --help.",
    "interp a.mp4 b.mp4 c.mp4 --factor 2": "need --out-dir",
    f"{INTERP} --fps 60": "got --factor, --fps",
    f"{INTERP} --model rif-4.6": "did you mean rife-4.6?): choose one of cloud-best, "
    "cloud-fast",
    f"{INTERP} --device gpu": 'no device "gpu"',
    f"{INTERP} --crf 99": "99",
    f"{INTERP} a.mp4 --crf 99": "99",  # before what is wrong with the output
    "interp a.mp4 --factor 2000000": "got 2000000",
    f"{INTERP} --encoder x277": "x277",
    f"{INTERP} --encoder libx246": "did you mean libx26",
    f"{INTERP} --encoder prores": "use libx264, libx264rgb, libx265, libvpx-vp9 or "
    "libsvtav1,",
    f"{INTERP} --crf 52": "libx264 takes 0 to 51",
    f"{INTERP} --preset fasst": "did you mean fast?",
    "a.mp4 --factor 2": "such as 'cloudconv interp a.mp4'",
    "intrep a.mp4 --factor 2": "no command 'cloudconv intrep' (did you mean interp?): "
    "choose one",
    "interp -dash.mp4 --factor 2": "If -dash.mp4 is a file, put -- before the files: -- "
    "-dash.mp4.",
    "interp -o.mp4 --factor 2": "put -- before the files: -- -o.mp4.",
    "interp --dash.mp4 --factor 2": "put -- before the files: -- --dash.mp4.",
    f"{INTERP} --pix-fmt vaapi": "vaapi",
    f"{INTERP} --start x": "'x'",
    f"{INTERP} --start 3 --end 2": "must come after --start",
    f"{INTERP} --scene-cut nan": "a number from 0 to 1",
    f"{INTERP} --audio stretch": "is for slow motion",
    "compare a.mp4 --horizon 2 --scale 2": "for interpolation",
    "dream a.mp4 --preview modes.gif": "a picture (.jpg, .png) or a video (.mp4)",
    "dream a.mp4 b.mp4 --preview modes.jpg": "--output would do nothing",
    "dream a.mp4 --preview m.jpg --loop --seconds 9": "--seconds and --loop would do "
    "nothing",
    f"{INTERP} --batch 0": "--batch must be auto or",
    f"{INTERP} --tile -1": "--tile must be auto, off or",
    f"{INTERP} --threads 0": "from 1 to 256",
    f"{INTERP} --scale 9": "--scale: The scale 9 is not one of 0.25",
    f"{INTERP} --encoder-option crf": "not of the form key=value",
    f"{INTERP} --nvdec --deinterlace": "leave --nvdec out",
    f"{INTERP} -q -v": "contradict each other",
    f"{INTERP} o.mkv -o other.mkv": "given twice",
    f"{INTERP} --output": "requires an argument: see --help.",
    f"{INTERP} --model .": ". is no file of weights, whose name ends in .safetensors,",
    f"{INTERP} --model a.mp4": "a.mp4 is no file of weights",
    f"{INTERP} --workers nobody": "no workers called",
    f"{INTERP} --out-dir x -o y.mp4": "--output is for a single input",
    f"{INTERP} --out-dir x --report y": "--report is for a single input",
    f"{INTERP} --out-dir x -": "no file name",
    "interp '' --factor 2 --out-dir x": "is empty: type it again",
    "interp . --factor 2 --recursive": "give --out-dir too",
    f"{INTERP} b.xyz": "xyz",
    f"{INTERP} b.png": "for a sequence give frames/%05d.png",
    f"{INTERP} b": "b/%05d.png",
    f"{COMPARE} --metrics beauty": "no metric called 'beauty'",
    f"{COMPARE} --metrics ''": "--metrics is empty",
    f"{COMPARE} --metrics psrn": "did you mean psnr?",
    f"{COMPARE} --against cloud-best:batch=2": "can have scale of its own",
    f"{COMPARE} --against cloud-best:scale=9": "The scale 9 is not one of",
    f"{COMPARE} --against cloud-bets:scale=2": "did you mean cloud-best?",
    f"{COMPARE} --drop 1": "--drop must be a whole number from 2 to 64",
    f"{COMPARE} --drop 2 --horizon 2": "leave them out with --horizon",
    f"{COMPARE} --horizon 0": "--horizon must be",
    f"{COMPARE} --horizon 4 --frames 3": "less than one forecast",
    f"{COMPARE} --against cloud-best:things=off": "can have scale of its own",
    f"{COMPARE} --things off": "There is no option --things: see --help",
    f"{INTERP} b.mkv --fallback off": "There is no option --fallback: see --help",
    f"{COMPARE} --horizon 4 --scale 0.5": "leave them out with --horizon",
    f"{COMPARE} --horizon 4 --metrics vmaf": "every frame in order",
    f"{COMPARE} --horizon 2": "predict",
    f"{COMPARE} --frames 0": "--frames must be",
    f"{COMPARE} --scale 0.5": "None of the models blend has --scale",
    f"{COMPARE} -y": "give --report too",
    f"{COMPARE} b.mp4": "unexpected extra argument(s) (b.mp4): see --help.",
    f"{COMPARE} --output x.mp4": "There is no option --output",
    "compare a.mp4 --model linear": "interpolate",
    "dream a.mp4 --frames 9 --mode nightmare": "must be auto, collage",
    "dream a.mp4 --frames 3 --mode colage": "did you mean collage",
    "dream a.mp4 --frames 3 --wind north": "is not of the form dx,dy",
    "dream a.mp4 --frames 3 --seed -1": "--seed must be a whole number from 0",
    "dream a.mp4 --frames 3 --mode texture --model conv": "choose the mode rollout",
    "dream a.mp4 --frames 3 --wind 1,0 --model conv": "flow does not use --model",
    "extrapolate a.mp4 --frames 1 --seconds 1": "give one of them",
    "extrapolate a.mp4 --frames 1000000000": "from 1 to 10000",
    "extrapolate a.mp4 --seconds 100000": "use 'cloudconv dream'",
    "extrapolate a.mp4 --seconds 0": "above 0",
    "extrapolate a.mp4 --frames 1 --at 0": "above 0",
    "dream a.mp4 --frames 5 --mode flow --wind nan,nan": "wind",
    "extrapolate a.mp4 --frames 2 --model blend": "predict",
    "models nonsense": 'There is no model "nonsense": choose one of',
    "models cloud-fst": "did you mean cloud-fast?",
    "dream a.mp4 --duration 8": "no option --duration (did you mean --seconds?)",
    "models show rife4.6": "did you mean rife-4.6",
    f"{INTERP} --timesteps some": "any or middle",
    f"{INTERP} --timesteps middle": "only with the file of another network",
    "models show": "NAME",
    "train a.mp4": "There is no model to train",
    "train --model tiny": "name clips",
    "train a.mp4 --model nonsense": "There is no model",
    "train a.mp4 --model tiny --steps 0": "--steps must be a whole number from 1",
    "train a.mp4 --model tiny --steps 5 --minutes 1": "give one of them",
    "train a.mp4 --model tiny --interval 3-1": "'3-1' is not a whole number from 1 to 1000",
    "train a.mp4 --model tiny -o weights.pt": "safetensors",
}
"""Command lines with exit code 2, and a part of their messages."""

INPUT = {
    "interp missing.mp4 --factor 2": "missing.mp4",
    "compare nowhere.mp4": "nowhere.mp4",
    "compare a.mp4 --model blend --drop 9": "at least 10: give a longer video or part.",
    "train missing.mp4": "missing.mp4",
    "dream a.mp4 --frames 3 --at 9": "so it has no frame at 9 s: choose an earlier time",
}
"""Command lines with exit code 1."""

CASES = [(words, said, "usage", 2) for words, said in USAGE.items()]
CASES += [(words, said, "input", 1) for words, said in INPUT.items()]
CASES += [("models show a.pkl", "The weights file a.pkl is missing", "weights", 1)]
NO_FOLDER = (
    f"{INTERP} a.mp4/b.mp4",
    f"{INTERP} --out-dir a.mp4",
    f"{COMPARE} --report a.mp4",
)
CASES += [(words, "a.mp4 is not a folder", "output", 1) for words in NO_FOLDER]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    write_clip(home / "a.mp4", 5, rate=24, codec="libx264")
    return home


@pytest.mark.parametrize(("words", "said", "kind", "code"), CASES)
def test_a_mistake_is_one_sentence_and_with_json_one_object(
    folder, monkeypatch, words, said, kind, code
):
    monkeypatch.chdir(folder)
    plain, as_json = (
        CliRunner().invoke(app, words + more, prog_name="cloudconv")
        for more in ("", " --json")
    )
    assert (plain.exit_code, plain.stdout) == (code, "")
    (line,) = plain.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not any(word in line for word in ("`", "Traceback", "bug"))
    if not words.endswith("--output"):  # takes the next word as its value
        assert (as_json.exit_code, as_json.stderr) == (code, plain.stderr)
        expected = {"error": line.removeprefix("error: "), "kind": kind, "exit_code": code}
        failure = json.loads(as_json.stdout)
        assert re.fullmatch("[a-z0-9-]+", failure.pop("code"))
        assert failure == expected
    assert [file.name for file in folder.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("interp a.mp4 --factor 2 --factor 4", ["--factor is given 2 times", ": 4."]),
        ("compare a.mp4 --against hold --against blend", ["--against", ": blend."]),
        ("interp a.mp4 -q --factor 2 --encoder-option a=1 --encoder-option b=2", []),
    ],
)
def test_a_value_that_another_replaces_is_named(folder, monkeypatch, words, said):
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, f"{words} --dry-run", prog_name="cloudconv")
    assert "times" in done.stderr if said else "times" not in done.stderr
    assert all(text in done.stderr for text in said)


CODES = {
    "interp missing.mp4 --factor 2": "no-file",
    f"{INTERP} --device gpu": "unknown-device",
    f"{INTERP} --wind 1": "no-such-option",
    f"{INTERP} --output": "bad-option-usage",
    f"{INTERP} a.mp4": "output-is-input",
    "interp a.mp4 b.mp4 --factor four": "not-a-number",
    "interp a.mp4 b.mp4 --speed 1=0": "not-a-number",
}


@pytest.mark.parametrize(("words", "code"), CODES.items())
def test_the_object_of_an_error_has_its_code(folder, monkeypatch, words, code):
    monkeypatch.chdir(folder)
    command, *rest = words.split()
    failure = json.loads(CliRunner().invoke(app, [command, "--json", *rest]).stdout)
    assert failure["code"] == code


def test_an_output_that_exists_keeps_its_code_if_it_is_the_second_word(folder, tmp_path):
    (tmp_path / "b.mkv").touch()
    words = str(folder / "a.mp4"), str(tmp_path / "b.mkv")
    done = CliRunner().invoke(app, ["interp", "--json", *words, "--factor", "2"])
    failure = json.loads(done.stdout)
    assert failure["code"] == "output-exists"
    assert "give --out-dir" in failure["error"]


FROM_WORDS = """
import sys
from typer.testing import CliRunner
from cloudconv.cli.app import app
for words, said in [
    ("interp a.mp4 out.xyz --factor 2", "names no format"),
    ("interp a.mp4 out.png --factor 2", "for a sequence give"),
    ("interp a.mp4 --factor 2 --model nope", "no model"),
    ("interp a.mp4 --factor 2 --model voxelflow", "is needed"),
    ("interp a.mp4 --factor 2 --model nope --out-dir x", "no model"),
    ("dream a.mp4 o.xyz", "names no format"),
    ("dream a.mp4 --model nope", "no model"),
    ("extrapolate a.mp4 --model nope", "no model"),
    ("compare a.mp4 --against cloud-bets", "did you mean cloud-best"),
    ("train a.mp4 --model nope", "no model"),
    ("interp missing.mp4 --factor 2", "no file"),
]:
    done = CliRunner().invoke(app, words)
    assert done.exit_code in (1, 2), words
    assert said in done.stderr, (words, done.stderr)
    assert not {"torch", "av"} & sys.modules.keys(), words
"""


@pytest.mark.full
def test_what_the_words_show_is_refused_before_large_libraries_are_loaded(folder):
    subprocess.run([sys.executable, "-c", FROM_WORDS], cwd=folder, check=True)


def test_a_video_and_json_cannot_share_standard_output(folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, f"{INTERP} -o - --json")
    assert done.exit_code == 2
    assert "the video cannot: name an output file" in json.loads(done.stdout)["error"]
