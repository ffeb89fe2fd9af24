"""What Tailrace depends on is written down, locked with hashes, and comes from no address of ours."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DECISION = ROOT / "docs" / "decisions" / "0002-dependencies.md"
LOCKS = ("requirements.lock", "requirements-dev.lock")
BENCH_LOCK = "bench/requirements.lock"


def _declared() -> dict[str, list[Requirement]]:
    """The requirements of pyproject by where they stand."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    return {
        "dependencies": [Requirement(line) for line in project["project"]["dependencies"]],
        "build-system": [Requirement(line) for line in project["build-system"]["requires"]],
        "extras": [
            Requirement(line)
            for lines in project["project"]["optional-dependencies"].values()
            for line in lines
        ],
        **{
            group: [Requirement(line) for line in lines if isinstance(line, str)]
            for group, lines in groups.items()
        },
    }


def _of_requirements_file(path: Path) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(re.split(r"\s+--|\s*\\", line)[0]) for line in lines if line and line[0] != "-"]


def _everything() -> set[str]:
    """What pyproject, the runtime, the model's installer and the benchmarks ask for."""
    files = [*(ROOT / "src").glob("tailrace_runtime/*.txt"), *(ROOT / "src").rglob("*.lock")]
    files.append(ROOT / "bench" / "requirements.in")
    declared = [requirement for group in _declared().values() for requirement in group]
    return _names([*declared, *(r for path in files for r in _of_requirements_file(path))])


def _names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def _documented() -> set[str]:
    rows = re.findall(r"^\| ([A-Za-z0-9._-]+) \|(.+)\|(.+)\|(.+)\|$", DECISION.read_text(), re.MULTILINE)
    return {
        canonicalize_name(name)
        for name, *cells in rows
        if name != "package" and all(cell.strip(" -") for cell in cells)
    }


def test_every_dependency_has_its_line_in_the_decisions() -> None:
    """A package that pyproject, the runtime, the model's installer or a benchmark asks for has its reason."""
    missing = _everything() - _documented()

    assert missing == set()


def test_the_decisions_name_no_package_that_is_gone() -> None:
    """A dependency that was dropped loses its line too."""
    stale = _documented() - _everything()

    assert stale == set()


@pytest.mark.parametrize("lock", [*LOCKS, BENCH_LOCK])
def test_locks_hold_hashes_and_no_addresses(lock: str) -> None:
    """Every locked package has a hash, and whoever installs decides from which index."""
    text = (ROOT / lock).read_text()
    packages = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]

    assert packages
    assert [p.splitlines()[0] for p in packages if "--hash=sha256:" not in p] == []
    assert re.findall(r"://|--(?:index-url|extra-index-url|find-links|trusted-host)", text) == []


@pytest.mark.parametrize(
    ("lock", "groups"),
    [
        ("requirements.lock", ("dependencies", "build")),
        ("requirements-dev.lock", ("dependencies", "build", "dev", "extras")),
    ],
)
def test_locks_agree_with_pyproject(lock: str, groups: tuple[str, ...]) -> None:
    """Each declared requirement is locked to a version that satisfies it; if not: scripts/lock."""
    locked = {canonicalize_name(name): version for name, version in _pins(lock).items()}
    declared = [requirement for group in groups for requirement in _declared()[group]]

    unmet = [
        str(requirement)
        for requirement in declared
        if (version := locked.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(version, prereleases=True)
    ]

    assert unmet == []


def test_the_locks_agree_with_each_other() -> None:
    """What the demo runs with is what the tests ran with."""
    run, dev = (_pins(lock) for lock in LOCKS)

    assert run == {name: dev.get(name) for name in run}


def test_benchmarks_compare_with_the_packages_that_tailrace_runs_with() -> None:
    """Flask, gevent and uvloop have one version on both sides of a comparison; if not: scripts/lock."""
    bench, dev = _pins(BENCH_LOCK), _pins("requirements-dev.lock")

    assert {name: bench[name] for name in bench.keys() & dev.keys()} == {
        name: dev[name] for name in bench.keys() & dev.keys()
    }
    assert {"flask", "gevent", "uvloop"} <= bench.keys() & dev.keys()


def test_the_build_backend_is_the_locked_one() -> None:
    """The build group repeats build-system.requires: hatchling is locked like the rest."""
    declared = _declared()

    assert declared["build-system"] == declared["build"]


def _pins(lock: str) -> dict[str, str]:
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\\n]+)", (ROOT / lock).read_text(), re.MULTILINE)
    return dict(pins)
