"""Options, commands, tests, files, numbers and pictures of the documents are correct."""

import ast
import csv
import importlib.util
import inspect
import json
import re
import shlex
import sys
import threading
import tomllib
import traceback
from dataclasses import fields
from functools import cache
from operator import attrgetter
from pathlib import Path
from statistics import median

import av
import pytest
from typer.main import get_command

from cloudconv.cli.app import app
from cloudconv.jobs.compare.plan import CompareResult
from cloudconv.jobs.doctor import FACTS, Diagnosis
from cloudconv.jobs.extend.dream import DreamResult
from cloudconv.jobs.extend.extrapolate import ExtrapolateResult
from cloudconv.jobs.extend.plan import ExtendResult
from cloudconv.jobs.interp import run
from cloudconv.jobs.interp.result import InterpResult
from cloudconv.jobs.train.plan import TrainResult
from cloudconv.jobs.video import VideoResult
from cloudconv.media.containers.containers import CONTAINERS
from cloudconv.media.frames.frame import Frame
from cloudconv.models import registry
from cloudconv.schedule.tasks import AnalysedFrame
from cloudconv.settings import InterpSettings
from cloudconv.timeline import Task
from tests.helpers import calls
from tests.helpers.factory import write_clip
from tests.helpers.system import finished, script
from tests.helpers.tiers import needs_ray

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {"interp", "extrapolate", "dream", "compare", "train", "models", "doctor"}


def examples(document):
    return re.findall(r"```python\n(.*?)```", document.read_text("utf-8"), re.DOTALL)


def load(path):
    """Return a script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    sys.modules[path.stem] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_options_agree_with_the_help():
    make_options = load(ROOT / "docs" / "make_options.py")
    result = set()
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        result |= {command for _, command, _ in make_options.PLACE.findall(text)}
        anew = make_options.renewed(text)
        assert text == anew, (
            f"{document.name} is out of date: run python docs/make_options.py"
        )
    assert result == COMMANDS


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (VideoResult, None),
        (InterpResult, VideoResult),
        (ExtendResult, VideoResult),
        (ExtrapolateResult, ExtendResult),
        (DreamResult, ExtendResult),
        (CompareResult, None),
        (TrainResult, None),
    ],
    ids=lambda kind: kind and kind.__name__,
)
def test_the_keys_of_the_json_are_those_of_the_results(kind, base):
    inherited = {field.name for field in fields(base)} if base else set()
    keys = {field.name for field in fields(kind)} - inherited
    assert sorted(_documented_keys(kind)) == sorted(keys)


def test_the_keys_of_a_diagnosis_are_those_of_its_facts():
    keys = [*FACTS, "problems", "checks"]
    assert sorted(_documented_keys(Diagnosis)) == sorted(keys)


def _documented_keys(kind):
    text = (ROOT / "docs" / "json.md").read_text("utf-8")
    table = text.split(f"<!-- keys of {kind.__name__} -->")[1].split("<!-- end -->")[0]
    first_cells = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    return re.findall("`([a-z_]+)`", " ".join(first_cells))


@pytest.mark.parametrize(
    "document",
    [
        # Every function of the API takes more than a second.
        pytest.param(path, marks=[pytest.mark.full] * (path.name == "python.md"))
        for path in DOCUMENTS
        if examples(path)
    ],
    ids=lambda path: path.name,
)
def test_the_examples_in_python_run(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in.mp4", "clouds.mp4", "clips/one.mp4", "examples/clouds.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        frames = 18 if name == "in.mp4" else 12  # a training needs 18
        write_clip(name, frames, codec="libx264", size=(32, 32))
    namespace = {}
    for example in examples(document):
        exec(compile(example, document.name, "exec"), namespace)


def test_every_command_in_the_docs_is_valid():
    """The command, the script and each option exist, in blocks, sentences and tables."""
    commands = get_command(app)
    pages = [
        page.read_text("utf-8") for page in [*DOCUMENTS, *(ROOT / "docs").glob("*/*.md")]
    ]
    text = "\n".join(pages)
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = re.findall(
        r"^(?:cat .*\| )?(cloudconv .*?)(?: [|>] .*)?$", blocks, re.MULTILINE
    )
    assert len(lines) > 30
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    spans += re.findall(r"^ {4}(.*)$", text, re.MULTILINE)
    count = 0
    for words in [span.split() for span in spans] + [
        shlex.split(x, comments=True) for x in lines
    ]:
        words = words[words[:1] == ["python"] :]
        if words[:1] == ["cloudconv"]:
            words = words[1:]
        if len(words) > 1 and words[0] in COMMANDS:
            command = commands.commands[words[0]]
            missing = (
                [] if words[0] in ("models", "doctor") or words[1][0] != "-" else ["IN"]
            )
            command.make_context(words[0], missing + words[1:])
        elif len(words) > 0 and re.fullmatch(
            r"(benchmarks|weights|examples)/\w+\.py", words[0]
        ):
            source = (ROOT / words[0]).read_text("utf-8")
            own = words[: words.index("--")] if "--" in words else words
            for option in (word for word in own if word.startswith("--")):
                assert f'"{option}"' in source, f"{words[0]} has no {option}"
        else:
            continue
        count += 1
    assert count > 50


def test_stated_times_agree_with_the_table():
    """A model's time is the median over all sizes in the table of whole commands."""
    text = (ROOT / "docs" / "measurements" / "interpolation.md").read_text("utf-8")
    names, *rows = re.findall(
        r"^\| (?:size, factor|\d+\W\d+ \W\d) \|.*$", text, re.MULTILINE
    )
    columns = [cell.strip(" `") for cell in names.split("|")[2:-1]]
    seconds = [
        dict(zip(columns, map(float, re.findall(r"\| ([\d.]+)[ ,]", row)), strict=True))
        for row in rows
    ]
    options = (ROOT / "docs" / "interp.md").read_text("utf-8")
    assert len(seconds) > 5
    for name in ("cloud-fast", "cloud-turbo", "rife-4.6"):
        share = median(row[name] / row["cloud-best"] for row in seconds)
        assert registry.spec(name).time == round(share, 1)
        if name.startswith("cloud"):
            assert re.search(rf"{name} \({share:.1f}", options)


