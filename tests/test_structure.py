"""The order in which packages import each other, and rules for the whole package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from string import Formatter

from cloudconv import errors, settings
from cloudconv.messages import fields_of
from cloudconv.messages.texts import CATALOGUE, TEXTS

ROOT = Path(__file__).resolve().parents[1] / "cloudconv"
ORDER = [
    *("host", "messages", "errors", "events", "files", "timeline", "settings", "pipeline"),
    *("transfer", "media", "foreign", "checkpoints", "weights"),
    *("metrics", "forecasting", "models", "render"),
    *("schedule", "dreaming", "training", "segments", "workers", "report", "jobs", "api", "cli"),
    "__main__",
]
"""Each package or module may import only those before it in this list."""
ONLY = {"av": {"media"}, "typer": {"cli"}, "rich": {"cli"}, "ray": {"workers"}}
"""Each library with the packages that may import it."""
ERRORS = {name for name in dir(errors) if name.endswith("Error")} | {"Interrupted"}
COMMAND_LINE_ONLY = {"add", "all", "name", "json", "quiet", "verbose"}
"""Options that only the command line has."""


def _module(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(file: Path) -> Iterator[str]:
    package = ".".join(file.relative_to(ROOT.parent).parent.parts)
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            written = "." * node.level + (node.module or "")
            source = resolve_name(written, package)
            yield from (f"{source}.{alias.name}" for alias in node.names)


FILES = {_module(file): file for file in ROOT.rglob("*.py")}
assert {"cloudconv.api", "cloudconv.media.write.containers.gif"} <= FILES.keys()


@cache
def _all_imports() -> dict[str, list[str]]:
    return {name: list(_imports(file)) for name, file in FILES.items()}


def _package(module: str) -> str:
    return module.split(".")[1]


def test_packages_import_only_those_before_them() -> None:
    for name, imported in _all_imports().items():
        if name == "cloudconv":
            continue
        for target in imported:
            if not target.startswith("cloudconv.") or target == "cloudconv.__version__":
                continue
            assert ORDER.index(_package(target)) <= ORDER.index(_package(name)), f"{name}: {target}"


def test_jobs_report_by_events_only() -> None:
    """No parameter or attribute is a callback named ``on_…``."""
    for name, file in FILES.items():
        if name.split(".")[1:2] not in (["jobs"], ["training"], ["segments"], ["workers"]):
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            for field in ("arg", "attr"):
                assert not str(getattr(node, field, "")).startswith("on_"), f"{name}: {field}"


PARTS = {
    "forecasting": ["camera", "regions", "plate", "sampling", "splat", "scene", "choice"],
    "dreaming": ["pictures", "material", "vitals", "methods", "trial", "select"],
    "media": [
        *("linear", "formats", "frame", "color", "task", "convert", "log", "filters"),
        *("fields", "matroska", "webp", "input", "turn", "vmaf", "carry", "read", "write", "build"),
    ],
    "media.write": [
        *("encoder_options", "names", "hdr", "encode", "containers", "encoders", "target"),
        *("packets", "encoding", "sink", "join"),
    ],
}
"""The parts of packages, in order: each may import those before it."""
APART = [("media.write", "media.read")]
"""Pairs of packages: the first may not import the second, although PARTS would allow that."""
CIRCULAR: set[str] = set()
"""Packages whose parts still import each other."""


def _within(package: str) -> Iterator[tuple[str, str]]:
    """Yield (part, imported part) for all imports within a package."""
    start = f"cloudconv.{package}."
    for name, imported in _all_imports().items():
        for target in imported:
            if name.startswith(start) and target.startswith(start):
                part, other = (each[len(start) :].split(".")[0] for each in (name, target))
                if part != other:
                    yield part, other


def test_parts_of_a_package_import_only_those_before_them() -> None:
    for package, parts in PARTS.items():
        imported = list(_within(package))
        assert imported
        for part, other in imported:
            assert parts.index(other) < parts.index(part), f"{package}.{part}: {other}"
    for name, other in APART:
        for module, imported in _all_imports().items():
            if module.startswith(f"cloudconv.{name}."):
                assert not any(each.startswith(f"cloudconv.{other}.") for each in imported), module


def test_parts_of_a_package_have_no_circular_imports() -> None:
    packages = {file.parent.relative_to(ROOT) for file in FILES.values()} - {Path()}
    for package in sorted(".".join(path.parts) for path in packages):
        graph: dict[str, set[str]] = {}
        for part, other in _within(package):
            graph.setdefault(part, set()).add(other)
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            assert package in CIRCULAR, f"{package}: {', '.join(error.args[1])}"  # noqa: PT017
        else:
            assert package not in CIRCULAR, f"{package} has no circle: remove it from CIRCULAR"


def test_modules_have_no_circular_imports() -> None:
    """Imports inside functions and imports for types count, too."""
    graph: dict[str, set[str]] = {}
    for name, imported in _all_imports().items():
        modules = {t if t in FILES else t.rpartition(".")[0] for t in imported} & FILES.keys()
        graph[name] = modules - {"cloudconv"} if name != "cloudconv" else set()
    TopologicalSorter(graph).prepare()  # raises a CycleError that names a circle


def test_no_code_compares_the_name_of_a_muxer() -> None:
    """Special cases of a container are in its file in ``media/write/containers``."""
    for name, file in FILES.items():
        compared = re.search(r"\bmuxer (==|!=|in|not in) ", file.read_text("utf-8"))
        assert compared is None, f"{name}: {compared}"


def test_only_the_listed_packages_import_a_library() -> None:
    for name, imported in _all_imports().items():
        for library, packages in ONLY.items():
            used = any(target.split(".")[0] == library for target in imported)
            assert not used or _package(name) in packages, f"{name} imports {library}"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _private(file: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of each private name of the package that a test file uses."""
    modules: dict[str, str] = {}
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cloudconv"):
            for alias in node.names:
                if _is_private(alias.name):
                    yield str(node.module), alias.name
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (name := node.value.id) in modules and _is_private(node.attr):
                yield modules[name], node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            target, name = (ast.unparse(argument).strip("'") for argument in node.args[:2])
            if target.startswith("cloudconv."):
                target, _, name = target.rpartition(".")
            if _is_private(name):
                yield modules.get(target, target), name


