"""The rooms of the package and the arrows between them, read from its imports: `python -m scripts.rooms`.

`docs/architecture.md` holds what this prints, between two marks; `--write` brings it up to date, a test demands it.
"""

from __future__ import annotations

import ast
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hubbackup"
DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: python -m scripts.rooms --write -->\n", "<!-- end of rooms -->\n"
INDENT, UNDER = "    ", " " * 18


def room_of(module: str) -> str:
    """The room of `hubbackup.backup.job`: `backup`; of what stands in the root, its own name."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imported(path: Path) -> Iterator[str]:
    """The modules of hubbackup that a file imports, wherever in it, but for those that only types need."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hubbackup":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "hubbackup")


def arrows() -> dict[str, set[str]]:
    """Each room, and the rooms that it imports from."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts == ("__init__",):
            continue
        rooms = found.setdefault(parts[0], set())
        rooms |= {room_of(module) for module in imported(path)} - {parts[0], "", "package_version"}
    return found


def floors() -> list[list[str]]:
    """The layers of the contract in pyproject.toml, the highest first."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def drawn() -> str:
    """The floors with their rooms, each with the rooms that it uses, and a line of figures."""
    used = arrows()
    lines = []
    for number, rooms in enumerate(floors()):
        lines += [f"{INDENT}{'-' * 106}"] if number else []
        for room in rooms:
            order = " ".join(other for floor in floors() for other in floor if other in used[room])
            text = f"{room:<10} {'->' if order else ''} {order}".rstrip()
            lines += textwrap.wrap(text, 110, initial_indent=INDENT, subsequent_indent=UNDER)
    count = sum(map(len, used.values()))
    figures = f"{len(used)} rooms, {len(floors())} floors, {count} arrows, all of them downwards."
    return "\n".join(lines) + f"\n\n{figures}\n"


def main() -> None:
    """Print the picture, or write it into the document."""
    if sys.argv[1:] != ["--write"]:
        print(drawn(), end="")
        return
    head, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    DOCUMENT.write_text(f"{head}{BEGIN}\n{drawn()}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
