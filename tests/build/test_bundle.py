"""Bundles: the same folder gives the same bytes, and hostile tars are refused without a trace."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.build.bundle import MAX_FILES, Manifest, note_left_out, pack_folder, unpack, walk
from tailrace.errors import InvalidBundle, TooLarge

LIMIT = 1 << 20
MANIFEST = b'{"format":1,"lang":"python3-flask"}'


def make_tar(*members: tarfile.TarInfo | tuple[str, bytes], manifest: bytes | None = MANIFEST) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        start: list[tarfile.TarInfo | tuple[str, bytes]] = [("tailrace.json", manifest)] if manifest else []
        for member in [*start, *members]:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            header = tarfile.TarInfo(member[0])
            header.size = len(member[1])
            tar.addfile(header, io.BytesIO(member[1]))
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


def unpack_bytes(data: bytes, folder: Path, limit_bytes: int = LIMIT) -> Manifest:
    packed = folder / "bundle.tar"
    packed.write_bytes(data)
    return unpack(packed, folder / "out", limit_bytes=limit_bytes)


HANDLER = ("function/handler.py", b"def handle(req): return req\n")


def make_folder(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "handler.py").write_bytes(HANDLER[1])
    (folder / "sub" / "data.txt").write_text("data")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder


def test_the_same_content_gives_the_same_digest_whatever_its_times_and_place(tmp_path: Path) -> None:
    """Two copies made at different times, in different order, are one bundle."""
    first, second = make_folder(tmp_path / "a"), make_folder(tmp_path / "deep" / "b")
    os.utime(second / "handler.py", (1, 1))
    (second / "handler.py").chmod(0o600)

    packed = [pack_folder(folder, lang="python3-flask", limit_bytes=LIMIT) for folder in (first, second)]

    assert packed[0] == packed[1]
    assert packed[0].digest == hashlib.sha256(packed[0].data).hexdigest()


def test_what_was_packed_comes_out_read_only(tmp_path: Path) -> None:
    """Content, executability and language survive; nothing stays writable."""
    bundle = pack_folder(make_folder(tmp_path / "f"), lang="python3-stream", limit_bytes=LIMIT)

    manifest = unpack_bytes(bundle.data, tmp_path)

    out = tmp_path / "out" / "function"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [out, *out.rglob("*")]}
    assert Manifest(1, "python3-stream") == manifest
    assert (out / "handler.py").read_bytes() == HANDLER[1]
    assert modes == {"function": 0o555, "handler.py": 0o444, "run.sh": 0o555, "sub": 0o555, "data.txt": 0o444}


def test_caches_and_editor_litter_are_left_out(tmp_path: Path) -> None:
    """Running the tests or opening the editor does not change the digest."""
    folder = make_folder(tmp_path / "f")
    clean = pack_folder(folder, lang="x", limit_bytes=LIMIT)
    for name in ("__pycache__", ".git", ".venv", "venv", "node_modules", ".mypy_cache"):
        (folder / "sub" / name).mkdir()
        (folder / "sub" / name / "file").write_text("litter")
    (folder / "old.pyc").write_bytes(b"x")
    (folder / ".handler.py.swp").write_bytes(b"x")
    (folder / ".#handler.py").symlink_to("user@host.1:2")

    assert clean == pack_folder(folder, lang="x", limit_bytes=LIMIT)


def test_what_holds_passwords_is_left_out_and_told(tmp_path: Path) -> None:
    """A handler folder may be the project's own, with `.secrets` and `.env` in it."""
    folder = make_folder(tmp_path / "f")
    clean = pack_folder(folder, lang="x", limit_bytes=LIMIT)
    for name in (
        ".secrets/api-key",
        ".env",
        ".env.local",
        "sub/.env.production",
        "sub/.secrets/a/b",
        "venv/.env",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("s3cr3t")

    assert clean == pack_folder(folder, lang="x", limit_bytes=LIMIT)
    assert () == note_left_out(tmp_path / "nothing")
    assert (
        "not uploaded: .env, .env.local, .secrets, sub/.env.production, sub/.secrets; values come from "
        "`secrets`, `environment` and `environment_file`",
    ) == note_left_out(folder)


def test_a_name_that_only_begins_alike_is_packed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "f")
    (folder / ".envrc-sample").write_text("x")
    (folder / "secrets").mkdir()

    assert () == note_left_out(folder)
    assert {"function/.envrc-sample", "function/secrets"} <= {n for _, n in walk(folder, with_modules=False)}