def test_only_the_tests_of_a_module_use_its_private_names() -> None:
    files = Path(__file__).parent.rglob("*.py")
    used = [(file, *each) for file in files for each in _private(file)]
    assert used
    for file, module, name in used:
        assert file.stem == f"test_{module.rpartition('.')[2]}", f"{file}: {module}.{name}"


class _Messages:
    """The messages that a file makes: their codes, with the names of their parameters.

    A code or a dict of parameters may be the value of a variable, the result of a function of the
    file, or a parameter of a function that passes it on.
    """

    def __init__(self, file: Path) -> None:
        self._tree = ast.parse(file.read_text("utf-8"))
        nodes = [*ast.walk(self._tree)]
        self._functions = {n.name: n for n in nodes if isinstance(n, ast.FunctionDef)}
        self._calls = [n for n in nodes if isinstance(n, ast.Call)]
        self._inside: dict[ast.AST, ast.FunctionDef] = {}
        for function in self._functions.values():  # the inner function comes last
            self._inside |= dict.fromkeys(ast.walk(function), function)

    def __iter__(self) -> Iterator[tuple[str, set[str], bool]]:
        """Yield each code, its given parameters, and whether exactly these must be in the text."""
        for call in self._calls:
            maker = call.func.func if isinstance(call.func, ast.Call) else call.func
            name = getattr(maker, "attr", getattr(maker, "id", ""))
            made = name in ERRORS - {"Interrupted"} | {"Warned", "Message"}
            if not call.args or not (
                made or (name in ("type", "kind", "__init__") and call.keywords)
            ):
                continue
            code, parameters = call.args[0], set[str]()
            if name == "Warned" and len(call.args) > 1:
                parameters = self._keys(call.args[1], call)
            elif name != "Warned":
                parameters = {keyword.arg or "**" for keyword in call.keywords}
            outer = self._inside.get(call)
            names = [each.arg for each in outer.args.args] if outer is not None else []
            if outer is not None and isinstance(code, ast.Name) and code.id in names:
                for passing in self._calls:
                    if getattr(passing.func, "attr", getattr(passing.func, "id", "")) != outer.name:
                        continue
                    more = {str(keyword.arg) for keyword in passing.keywords}
                    at = names.index(code.id) - (names[0] == "self")
                    for each in self._texts(passing.args[at], passing):
                        yield (
                            each,
                            parameters - {"**"} | (more if "**" in parameters else set()),
                            True,
                        )
                continue
            codes = self._texts(code, call)
            for each in codes:
                yield each, parameters, len(codes) == 1

    def _values(self, name: str, at: ast.AST) -> list[ast.expr]:
        """Return the values that a variable of the function around ``at`` gets."""
        found: list[ast.expr] = []
        for node in ast.walk(self._inside[at]):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id == name:
                        found.append(node.value)
        assert found, f"{name}, line {getattr(at, 'lineno', 0)}"
        return found

    def _texts(self, code: ast.expr, at: ast.AST) -> list[str]:
        if isinstance(code, ast.Constant):
            return [code.value]
        if isinstance(code, ast.IfExp):
            return self._texts(code.body, at) + self._texts(code.orelse, at)
        if isinstance(code, ast.Name):
            return [text for value in self._values(code.id, at) for text in self._texts(value, at)]
        assert isinstance(code, ast.Call), ast.unparse(code)
        function = self._functions[getattr(code.func, "id", "")]
        returned = [n.value for n in ast.walk(function) if isinstance(n, ast.Return)]
        return [text for value in returned if value for text in self._texts(value, at)]

    def _keys(self, given: ast.expr, at: ast.AST) -> set[str]:
        if isinstance(given, ast.Name):
            outer = self._inside.get(at)
            if outer is not None and outer.args.kwarg and outer.args.kwarg.arg == given.id:
                return {"**"}
            return self._keys(self._values(given.id, at)[-1], at)
        if isinstance(given, ast.BinOp):
            return self._keys(given.left, at) | self._keys(given.right, at)
        assert isinstance(given, ast.Dict), ast.unparse(given)
        keys = set[str]()
        for key, value in zip(given.keys, given.values, strict=True):
            keys |= self._keys(value, at) if key is None else {ast.literal_eval(key)}
        return keys


