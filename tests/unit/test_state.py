"""The state directory: one owner, closed to others, cleaned of what an earlier owner left."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tailrace.errors import PlatformError, StateTaken
from tailrace.state import TEMPORARY, open_state, remove_tree, write_atomically

OWNER = """
import sys
from pathlib import Path
from tailrace.state import open_state
with open_state(Path(sys.argv[1])) as state:
    (state.sockets / "old.sock").write_text("")
    print(state.sockets, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that owns ``tmp_path/state``."""
    command = [sys.executable, "-c", OWNER, str(tmp_path / "state"), "up"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_second_gateway_is_told_who_owns_the_directory(
    tmp_path: Path, owner: subprocess.Popen[str]
) -> None:
    """Pid, start and command; when the owner is killed the directory is free and its leavings are gone."""
    with owner:
        assert owner.stdout is not None
        sockets = Path(owner.stdout.readline().strip())
        (tmp_path / "state" / "environments" / f"{TEMPORARY}half").mkdir()
        (tmp_path / "state" / "environments" / "whole").mkdir()

        with pytest.raises(StateTaken, match=rf"pid {owner.pid}, since 20\S+: .* up") as caught:
            open_state(tmp_path / "state").__enter__()

        assert "TAILRACE_STATE_DIR" in (caught.value.hint or "")
        assert (sockets / "old.sock").exists()
        owner.kill()
    with open_state(tmp_path / "state") as state:
        assert sockets == state.sockets
        assert [] == list(sockets.iterdir())
        assert ["whole"] == [path.name for path in state.environments.iterdir()]


# Writes a secret, and is killed when half of it is on the disk: between the write and the rename.
HALF_WRITTEN = """
import os, signal, sys
from pathlib import Path
from tailrace.provider.process.secrets import SecretFiles
from tailrace.state import open_state

with open_state(Path(sys.argv[1])) as state:
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    SecretFiles(state.secrets).set("openfaas-fn", "key", b"the value")
"""


def test_a_value_that_was_half_written_at_a_kill_is_cleared_at_open(tmp_path: Path) -> None:
    """Secrets and tags lie one folder deeper, the gateway's own keys beside the folders."""
    root = tmp_path / "state"
    subprocess.run([sys.executable, "-c", HALF_WRITTEN, str(root)], check=False, timeout=30)
    (root / "bundles" / "tags").mkdir()
    for folder in (root, root / "bundles" / "tags"):
        (folder / f"{TEMPORARY}half").write_bytes(b"half")
    assert 3 == len(list(root.rglob(f"{TEMPORARY}*")))

    with open_state(root):
        assert [] == list(root.rglob(f"{TEMPORARY}*"))


def test_the_folders_are_closed_to_others_and_the_sockets_are_gone_at_the_end(tmp_path: Path) -> None:
    """0700 whatever they were before, also when they existed."""
    (tmp_path / "state").mkdir(mode=0o755)
    with open_state(tmp_path / "state") as state:
        folders = [state.path, state.sockets, state.bundles, state.secrets, state.functions, state.replicas]
        assert {0o700} == {stat.S_IMODE(path.stat().st_mode) for path in folders}
        assert len(os.fsencode(state.sockets)) + 30 < 104

    assert not state.sockets.exists()


def test_the_sockets_folder_is_short_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XDG_RUNTIME_DIR is used where it is short, ours and exists; else the system's folder."""
    runtime = Path(tempfile.mkdtemp(dir="/tmp"))
    (long := tmp_path / ("x" * 100)).mkdir()
    seen = []
    for given in (str(runtime), str(long), "relative", str(tmp_path / "missing"), ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", given)
        with open_state(tmp_path / "state") as state:
            seen.append(state.sockets.parent)
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(state.sockets / "name-of-24-characters-xx.sock"))

    assert [Path("/tmp")] * 4 == seen[1:]
    assert runtime == seen[0]
    runtime.rmdir()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_sockets_folder_that_is_not_ours_is_refused(tmp_path: Path, kind: str) -> None:
    """A link or a file that somebody put there in advance is neither followed nor removed."""
    with open_state(tmp_path / "state") as state:
        place = state.sockets
    (tmp_path / "target").mkdir()
    place.symlink_to(tmp_path / "target") if kind == "link" else place.write_text("mine")
    try:
        with pytest.raises(PlatformError, match="somebody else"):
            open_state(tmp_path / "state").__enter__()
        assert place.is_symlink() == (kind == "link")
    finally:
        place.unlink()


def test_a_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    """The text names it and the setting."""
    (tmp_path / "file").write_text("")

    with pytest.raises(PlatformError, match="cannot be used"):
        open_state(tmp_path / "file" / "state").__enter__()


def test_removing_a_tree_takes_read_only_folders_and_spares_what_links_point_at(tmp_path: Path) -> None:
    """The target of a link outside keeps its content and mode."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "file").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_text("")
    (tree / "a" / "link").symlink_to(outside)
    for path in (tree / "a" / "b", tree / "a", tree):
        path.chmod(0o500)

    remove_tree(tree)
    remove_tree(tree)

    assert not tree.exists()
    assert "kept" == (outside / "file").read_text()
    assert 0o755 == stat.S_IMODE(outside.stat().st_mode)


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    """A failure leaves the old file and no other."""
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # type: ignore[arg-type]  # on purpose

    assert b"old" == path.read_bytes()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [path] == list(tmp_path.iterdir())