@pytest.mark.full
@pytest.mark.parametrize(
    "command",
    [
        "benchmarks/whole.py --size 64x64 --frames 8 --models blend",
        "benchmarks/kinds.py --drawn panel-12 --frames 3 --size 96x64 --without marks",
        "benchmarks/speed.py --sizes 64x64 --models cloud-turbo --rounds 1",
        "-m benchmarks.convolutions --models cloud-turbo --size 64x64",
        "-m benchmarks.published rife_4_6 --equality",
        pytest.param("benchmarks/workers.py 20", marks=needs_ray),
    ],
    ids=["whole", "kinds", "speed", "convolutions", "published", "workers"],
)
def test_the_benchmarks_that_need_no_clip_run(command):
    done = finished(script, ROOT, *command.split())
    assert done.returncode == 0, done.stderr


def test_every_clip_that_a_list_names_has_an_origin():
    measurements = ROOT / "docs" / "measurements"
    with (measurements / "clips.csv").open(encoding="utf-8", newline="") as file:
        origins = {row["name"]: row["source"] for row in csv.DictReader(file)}
    assert all(re.match(r"[\w.-]+/[\w.-]+:.", source) for source in origins.values())
    names = {
        entry["clip"].removesuffix(", first frame")
        for path in measurements.glob("*.json")
        for entry in json.loads(path.read_text("utf-8"))
    }
    for path in (ROOT / "benchmarks").glob("*.txt"):
        names |= set(re.findall(r"\t(.+)", path.read_text("utf-8")))
    assert names - origins.keys() == set()