def test_every_message_has_a_text_and_its_parameters() -> None:
    used = set()
    for name, file in FILES.items():
        for code, given, exact in _Messages(file):
            assert code in TEXTS, f"{name}: {code}"
            fields = fields_of(TEXTS[code])
            assert fields <= given, f"{name}: {code} lacks {fields - given}"
            assert given == fields or not exact, f"{name}: {code} does not use {given - fields}"
            used.add(code)
    assert used == set(TEXTS), sorted(set(TEXTS) - used)
    assert len(used) > 300


def test_the_catalogue_of_messages_loses_no_line_and_no_entry() -> None:
    lines = [line for line in CATALOGUE.splitlines() if line and not line.startswith("# ")]
    codes = [line.partition(": ")[0] for line in lines if not line.startswith("  ")]
    assert codes == list(TEXTS)
    words = " ".join(f"{code}: {text}" for code, text in TEXTS.items())
    assert words == " ".join(line.strip() for line in lines)


def test_a_text_has_one_form() -> None:
    """An optional part contains no other field, and no alternative."""
    for code, text in TEXTS.items():
        for _, _, form, _ in Formatter().parse(text):
            assert not (form or "").startswith("?") or not re.search(r"[{|]", form), code


def test_every_option_in_a_text_exists() -> None:
    kinds = [getattr(settings, name) for name in settings.__all__ if name.endswith("Settings")]
    kinds = [kind for kind in kinds if issubclass(kind, settings.Settings)]
    names = {each.name for kind in kinds for each in settings.fields_of(kind)}
    for code, text in TEXTS.items():
        named = set(re.findall(r"\{--(\w+)", text))
        assert named <= names | COMMAND_LINE_ONLY, f"{code}: {named - names}"
        assert "`" not in text, code


def test_no_docstring_begins_with_a_question_word() -> None:
    """A docstring says what the code does or represents; ruff checks that its verb comes first."""
    folders = ("cloudconv", "tests", "benchmarks", "weights", "examples", "docs")
    begins = re.compile(r'^\s*r?"""\s*(What|That|As|How|Whether)\b.*', re.MULTILINE)
    files = [file for folder in folders for file in (ROOT.parent / folder).rglob("*.py")]
    assert len(files) > len(FILES)
    for file in files:
        found = begins.search(file.read_text("utf-8"))
        assert found is None, f"{file}: {found}"