def test_links_inside_are_packed_as_what_they_point_at(tmp_path: Path) -> None:
    """A link to a file or folder of the same handler becomes a copy."""
    folder = make_folder(tmp_path / "f")
    (folder / "link.txt").symlink_to("sub/data.txt")
    (folder / "again").symlink_to("sub")

    unpack_bytes(pack_folder(folder, lang="x", limit_bytes=LIMIT).data, tmp_path)

    out = tmp_path / "out" / "function"
    assert not (out / "link.txt").is_symlink()
    assert (out / "link.txt").read_text() == (out / "again" / "data.txt").read_text() == "data"


def _outside(folder: Path) -> None:
    (folder / "bad").symlink_to("/etc/hostname")


def _dangling(folder: Path) -> None:
    (folder / "bad").symlink_to("nowhere")


def _looping(folder: Path) -> None:
    (folder / "sub" / "bad").symlink_to(folder)


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "bad")


def _not_utf8(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff")).write_text("")


@pytest.mark.parametrize("spoil", [_outside, _dangling, _looping, _pipe, _not_utf8])
def test_a_folder_that_cannot_travel_is_refused_naming_the_entry(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Links that leave the folder, lead nowhere or in circles, pipes, and odd names are named."""
    folder = make_folder(tmp_path / "f")
    spoil(folder)

    with pytest.raises(InvalidBundle, match="bad"):
        pack_folder(folder, lang="x", limit_bytes=LIMIT)


def test_a_folder_over_the_limit_is_refused_naming_the_file(tmp_path: Path) -> None:
    """The text says which file went over."""
    folder = make_folder(tmp_path / "f")
    (folder / "model.bin").write_bytes(bytes(LIMIT))

    with pytest.raises(TooLarge, match=r"model\.bin"):
        pack_folder(folder, lang="x", limit_bytes=LIMIT)


def test_a_folder_without_a_handler_is_told_what_was_expected(tmp_path: Path) -> None:
    """The text names handler.py and what was found instead."""
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "main.py").write_text("")

    with pytest.raises(InvalidBundle, match=r"no 'handler\.py'.*found: main\.py"):
        pack_folder(tmp_path / "f", lang="x", limit_bytes=LIMIT)


LONG = "function/" + "/".join(["d" * 60] * 3) + "/é.txt"


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_other_writers_of_tar_are_understood(tmp_path: Path, form: int) -> None:
    """POSIX, pax and GNU tars of ordinary files are accepted."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in [("./tailrace.json", MANIFEST), HANDLER]:
            header = tarfile.TarInfo(name)
            header.size, header.mtime = len(data), 1_700_000_000.5 if form == tarfile.PAX_FORMAT else 7
            tar.addfile(header, io.BytesIO(data))

    assert unpack_bytes(out.getvalue(), tmp_path).lang == "python3-flask"


def test_long_names_survive(tmp_path: Path) -> None:
    """A path over 100 bytes and outside ASCII comes out as it was."""
    unpack_bytes(make_tar(HANDLER, (LONG, b"x")), tmp_path)

    assert (tmp_path / "out" / LONG).read_bytes() == b"x"


HOSTILE = {
    "absolute": make_tar(HANDLER, ("/etc/passwd", b"x")),
    "parent": make_tar(HANDLER, ("function/../../x", b"x")),
    "parent first": make_tar(HANDLER, ("../x", b"x")),
    "elsewhere": make_tar(HANDLER, ("other/x", b"x")),
    "dot": make_tar(HANDLER, ("function/./x", b"x")),
    "empty part": make_tar(HANDLER, ("function//x", b"x")),
    "backslash": make_tar(HANDLER, ("function/a\\b", b"x")),
    "control": make_tar(HANDLER, ("function/a\x1b[31mb", b"x")),
    "newline": make_tar(HANDLER, ("function/a\nb", b"x")),
    "long part": make_tar(HANDLER, ("function/" + "x" * 256, b"x")),
    "long path": make_tar(HANDLER, ("function/" + "x/" * 600, b"x")),
    "twice": make_tar(HANDLER, ("function/x", b"1"), ("function/x", b"2")),
    "file below a file": make_tar(HANDLER, ("function/x", b"1"), ("function/x/y", b"2")),
    "file over a folder": make_tar(HANDLER, ("function/x/y", b"1"), ("function/x", b"2")),
    "function is a file": make_tar(HANDLER, ("function", b"x")),
    "symbolic link": make_tar(HANDLER, special("function/x", tarfile.SYMTYPE, "/etc/passwd")),
    "link to a folder": make_tar(special("function", tarfile.SYMTYPE, "/tmp"), HANDLER),
    "hard link": make_tar(HANDLER, special("function/x", tarfile.LNKTYPE, "function/handler.py")),
    "device": make_tar(HANDLER, special("function/x", tarfile.CHRTYPE)),
    "pipe": make_tar(HANDLER, special("function/x", tarfile.FIFOTYPE)),
    "sparse": make_tar(HANDLER, special("function/x", tarfile.GNUTYPE_SPARSE)),
    "no handler": make_tar(("function/main.py", b"")),
    "no manifest": make_tar(HANDLER, manifest=None),
    "manifest is no JSON": make_tar(HANDLER, manifest=b"lang: x"),
    "manifest of a later format": make_tar(HANDLER, manifest=b'{"format":2,"lang":"x"}'),
    "manifest without lang": make_tar(HANDLER, manifest=b'{"format":1}'),
    "manifest is a folder": make_tar(HANDLER, special("tailrace.json", tarfile.DIRTYPE), manifest=None),
    "empty": b"",
    "zeros": bytes(10_240),
    "text": b"hello" * 1000,
    "compressed": b"\x1f\x8b" + bytes(2000),
    "cut short": make_tar(HANDLER, ("function/x", b"x" * 20_000))[:8_000],
    "cut in a header": make_tar(HANDLER)[:1_100],
}


def _pax(record: bytes) -> bytes:
    header = special("PaxHeader", b"x")
    header.size = len(record)
    body = header.tobuf() + record + bytes(-len(record) % 512)
    return make_tar(HANDLER)[:2048] + body + make_tar(("function/x", b"x"), manifest=None)


HOSTILE |= {
    "sparse by pax": _pax(b"22 GNU.sparse.major=1\n"),
    "size by pax": _pax(b"16 size=9999999\n"),
    "link by pax": _pax(b"16 linkpath=/etc\n"),
    "pax of negative length": _pax(b"-5 path=x\n"),
    "pax of no length": _pax(b"path=x\n"),
    "pax that is too long": _pax(b"9" * 20_000),
    "absolute by pax": _pax(b"20 path=/etc/passwd\n"),
    "not UTF-8 by pax": _pax(b"15 path=fun\xff\xff\n"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_bundle_is_refused_and_writes_nothing_elsewhere(tmp_path: Path, data: bytes) -> None:
    """Every way out of the folder, and everything that is no plain file, is an InvalidBundle."""
    with pytest.raises(InvalidBundle):
        unpack_bytes(data, tmp_path)

    assert {path.name for path in tmp_path.iterdir()} <= {"bundle.tar", "out"}


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    """10,001 names are too many, wherever they stand."""
    data = make_tar(HANDLER, *[special(f"function/{i}", tarfile.DIRTYPE) for i in range(MAX_FILES)])

    with pytest.raises(InvalidBundle, match="over 10,000 files"):
        unpack_bytes(data, tmp_path)


def test_too_many_bytes_are_refused_before_they_are_written(tmp_path: Path) -> None:
    """A member that announces more than the limit is refused by its header alone."""
    header = tarfile.TarInfo("function/big")
    header.size = 1 << 32

    with pytest.raises(TooLarge):
        unpack_bytes(make_tar(HANDLER)[:2048] + header.tobuf(tarfile.USTAR_FORMAT), tmp_path)


VALID = make_tar(HANDLER, (LONG, b"x" * 700))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=24))
def test_a_damaged_bundle_is_read_or_refused_never_worse(
    tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes
) -> None:
    """Any bytes overwritten anywhere give a bundle or an InvalidBundle, and files only where they belong."""
    folder = tmp_path_factory.mktemp("noise")
    damaged = VALID[:at] + noise + VALID[at + len(noise) :]
    with suppress(InvalidBundle, TooLarge):
        unpack_bytes(damaged, folder)

    assert {path.name for path in folder.iterdir()} <= {"bundle.tar", "out"}
