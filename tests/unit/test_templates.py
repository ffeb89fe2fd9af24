"""build.templates: the templates that ship."""

from __future__ import annotations

import pytest
import yaml

from tailrace.build.templates import find_template, template_names
from tailrace.errors import InvalidDeployment


@pytest.mark.parametrize("name", template_names())
def test_each_template_is_whole(name: str) -> None:
    """Its files are in the package and say the same as the table."""
    template = find_template(name)

    told = yaml.safe_load((template.path / "template.yml").read_text())
    assert (told["language"], told["kind"]) == (name, template.kind)
    assert told["fprocess"]
    compile((template.path / "function/handler.py").read_text(), "handler.py", "exec")
    requirements = (template.path / "function/requirements.txt").read_text()
    assert [line for line in requirements.splitlines() if not line.startswith("#")] == []


def test_no_template_folder_is_unknown() -> None:
    """A folder that ships can be asked for."""
    folder = find_template("python3-flask").path.parent

    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == list(template_names())


def test_a_mistyped_template_gets_the_nearest() -> None:
    """The hint names the nearest, or all when nothing is near."""
    with pytest.raises(InvalidDeployment, match="'python3-flsk'") as near:
        find_template("python3-flsk")
    with pytest.raises(InvalidDeployment) as far:
        find_template("../../etc")

    assert near.value.hint == "Did you mean 'python3-flask'?"
    assert "python3-stream" in (far.value.hint or "")
