"""Tags of images from the state of the code. Source: contract section 5, tag modes of faas-cli."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tailrace.build.images import with_tag
from tailrace.cli.options import TagMode
from tailrace.cli.stackfile import StackFunction
from tailrace.errors import InvalidDeployment

_GIT_TIMEOUT_S = 10.0


def as_chosen(
    functions: Iterable[StackFunction], *, tag: TagMode, builtin: bool, folder: Path
) -> tuple[StackFunction, ...]:
    """The functions with the tags and the way to serve that the command line chose; see `tagged`."""
    return tuple(
        replace(
            function,
            image=tagged(function.image, tag, folder=folder, handler=function.handler),
            as_it_stands=not builtin,
        )
        for function in functions
    )


def tagged(image: str, mode: TagMode, *, folder: Path, handler: Path | None) -> str:
    """The image with the tag of this mode.

    Args:
        folder: In the git repository whose commit counts.
        handler: The folder whose content counts for ``digest``; without one the tag stays.
    Raises:
        InvalidDeployment: the mode asks for git, and the folder is in no repository with a commit.
    """
    image = with_tag(image)
    match mode:
        case TagMode.SHA:
            return f"{image}-{_git(folder, 'rev-parse', '--short', 'HEAD')}"
        case TagMode.BRANCH:
            branch = _git(folder, "rev-parse", "--symbolic-full-name", "--abbrev-ref", "HEAD")
            return f"{image}-{branch.replace('/', '-')}-{_git(folder, 'rev-parse', '--short', 'HEAD')}"
        case TagMode.DESCRIBE:
            return f"{image}-{_git(folder, 'describe', '--tags', '--always')}"
        case TagMode.DIGEST if handler is not None:
            return f"{image.rpartition(':')[0]}:{_content_hash(handler)}"
    return image


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # arguments of ours
            ["git", "-C", str(folder), *arguments],  # noqa: S607  # whichever git the person uses
            check=True, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as failed:
        words = getattr(failed, "stderr", "") or str(failed)
        raise InvalidDeployment(
            f"the tag cannot be made from git: {words.strip().splitlines()[0][:200]}",
            hint="Commit first, or leave --tag out.",
        ) from failed
    return done.stdout.strip()


def _content_hash(folder: Path) -> str:
    """MD5 over the MD5s of the folder's files in the order of their paths, as faas-cli has it."""
    paths = [Path(at, name) for at, _, names in os.walk(folder) for name in names]
    files = sorted((path for path in paths if path.is_file() and not path.is_symlink()), key=str)
    found = [hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in files]
    return hashlib.md5("".join(found).encode(), usedforsecurity=False).hexdigest()
