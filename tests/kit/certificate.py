"""Certificates that a test makes for this machine's own name."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.kit.needs import needs_program

_NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Pair:
    """A self-signed certificate and its key, as files."""

    cert: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        """What a client that trusts only this certificate connects with."""
        return ssl.create_default_context(cafile=str(self.cert))


def make_pair(folder: Path, *, common_name: str = "localhost") -> Pair:
    """A new pair in folder, in place of one that is there already."""
    openssl = needs_program("openssl", "sudo apt-get install -y openssl")
    pair = Pair(folder / "cert.pem", folder / "key.pem")
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", f"/CN={common_name}", "-addext", _NAMES,
            "-keyout", pair.key, "-out", pair.cert,
        ],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    pair.key.chmod(0o600)
    return pair
