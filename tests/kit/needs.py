"""What a test needs of the machine: it is there, or the test is skipped with the command that brings it.

In CI such a skip is a failure, so that a promise never goes unkept unseen.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

# A plain user's PATH has no sbin, and Homebrew's folder is not in a bare one.
_MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")


def needs_nginx() -> Path:
    """The path of nginx; skips (fails in CI) where there is none."""
    return needs_program("nginx", "sudo apt-get install -y nginx")


def needs_curl() -> Path:
    """The path of curl; skips (fails in CI) where there is none."""
    return needs_program("curl", "sudo apt-get install -y curl")


def needs_program(name: str, command: str) -> Path:
    """The path of a program; ``command`` is what would install it."""
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), *_MORE_FOLDERS])
    found = shutil.which(name, path=folders)
    if found is None:
        missing(f"{name} is not installed; to run this test: {command}")
    return Path(found)


def missing(reason: str) -> NoReturn:
    """Skip the running test for that reason, or fail it in CI."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason} (in CI a missing need is a failure)", pytrace=False)
    pytest.skip(reason)
