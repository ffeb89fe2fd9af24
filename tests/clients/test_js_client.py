"""@tailrace/client: its own tests in Node, and the code of its README, checked against its types."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.kit.clients import JS, built_client, needs_node

pytestmark = pytest.mark.slow
_STRICT = (
    "--ignoreConfig", "--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "es2022",
    "--lib", "es2022,dom", "--module", "esnext", "--moduleResolution", "bundler", "--types", "",
)  # fmt: skip


def test_its_own_tests_pass() -> None:
    """`npm test` in clients/js: the table of courses, signals, bodies, hidden tabs, size."""
    built_client()

    ran = _node("--test", "test/course.test.mjs", "test/stream.test.mjs")

    assert 0 == ran.returncode, ran.stdout
    assert int(re.findall(r"^. pass (\d+)$", ran.stdout, re.MULTILINE)[0]) >= 60


def test_the_code_of_its_readme_has_the_right_types() -> None:
    """As a project with TypeScript and no more sees it."""
    blocks = re.findall(r"```ts\n(.*?)```", (JS / "README.md").read_text(), re.DOTALL)
    folder = built_client() / "readme"
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number}.ts" for number in range(len(blocks))]
    for file, block in zip(files, blocks, strict=True):
        file.write_text(block)

    checked = _tsc(*files)

    assert len(blocks) >= 3
    assert (0, "") == (checked.returncode, checked.stdout)


def test_types_are_told_of_what_is_wrong(tmp_path: Path) -> None:
    """The check above can fail: an option that does not exist, a field that an event has not."""
    wrong = built_client() / "readme" / "wrong.ts"
    wrong.parent.mkdir(exist_ok=True)
    wrong.write_text(
        'import { stream } from "@tailrace/client";\n'
        'for await (const event of stream("/x", { retries: 3 })) console.log(event.text);\n'
    )

    checked = _tsc(wrong)

    assert ["TS2353", "TS2339"] == re.findall(r"error (TS\d+)", checked.stdout)


def _tsc(*files: Path) -> subprocess.CompletedProcess[str]:
    return _node("node_modules/typescript/bin/tsc", *_STRICT, *map(str, files))


def _node(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [needs_node(), *args], cwd=JS, capture_output=True, text=True, timeout=120, check=False
    )
