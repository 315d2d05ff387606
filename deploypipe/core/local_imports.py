"""Which files a Python file of the user's is made of: itself, and what it imports around it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def own_files(file: Path) -> list[Path]:
    """``file`` and the Python files beside or below it that it imports, and those that they import.

    Read off the import statements, wherever they stand; nothing is run.  Sorted by path.  What is
    imported from elsewhere, or by a name that is computed, is not in it.
    """
    folder = file.absolute().parent
    found: set[Path] = set()
    left = [file.absolute()]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += [path for path in _imported(one, folder) if folder in path.parents]
    return sorted(found)


def _imported(file: Path, folder: Path) -> Iterator[Path]:
    """Files that an import statement of ``file`` may mean."""
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _anywhere(alias.name, folder)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}" if node.module else alias.name
                if node.level:
                    yield from _modules(file.parents[node.level - 1], name)
                else:
                    yield from _anywhere(name, folder)


def _tree(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # whoever loads it tells what is wrong with it
        return ast.Module([], [])


def _anywhere(name: str, folder: Path) -> Iterator[Path]:
    """``blocks`` lies in the folder; ``models.blocks`` does so where the folder is ``models``."""
    for root in (folder, *folder.parents):
        yield from _modules(root, name)


def _modules(root: Path, name: str) -> Iterator[Path]:
    """``a.b.c`` may be ``a/b/c.py``, or a name inside ``a/b.py``; packages on the way run too."""
    place = root
    for part in name.split("."):
        place = place / part
        files = (place.with_name(f"{part}.py"), place / "__init__.py")
        yield from (file for file in files if file.is_file())
