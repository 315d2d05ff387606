from __future__ import annotations

from pathlib import Path

import pytest

from deploypipe.core.local_imports import own_files


def made_of(folder: Path, **files: str) -> list[str]:
    """The files of ``folder/net.py``, by their names inside the folder."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [file.relative_to(folder).as_posix() for file in own_files(folder / "net.py")]


@pytest.mark.parametrize(
    "statement",
    [
        "import blocks",
        "import blocks as b",
        "from blocks import Block",
        "from models.blocks import Block",
        "from models import blocks",
        "from . import blocks",
        "from .blocks import Block",
        "def net():\n    import blocks",
        "try:\n    import blocks\nexcept ImportError:\n    pass",
    ],
)
def test_a_file_beside_it_that_is_imported_belongs_to_it(tmp_path, statement):
    files = made_of(tmp_path / "models", net=statement, blocks="", other="")
    assert files == ["blocks.py", "net.py"]


def test_what_an_imported_file_imports_belongs_to_it_even_in_a_circle(tmp_path):
    files = made_of(tmp_path, net="import a", a="from parts.b import c", parts__b="import net")
    assert files == ["a.py", "net.py", "parts/b.py"]


def test_packages_on_the_way_are_run_and_so_belong_to_it(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    assert made_of(tmp_path, net="import parts.b", parts__b="") == [
        "net.py",
        "parts/__init__.py",
        "parts/b.py",
    ]


def test_what_lies_elsewhere_does_not_belong_to_it(tmp_path):
    (tmp_path / "above.py").write_text("")
    text = "import os.path, json, above, no_such_thing\nfrom .. import above\nfrom ... import x"
    assert made_of(tmp_path / "models", net=text) == ["net.py"]


def test_a_file_that_is_no_python_is_itself_alone(tmp_path):
    assert made_of(tmp_path, net="def (", blocks="") == ["net.py"]