@cache
def message_parts():
    """Return the literal parts of all texts of the package, the longest first."""
    parts = set()
    for file in (ROOT / "cloudconv").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts.add(re.sub(r"^[a-z0-9-]+: ", "", " ".join(node.value.split())))
    return sorted((part for part in parts if len(part) > 3), key=len, reverse=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=attrgetter("name"))
def test_every_message_that_a_document_quotes_exists(document):
    """All but numbers and names of a quoted sentence are parts of the package's texts."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", document.read_text("utf-8"), flags=re.DOTALL)
    parts = message_parts()
    quotes = [" ".join(quote.split()) for quote in re.findall(r'"([^"]+)"', prose)]
    for said in (quote for quote in quotes if quote.count(" ") > 2):
        rest = said
        for part in parts:
            rest = rest.replace(part, "|")
        left = sum(map(str.isalpha, rest))
        assert left <= 0.15 * sum(map(str.isalpha, said)), said


def test_every_test_of_a_guarantee_exists():
    text = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+))?`", text)
    assert len(named) > 20
    for file, test in named:
        source = (ROOT / "tests" / file).read_text("utf-8")
        assert f"def {test}(" in source or not test, f"{file} has no {test}"


@pytest.mark.parametrize(
    "walk",
    [
        "frame of `interp`",
        "audio packet",
        pytest.param("frame of `dream`", marks=pytest.mark.full),
    ],
)
def test_a_run_calls_every_function_of_a_walk(tmp_path, walk):
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    section = text.split(f"Walk with one {walk}")[1].split("Walk with one")[0]
    table = section.split("\n\n")[1]
    steps = re.findall(r"^\| `(\w+/[\w/]+\.py)` \| `(\w+)` \|", table, re.MULTILINE)
    assert len(steps) == table.count("\n") - 1
    assert len(steps) <= 12
    stacks = [
        (thread, re.findall(r"(\S+\.py) (\w+)", rows))
        for thread, rows in re.findall(r"^thread (\S+)\n((?:  .*\n)+)", section, re.M)
    ]
    assert all(len(rows) <= 30 for _, rows in stacks)
    leaves = {rows[-1] for _, rows in stacks}
    called, found = set(), []

    def note(frame, event, _):
        place = place_of(frame)
        if event != "call" or place is None:
            return
        called.add(place)
        if place in leaves:
            outer = [place_of(each) for each, _ in traceback.walk_stack(frame)]
            name = threading.current_thread().name.removesuffix("_0")
            found.append((name, [each for each in reversed(outer) if each]))

    clip = write_clip(tmp_path / "a.mkv", 8, size=(48, 32), audio=["flac"])
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        if "dream" in walk:
            calls.dream(clip, tmp_path / "b.mkv", frames=3, mode="collage")
        else:
            calls.interpolate(clip, tmp_path / "b.mkv", factor=2, model="tiny", threads=1)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert {*steps} <= called
    assert [stack for stack in stacks if stack not in found] == []
    assert len(stacks) == (0 if walk == "audio packet" else 3)


def place_of(frame):
    """Return the file and the function of a frame of the stack, None for helpers."""
    file, name = frame.f_code.co_filename, frame.f_code.co_name
    package = f"{ROOT / 'cloudconv'}/"
    if not file.startswith(package) or name.startswith("<"):
        return None
    return file.removeprefix(package), name


def test_a_frame_passes_at_most_15_generators(tmp_path):
    """Each yields the frame, or its packet, picture or task, from the file to the sink."""
    kinds = av.Packet, av.VideoFrame, Frame, AnalysedFrame, Task
    passed = set()

    def note(frame, event, value):
        code = frame.f_code
        if event != "return" or not code.co_flags & inspect.CO_GENERATOR:
            return
        parts = value if isinstance(value, tuple) else (value,)
        is_helper = code.co_name == "<genexpr>"
        if not is_helper and any(isinstance(part, kinds) for part in parts):
            passed.add((threading.get_ident(), code))

    clip = write_clip(tmp_path / "a.mkv", 24, size=(48, 32))
    options = {"model": "tiny", "threads": 1, "device": "cpu"}
    plan = run.decide(InterpSettings(clip, tmp_path / "b.mkv", factor=2, **options))
    with run.start(plan.workers) as workers:
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            list(run.interpolate(plan, workers))
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    names = sorted(code.co_qualname for _, code in passed)
    assert "read_packets" in names
    assert names.count("_prefetch") == 2
    assert 10 < len(names) <= 15, names


def test_the_page_of_files_names_every_container():
    text = (ROOT / "docs" / "files.md").read_text("utf-8")
    outputs = text.split("## Output")[1].split("## ")[0]
    assert CONTAINERS.keys() <= {*re.findall(r"\.\w+", outputs)}


def test_every_name_in_the_instructions_for_contributors_exists():
    """A name beside a file is defined in that file, and any other in the repository."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    name, file = r"`(?:\w+\.)?(\w+)`", r"`([\w/]+\.py)`"
    placed = [
        *re.findall(rf"{name} (?:in|of) {file}", prose),
        *re.findall(rf"{name} \({file}\)", prose),
    ]
    assert len(placed) > 20
    for word, path in placed:
        module = ROOT / "cloudconv" / path
        source = (module if module.exists() else ROOT / path).read_text("utf-8")
        is_defined = re.search(
            rf"\b(?:def|class) {word}\b|^ *{word}(?:: |.* = )", source, re.MULTILINE
        )
        assert is_defined, f"{path} defines no {word}"
    known = pytest_marks() | COMMANDS | {"ruff", "vX", "Y", "Z", *dict(placed)}
    for module in (ROOT / "cloudconv").rglob("*.py"):
        known.update(re.findall(r"\w+", module.read_text("utf-8")))
    for dotted in re.findall(r"`(\w+(?:\.(?!py|md|json|toml)\w+)*)`", prose):
        assert {*dotted.split(".")} <= known, dotted


