"""The arrows between the rooms, and the sizes: the words of the design, checked on the source."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import deploypipe

ROOT = Path(deploypipe.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

LEVELS = [
    {"core"},
    {"data", "graph", "runtime", "witness"},
    {"compress", "export", "quantize", "validate", "bundle"},
    {"report"},
    {"stages"},
    {"plain_yaml"},
    {"changes"},
    {"recipe"},
    {"cache"},
    {"pipeline"},
    {"estimate", "doctor", "catalogue", "verbs", "reporting", "shown"},
    {"shards", "layers", "arguments"},
    {"report_command", "validate_command"},
    {"cli", "pytest_plugin", "deploypipe"},
]
"""A room imports only what stands before it."""


def dotted(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(file) for file in FILES}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def level(name: str) -> int:
    return next(number for number, names in enumerate(LEVELS) if name in names)


@cache
def imports(file: Path) -> frozenset[str]:
    """Modules that a file names in any import, also inside functions and under TYPE_CHECKING."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (submodules & MODULES) or {str(node.module)}
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return frozenset(found)


def ours(file: Path) -> frozenset[str]:
    return frozenset(name for name in imports(file) if name.split(".")[0] == "deploypipe")


def test_every_room_has_its_place():
    rooms = {room(dotted(file)) for file in FILES}
    assert rooms == set().union(*LEVELS)


def test_a_room_imports_only_what_stands_before_it():
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in FILES
        for name in sorted(ours(file))
        if room(name) != room(dotted(file)) and level(room(name)) >= level(room(dotted(file)))
    ]
    assert not wrong


def test_there_is_no_import_cycle():
    graph = {dotted(file): ours(file) & MODULES - {dotted(file)} for file in FILES}
    while free := {name for name, needs in graph.items() if not needs & graph.keys()}:
        graph = {name: needs for name, needs in graph.items() if name not in free}
    assert not graph


def test_no_file_is_over_450_lines_and_no_function_over_60():
    long = [f"{file}: {n}" for file in FILES if (n := len(file.read_text().splitlines())) > 450]
    long += [
        f"{file}: {node.name}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 60
    ]
    assert not long


def test_only_what_works_on_torch_models_imports_torch():
    allowed = {"compress", "export"}
    files = {file for file in FILES if {"torch"} & {name.split(".")[0] for name in imports(file)}}
    others = {dotted(file) for file in files if room(dotted(file)) not in allowed}
    assert others <= {"deploypipe.stages._torch_source", "deploypipe.stages.export"}, others


def test_no_file_is_called_after_nothing():
    vague = {"utils", "util", "helpers", "common", "manager", "handler", "impl", "misc", "base"}
    assert not {file for file in FILES if file.stem.lstrip("_") in vague}


def test_the_repository_names_no_machine_and_no_session():
    private = re.compile(
        r"/" r"work/|/tmp/" r"venv|/ro" r"ot/|chat" r"gpt|clau" r"de", re.IGNORECASE
    )
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT.parent, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    texts = (".py", ".md", ".toml", ".yaml", ".txt", ".json", ".j2", "Makefile")
    files = [ROOT.parent / name for name in listed if name.endswith(texts)]
    assert len(files) > 100
    assert not [file for file in files if file.is_file() and private.search(file.read_text())]


def shelf_files() -> Iterator[Path]:
    pattern = re.compile(r'Shelf\(\s*"[\w-]+",\s*"([\w.]+)"')
    for file in FILES:
        for package in pattern.findall(file.read_text()):
            folder = ROOT.parent / Path(*package.split("."))
            yield from (f for f in sorted(folder.glob("*.py")) if not f.stem.startswith("_"))


def test_everything_on_a_shelf_is_imported_by_a_test_or_has_one_of_its_name():
    there = {file.stem for file in TESTS.rglob("test_*.py")}
    text = "\n".join(file.read_text() for file in TESTS.rglob("*.py"))
    assert len(list(shelf_files())) > 20
    missing = [
        dotted(f)
        for f in shelf_files()
        if f"test_{f.stem}" not in there
        and not re.search(rf"{re.escape(dotted(f))}\b", text)
        and f'"{f.stem.replace("_", "-")}"' not in text
    ]
    assert not missing


def test_the_readme_lists_the_public_names():
    text = (ROOT.parent / "README.md").read_text()
    paragraph = text[text.index("In Python:") :].partition(". Scripts")[0]
    assert set(re.findall(r"`(\w+)`", paragraph)) == set(deploypipe.__all__) - {"__version__"}


def test_every_public_name_is_there():
    for name in deploypipe.__all__:
        assert getattr(deploypipe, name) is not None
