"""A nats-server for several tenants, as operators run it: accounts and users by signed JWTs, over TLS."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import nkeys  # type: ignore[import-untyped]

from tests.kit.certificate import Pair, make_pair
from tests.kit.runs import NatsServer

# Without limits; JetStream among it.
_COUNTED = (
    "subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage", "disk_storage",
    "streams", "consumer",
)  # fmt: skip
_ALL = dict.fromkeys(_COUNTED, -1)
# What a credentials file looks like. Source: docs.nats.io, "Decentralized JWT Authentication".
_CREDS = """-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


@dataclass(frozen=True)
class Tenant:
    """A server that serves one account.

    ``creds`` lets in, ``others`` are of an operator it does not know; ``trust`` holds its certificate beside
    those that this machine trusts anyway.
    """

    url: str
    creds: Path
    others: Path
    trust: Path


class _Key:
    def __init__(self, prefix: int) -> None:
        self.seed: bytes = nkeys.encode_seed(os.urandom(32), prefix)
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public = bytes(self._pair.public_key).decode()

    def claim(self, subject: str, kind: str, body: Mapping[str, object]) -> str:
        """A JWT about the subject, signed by this key."""
        claims = {
            "jti": subject, "iat": int(time.time()), "iss": self.public, "sub": subject, "name": kind,
            "nats": {**body, "type": kind, "version": 2},
        }  # fmt: skip
        text = f"{_text({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_text(claims)}"
        return f"{text}.{_packed(self._pair.sign(text.encode()))}"


def _text(value: object) -> str:
    return _packed(json.dumps(value).encode())


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@contextlib.contextmanager
def tenant(folder: Path) -> Iterator[Tenant]:
    """Such a server on a free port of loopback."""
    pair = make_pair(folder)
    operator, account = _Key(nkeys.PREFIX_BYTE_OPERATOR), _Key(nkeys.PREFIX_BYTE_ACCOUNT)
    system = _Key(nkeys.PREFIX_BYTE_ACCOUNT)
    limits = {"limits": {**_ALL, "wildcards": True}}
    none = {"limits": {**_ALL, "wildcards": True, "mem_storage": 0, "disk_storage": 0}}
    config = folder / "tenant.conf"
    config.write_text(
        f"operator: {operator.claim(operator.public, 'operator', {})}\n"
        "resolver: MEMORY\n"
        f"system_account: {system.public}\n"
        f"resolver_preload: {{\n"
        f"  {account.public}: {operator.claim(account.public, 'account', limits)}\n"
        f"  {system.public}: {operator.claim(system.public, 'account', none)}\n"
        "}\n"
        f'tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}" }}\n'
    )
    with NatsServer(folder, flags=("-c", str(config))) as server:
        mine, others = folder / "user.creds", folder / "others.creds"
        _write_creds(mine, account)
        _write_creds(others, _Key(nkeys.PREFIX_BYTE_ACCOUNT))
        yield Tenant(f"tls://localhost:{server.port}", mine, others, _trust(folder, pair))


def _trust(folder: Path, pair: Pair) -> Path:
    known = Path(os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or os.devnull)
    path = folder / "trust.pem"
    path.write_bytes(known.read_bytes() + b"\n" + pair.cert.read_bytes())
    return path


def _write_creds(path: Path, account: _Key) -> None:
    user = _Key(nkeys.PREFIX_BYTE_USER)
    jwt = account.claim(user.public, "user", {"subs": -1, "data": -1, "payload": -1})
    path.write_text(_CREDS.format(jwt=jwt, seed=user.seed.decode()))
    path.chmod(0o600)