def pytest_marks():
    about = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    marks = about["tool"]["pytest"]["ini_options"]["markers"]
    return {mark.partition(":")[0] for mark in marks}


def test_every_file_that_a_document_names_or_links_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`((?:\w+/)*[\w.]+\.(?:py|md|json))`", text))
    assert len(named) > 30
    for file in named:
        assert (ROOT / file).exists() or (ROOT / "cloudconv" / file).exists(), file
    documents = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
    count = 0
    for document in documents:
        text = document.read_text("utf-8")
        for target, heading in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", text):
            linked = document.parent / target if target else document
            assert linked.exists(), f"{document.name} links {target}"
            if heading:
                assert heading in anchors(linked), f"{document.name} links #{heading}"
            count += 1
    assert count >= len(documents)


def anchors(document):
    """Return the names under which GitHub links the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.fixture(scope="module")
def record():
    return load(EXAMPLES / "record.py")


def test_every_picture_has_a_record_that_agrees_with_it_and_the_weights(record):
    shown = [
        (document.parent / target).resolve()
        for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", document.read_text("utf-8"))
    ]
    recorded = record.read()
    assert "showcase.webp" in recorded
    names = [
        path.relative_to(EXAMPLES).as_posix() for path in shown if EXAMPLES in path.parents
    ]
    assert {*names} == {*recorded}
    for name, known in recorded.items():
        now = record.record(EXAMPLES / name, known["commands"], known["weights"])
        assert known == now, (
            f"{name} is out of date: make it again with its script in examples/"
        )


def test_recorded_commands_agree_with_the_scripts_and_the_readme(record):
    showcase, gallery = (
        load(EXAMPLES / f"make_{name}.py") for name in ("showcase", "gallery")
    )
    commands = {name: known["commands"] for name, known in record.read().items()}
    shown = commands.pop("showcase.webp")
    assert shown == [row.command for row in showcase.ROWS] != []
    assert commands == {
        f"gallery/{name}.jpg": [gallery.command(name)] for name in gallery.SHEETS
    }
    readme = (ROOT / "README.md").read_text("utf-8")
    for command in shown:
        assert f"`{command.partition(' --start')[0]}`" in readme
