"""The lock: exact versions with hashes for all that is installed, so that a registry can't hand out anything else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROGRAM, DEVELOPMENT, BUILD = "constraints.txt", "constraints-dev.txt", "constraints-build.txt"
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def locked(file: str) -> dict[str, tuple[str, int]]:
    """Each package of a lock: its exact version, and how many files may be installed for it."""
    found = {}
    text = re.sub(r"^#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE).replace("\\\n", "")
    for line in text.splitlines():
        requirement = Requirement(HASH.sub("", line))
        (pin,) = requirement.specifier
        assert (pin.operator, requirement.url) == ("==", None), line
        found[canonicalize_name(requirement.name)] = (pin.version, len(HASH.findall(line)))
    return found


@pytest.mark.parametrize("file", [PROGRAM, DEVELOPMENT, BUILD])
def test_every_package_is_pinned_with_hashes(file: str) -> None:
    """One version each, at least one hash, and no host to get it from."""
    assert all(hashes for _, hashes in locked(file).values())
    assert "://" not in (ROOT / file).read_text()


def test_every_dependency_is_locked() -> None:
    """What pyproject.toml asks for is in the lock, in a version that it allows; the program's own lock has nothing of
    what only tests need."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = asked["project"]
    for lock, wanted in (
        (locked(PROGRAM), project["dependencies"]),
        (locked(PROGRAM) | locked(DEVELOPMENT), project["optional-dependencies"]["dev"]),
        (locked(BUILD), asked["build-system"]["requires"]),
    ):
        for requirement in map(Requirement, wanted):
            assert requirement.specifier.contains(lock[canonicalize_name(requirement.name)][0])
    assert not locked(PROGRAM).keys() & locked(DEVELOPMENT).keys()
    assert "pytest" not in locked(PROGRAM)


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile"])
def test_nothing_is_installed_without_its_hash(file: str) -> None:
    """Each `pip install` checks hashes, or installs the package itself without its dependencies."""
    commands = re.findall(r"pip (?:--\S+ \S+ )?(?:install|wheel)\b[^&\n]*", (ROOT / file).read_text())
    assert commands
    assert all("--require-hashes" in one or "--no-deps" in one for one in commands), commands
