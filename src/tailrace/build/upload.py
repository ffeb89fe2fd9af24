"""What a client of the remote builder sends: one tar with the context, what to call it, and sealed secrets.

Source: contract 1.5.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import msgspec

from tailrace.build import sealed
from tailrace.build.bundle import MAX_FILES
from tailrace.build.extract import check_name, write_member
from tailrace.build.images import check_image
from tailrace.build.tar import Member, read_members
from tailrace.errors import InvalidBundle, TooLarge

CONTEXT = "context"
CONFIG = "com.openfaas.docker.config"
SECRETS = "com.openfaas.secrets"
_CONFIG_LIMIT = 64 * 1024


class BuildConfig(msgspec.Struct, frozen=True, rename="camel"):
    """What to build. ``skipPush`` and ``platforms`` have no meaning without a registry and images."""

    image: str
    build_args: dict[str, str] = {}  # msgspec copies it


class Upload(msgspec.Struct, frozen=True):
    """What was sent; ``sealed_secrets`` is empty where there are none."""

    config: BuildConfig
    sealed_secrets: bytes


def unpack_upload(tar_path: Path, destination: Path, *, limit_bytes: int) -> Upload:
    """Write the context below destination, which must not exist; after an error it is half-written.

    Raises:
        InvalidBundle: anything in it but plain files and folders below ``context/``, a name that is odd or
            comes twice, over 10,000 members, no context, no readable config.
        TooLarge: its files have over limit_bytes together.
    """
    destination.mkdir(mode=0o700)
    small: dict[str, bytes] = {}
    seen: set[str] = set()
    left = limit_bytes
    with tar_path.open("rb") as file:
        for member in read_members(file):
            path = _plain_path(member)
            if path in seen:
                raise InvalidBundle(f"the tar holds '{path}' twice")
            seen.add(path)
            if len(seen) > MAX_FILES:
                raise InvalidBundle(f"the tar holds over {MAX_FILES:,} files")
            left -= member.size
            if left < 0:
                raise TooLarge(
                    f"the build context is over {limit_bytes:,} bytes (at '{path}')",
                    hint="Move data out of it, or raise TAILRACE_BUILD_LIMIT on the gateway.",
                )
            if path in (CONFIG, SECRETS):
                small[path] = _read_small(path, member, file)
            else:
                write_member(destination, path, member, file, is_durable=False)
    if not any(path.startswith(f"{CONTEXT}/") for path in seen):
        raise InvalidBundle(f"the tar holds no files below {CONTEXT}/", hint=_EXPECTED)
    return Upload(_read_config(small), small.get(SECRETS, b""))


_EXPECTED = f"Expected: {CONTEXT}/ with the build context, and the file {CONFIG}, as faas-cli sends them."


def _plain_path(member: Member) -> str:
    path = member.path.removeprefix("./")
    if member.is_folder:
        path = path.rstrip("/")
    check_name(path)
    inside = path.startswith(f"{CONTEXT}/") or (path == CONTEXT and member.is_folder)
    if not inside and not (path in (CONFIG, SECRETS) and not member.is_folder):
        raise InvalidBundle(f"the tar holds '{path[:200]}', which has no place in it", hint=_EXPECTED)
    return path


def _read_small(path: str, member: Member, file: BinaryIO) -> bytes:
    limit = _CONFIG_LIMIT if path == CONFIG else sealed.LIMIT_BYTES
    if member.size > limit:
        raise TooLarge(f"{path} is over {limit:,} bytes")
    data = file.read(member.size)
    if len(data) != member.size:
        raise InvalidBundle("the tar is cut short")
    return data


def _read_config(small: dict[str, bytes]) -> BuildConfig:
    if CONFIG not in small:
        raise InvalidBundle(f"the tar holds no {CONFIG}", hint=_EXPECTED)
    try:
        config = msgspec.json.decode(small[CONFIG], type=BuildConfig)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as bad:
        raise InvalidBundle(f'{CONFIG} is not {{"image": ..., "buildArgs": ...}}: {bad}') from None
    if not config.image:
        raise InvalidBundle(f"{CONFIG} names no image")
    check_image(config.image)
    return config
