"""The order in which packages import each other, and rules for the whole package."""

import ast
import re
from collections import Counter, defaultdict
from functools import cache
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from itertools import chain
from pathlib import Path
from types import FunctionType

from cloudconv import api, errors, settings

ROOT = Path(__file__).resolve().parents[1] / "cloudconv"
ORDER = [
    *("host", "messages", "errors", "files", "timemap", "fastobjects", "timeline"),
    *("interrupts", "events", "pipeline", "transfer"),
    *("settings", "foreign", "checkpoints", "weights", "metrics"),
    *("media", "images", "forecasting", "models"),
    *("doubts", "render", "schedule", "dreaming", "training"),
    *("report", "jobs", "api", "cli", "__main__"),
]
"""Each package or module may import only those before it in this list."""
MEDIA = ["frames", "colour", "containers", "reading", "sound", "carried", "writing"]
"""Each room of media may import only those before it in this list."""
ONLY = {"av": {"media"}, "typer": {"cli"}, "rich": {"cli"}, "ray": {"jobs"}}
"""Each library with the packages that may import it."""
SHARED_MODULES = {"plan", "run", "base", "rife", "compare", "train", "extend", "interp"}
"""The names that modules of several packages may have."""
MAKERS = {name for name in dir(errors) if name.endswith("Error")} | {"Warned"}
COMMAND_LINE_ONLY = {"add", "all", "name", "json", "quiet", "verbose"}
"""Options that only the command line has."""

THE_REST = "all the rest"
CEILINGS = {
    "media": 5333,
    "jobs": 3235,
    "models": 2592,
    "dreaming": 2034,
    "forecasting": 261,
    "render": 843,
    "training": 662,
    "schedule": 1012,
    "settings + cli + report": 1676,
    THE_REST: 1598,
}
"""The most statements of each room; they only fall, see CONTRIBUTING."""
SLACK = 25
"""A room with so many statements less lowers its ceiling in the same commit."""
DENSE = {
    "conditional expressions": 783,
    "tuple assignments": 77,
    "lambdas": 70,
    "assignments inside expressions": 65,
    "comprehensions of two loops": 15,
    "lines of over 92 characters": 0,
}
"""The most of what packs several steps into a statement; these only fall, too."""
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def _module(file):
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _tree(file):
    return ast.parse(file.read_text("utf-8"))


def _imports(file):
    package = ".".join(file.relative_to(ROOT.parent).parent.parts)
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            written = "." * node.level + (node.module or "")
            source = resolve_name(written, package)
            yield from (f"{source}.{alias.name}" for alias in node.names)


FILES = {_module(file): file for file in ROOT.rglob("*.py")}
assert {"cloudconv.api", "cloudconv.media.writing.sink"} <= FILES.keys()


@cache
def _all_imports():
    return {name: list(_imports(file)) for name, file in FILES.items()}


def _package(module):
    return module.split(".")[1]


def test_packages_import_only_those_before_them():
    for name, imported in _all_imports().items():
        if name == "cloudconv":
            continue
        for target in imported:
            if not target.startswith("cloudconv.") or target == "cloudconv.__version__":
                continue
            assert ORDER.index(_package(target)) <= ORDER.index(_package(name)), (
                f"{name}: {target}"
            )


def test_rooms_of_media_import_only_those_before_them():
    pairs = 0
    for name, imported in _all_imports().items():
        if not name.startswith("cloudconv.media."):
            continue
        for target in imported:
            if target.startswith("cloudconv.media."):
                room, used = name.split(".")[2], target.split(".")[2]
                assert MEDIA.index(used) <= MEDIA.index(room), f"{name}: {target}"
                pairs += 1
    assert pairs > 100


def _definitions(kind):
    """Return the modules that define each public name of one kind, by name."""
    result = defaultdict(set)
    for module, file in FILES.items():
        for node in _tree(file).body:
            if isinstance(node, kind) and not node.name.startswith("_"):
                result[node.name].add(module)
    return result


def test_a_public_class_has_its_name_alone_and_a_function_in_three_modules_at_most():
    """Commands have ``run``, ``decide``, ``foresee``; a published family has ``detect``."""
    classes, functions = map(_definitions, (ast.ClassDef, ast.FunctionDef))
    assert {name for name, where in classes.items() if len(where) > 1} == set()
    many = {name for name, where in functions.items() if len(where) > 3}
    assert many == {"run", "decide", "detect", "foresee"}


def test_no_two_modules_have_the_same_name():
    """A command has its own name in ``jobs`` and ``settings``.

    RIFE in two packages of models.
    """
    modules = [name for name, file in FILES.items() if file.name != "__init__.py"]
    counts = Counter(name.rpartition(".")[2] for name in modules)
    assert {name for name, count in counts.items() if count > 1} <= SHARED_MODULES


def test_no_module_at_the_top_has_the_name_of_a_public_function():
    """``cloudconv.compare`` stays a function after the import of any module."""
    functions = {
        name for name in api.__all__ if isinstance(getattr(api, name), FunctionType)
    }
    assert {"compare", "train", "interpolate"} < functions
    assert not functions & {name.split(".")[1] for name in FILES if "." in name}


