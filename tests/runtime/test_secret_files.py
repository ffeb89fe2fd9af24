"""Secrets at OpenFaaS's path, by every way Python has to a file."""

from __future__ import annotations

import json

import pytest

from tests.kit.replica import loaded_replica

SOURCE = """
import errno, glob, io, os, pathlib, shutil

S = "/var/openfaas/secrets"
P = pathlib.Path(S)

def refused(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]

def by_descriptor():
    fd = os.open(f"{S}/key", os.O_RDONLY)
    try:
        return os.read(fd, 100).decode()
    finally:
        os.close(fd)

WAYS = {
    "open": lambda: open(f"{S}/key").read(),
    "open_path": lambda: open(P / "key", "rb").read().decode(),
    "open_untidy": lambda: open(f"{S}/../secrets//key").read(),
    "io_open": lambda: io.open(file=f"{S}/key", mode="r").read(),
    "os_open": by_descriptor,
    "read_text": lambda: (P / "key").read_text(),
    "exists": lambda: [os.path.exists(f"{S}/{n}") for n in ("key", "none")],
    "is_file": lambda: [(P / "key").is_file(), P.is_dir(), os.path.isdir(S)],
    "size": lambda: [os.stat(f"{S}/key").st_size, os.lstat(f"{S}/key").st_size, os.path.getsize(f"{S}/key")],
    "access": lambda: [os.access(f"{S}/key", os.R_OK), os.access(f"{S}/key", os.W_OK)],
    "listdir": lambda: sorted(os.listdir(S)),
    "iterdir": lambda: sorted(str(p) for p in P.iterdir()),
    "scandir": lambda: sorted((e.name, e.path, e.is_file(), e.stat().st_size) for e in os.scandir(S)),
    "walk": lambda: [(top, dirs, sorted(files)) for top, dirs, files in os.walk(S)],
    "glob": lambda: sorted(glob.glob(f"{S}/*")),
    "copy": lambda: open(shutil.copy(f"{S}/key", os.environ["TMPDIR"] + "/copy")).read(),
    "missing": lambda: refused(lambda: open(f"{S}/none")),
    "write": lambda: refused(lambda: open(f"{S}/key", "w")),
    "os_write": lambda: refused(lambda: os.open(f"{S}/key", os.O_RDWR)),
    "other": lambda: open(__file__).read()[:1] + str(os.path.exists("/var/openfaas/secretsx")),
    "descriptor": lambda: open(os.dup(0)).read(),
    "rmtree": lambda: shutil.rmtree(shutil.copytree(os.getcwd(), os.environ["TMPDIR"] + "/tree")),
}

def handle(event, context):
    return {name: way() for name, way in WAYS.items()}
"""
EXPECTED = {
    **dict.fromkeys(
        ["open", "open_path", "open_untidy", "io_open", "os_open", "read_text", "copy"], "s3cret"
    ),
    "exists": [True, False],
    "is_file": [True, True, True],
    "size": [6, 6, 6],
    "access": [True, False],
    "listdir": ["key", "other"],
    "iterdir": ["/var/openfaas/secrets/key", "/var/openfaas/secrets/other"],
    "scandir": [
        ["key", "/var/openfaas/secrets/key", True, 6],
        ["other", "/var/openfaas/secrets/other", True, 1],
    ],
    "walk": [["/var/openfaas/secrets", [], ["key", "other"]]],
    "glob": ["/var/openfaas/secrets/key", "/var/openfaas/secrets/other"],
    "missing": "ENOENT",
    "write": "EROFS",
    "os_write": "EROFS",
    "other": "\nFalse",
    "descriptor": "",
    "rmtree": None,
}


@pytest.mark.slow
@pytest.mark.parametrize("worker", ["greenlets", "threads"])
def test_a_secret_is_read_by_every_way(worker: str) -> None:
    """Unchanged handlers find their secrets, cannot write them, and reach all else as before."""
    with loaded_replica(SOURCE, worker=worker, secrets={"key": "s3cret", "other": "x"}) as replica:
        answer = replica.ask()

    assert EXPECTED == json.loads(answer.text.split("\n")[0].removeprefix("data: "))
