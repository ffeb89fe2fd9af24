"""Requests to the remote builder, byte for byte as faas-cli makes them.

Source: contract 1.5; tar headers as Go's archive/tar writes them: ustar, folders without a slash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx
from nacl.public import Box, PrivateKey, PublicKey

SECRET = "0123456789abcdef0123456789abcdef"  # of tests
CONFIG = "com.openfaas.docker.config"
SECRETS = "com.openfaas.secrets"


def member(name: str, data: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    """A file, or with ``type=`` anything else."""
    header = tarfile.TarInfo(name)
    header.size, header.mode, header.mtime = len(data), 0o644, 1_764_000_000
    header.uname = header.gname = "somebody"
    for key, value in more.items():
        setattr(header, key, value)
    return header, data


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=0o755)


def make_tar(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for header, data in members:
            tar.addfile(header, io.BytesIO(data))
    return out.getvalue()


def context_tar(
    files: Mapping[str, str],
    *,
    image: str = "ghcr.io/lab/hello:latest",
    build_args: Mapping[str, str] | None = None,
    sealed: bytes = b"",
) -> bytes:
    """The tar of a context; its config says what faas-cli's does."""
    folders = sorted({part for name in files for part in _parents(name)})
    config = {"image": image, "platforms": ["linux/amd64"]}
    if build_args:
        config["buildArgs"] = dict(build_args)  # type: ignore[assignment]  # JSON
    members = [
        folder("context"),
        *(folder(f"context/{name}") for name in folders),
        *(member(f"context/{name}", text.encode()) for name, text in files.items()),
        member(CONFIG, json.dumps(config).encode(), mode=0o664),
    ]
    return make_tar([*members, member(SECRETS, sealed, mode=0o600)] if sealed else members)


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: at + 1]) for at in range(len(parts))]


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The headers of a request with this body."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "X-Build-Signature": f"sha256={digest}",
        "Content-Type": "application/octet-stream",
        "User-Agent": "openfaas-go-sdk",
        "Accept": "application/x-ndjson",
    }


def seal(public_key: str, values: Mapping[str, bytes]) -> bytes:
    """The envelope of build secrets, as go-sdk's ``seal`` makes it."""
    sender = PrivateKey.generate()
    box = Box(sender, PublicKey(base64.b64decode(public_key)))
    lines = ["version: v1", "algorithm: nacl/box", "key_id: 12345678"]
    lines.append(f"public_key: {base64.b64encode(sender.public_key.encode()).decode()}")
    lines.append("secrets:")
    for name, value in values.items():
        boxed = bytes(box.encrypt(value, os.urandom(24)))  # the nonce stands before the box
        lines.append(f"    {name}: {base64.b64encode(boxed).decode()}")
    return "\n".join([*lines, ""]).encode()


@dataclass
class Outcome:
    """What came back: the log's lines, and the last line's status, image and error."""

    log: list[str] = field(default_factory=list)
    status: str = ""
    image: str = ""
    error: str = ""
    longest_line: int = 0

    @property
    def text(self) -> str:
        return "\n".join(self.log)


def build(url: str, body: bytes, *, secret: str = SECRET) -> Outcome:
    """Send a build and read its stream to the end."""
    outcome = Outcome()
    with httpx.stream(
        "POST", f"{url}/build", content=body, headers=signed(body, secret), timeout=120
    ) as reply:
        assert reply.status_code == 200, reply.read()
        assert reply.headers["content-type"] == "application/x-ndjson"
        for line in reply.iter_lines():
            found = json.loads(line)
            assert set(found) == {"log", "image", "status", "error"}
            outcome.log += found["log"]
            outcome.status, outcome.image, outcome.error = found["status"], found["image"], found["error"]
            outcome.longest_line = max(outcome.longest_line, len(line))
    return outcome