def test_modules_have_no_circular_imports():
    """Imports inside functions and imports for types count, too."""
    graph = {}
    for name, imported in _all_imports().items():
        modules = {
            t if t in FILES else t.rpartition(".")[0] for t in imported
        } & FILES.keys()
        graph[name] = modules - {"cloudconv"} if name != "cloudconv" else set()
    TopologicalSorter(graph).prepare()  # raises a CycleError that names a circle


def test_only_the_listed_packages_import_a_library():
    for name, imported in _all_imports().items():
        for library, packages in ONLY.items():
            used = any(target.split(".")[0] == library for target in imported)
            assert not used or _package(name) in packages, f"{name} imports {library}"


@cache
def _messages():
    """Return (module, code of the text) of every message that the code raises or warns."""
    result = []
    for name, file in FILES.items():
        for call in ast.walk(_tree(file)):
            if isinstance(call, ast.Call) and call.args:
                maker = getattr(call.func, "attr", getattr(call.func, "id", ""))
                if maker in MAKERS and isinstance(
                    call.args[0], ast.Constant | ast.JoinedStr
                ):
                    result.append((name, ast.unparse(call.args[0])))
    return result


def test_every_message_begins_with_its_code():
    assert len(_messages()) > 250
    for name, text in _messages():
        assert re.match(r"f?['\"]+([a-z0-9-]|\{[^}]*\})+: [^ ]", text), f"{name}: {text}"
        assert "`" not in text, f"{name}: {text}"


def test_every_option_in_a_message_exists():
    kinds = [
        getattr(settings, name) for name in settings.__all__ if name.endswith("Settings")
    ]
    kinds = [kind for kind in kinds if issubclass(kind, settings.Settings)]
    names = {
        each.name for kind in kinds for each in settings.fields_of(kind)
    } | COMMAND_LINE_ONLY
    for name, text in _messages():
        for option in re.findall(
            r"--(?:no-)?([a-zA-Z-]+)", text.replace("ray start --head", "")
        ):
            assert option.replace("-", "_") in names, f"{name}: {text}"


@cache
def _nodes():
    return {name: list(ast.walk(_tree(file))) for name, file in FILES.items()}


def test_every_thread_has_a_name_in_dumps_of_stacks():
    calls = [
        (module, node)
        for module, nodes in _nodes().items()
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "threading.Thread"
    ]
    assert len(calls) > 2
    for module, call in calls:
        assert "name" in [keyword.arg for keyword in call.keywords], module


def _room(module):
    part = module.partition(".")[2].partition(".")[0]
    return next((room for room in CEILINGS if part in room.split(" + ")), THE_REST)


def _is_statement(node):
    """Return whether a node counts: docstrings and imports do not."""
    if not isinstance(node, ast.stmt) or isinstance(node, ast.Import | ast.ImportFrom):
        return False
    return not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def test_each_room_stays_below_its_ceiling_and_a_lower_room_lowers_it():
    counts = Counter({room: 0 for room in CEILINGS})
    for name, nodes in _nodes().items():
        counts[_room(name)] += sum(map(_is_statement, nodes))
    for room, count in counts.items():
        assert count <= CEILINGS[room], (
            f"{room} has {count} statements, and its ceiling is {CEILINGS[room]}. Who adds "
            "a mechanism names the one that it replaces: take as many statements out."
        )
        assert count > CEILINGS[room] - SLACK, (
            f"{room} has {count} statements: lower its ceiling from {CEILINGS[room]} to "
            f"{count} in the same commit. Who adds a mechanism names the one that it "
            "replaces."
        )


def _is_nested(node):
    if not isinstance(node, COMPREHENSIONS):
        return False
    inner = any(isinstance(x, COMPREHENSIONS) for x in ast.walk(node) if x is not node)
    return inner or len(node.generators) > 1


def _assigns_tuples(node):
    if not isinstance(node, ast.Assign):
        return False
    return isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


def test_statements_do_not_become_denser():
    nodes = [*chain.from_iterable(_nodes().values())]
    counts = {
        "conditional expressions": sum(isinstance(n, ast.IfExp) for n in nodes),
        "tuple assignments": sum(map(_assigns_tuples, nodes)),
        "lambdas": sum(isinstance(n, ast.Lambda) for n in nodes),
        "assignments inside expressions": sum(isinstance(n, ast.NamedExpr) for n in nodes),
        "comprehensions of two loops": sum(map(_is_nested, nodes)),
        "lines of over 92 characters": sum(
            len(line) > 92
            for file in FILES.values()
            for line in file.read_text("utf-8").splitlines()
        ),
    }
    assert counts.keys() == DENSE.keys()
    for kind, count in counts.items():
        assert count <= DENSE[kind], (
            f"The package has {count} {kind}, and {DENSE[kind]} at most are allowed: write "
            "plain statements. Who adds a mechanism names the one that it replaces."
        )
