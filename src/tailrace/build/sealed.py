"""Build secrets that a client seals for this gateway alone: NaCl boxes, named in the clear.

Source: ``seal`` of OpenFaaS's go-sdk (MIT): a YAML envelope with the sender's public key, and for each
secret base64 of a nonce of 24 bytes and the box.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import yaml
from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey

from tailrace.errors import InvalidRequest, PlatformError
from tailrace.state import write_atomically

ALGORITHM = "nacl/box"
LIMIT_BYTES = 1 << 20
_VERSION = "v1"
_KEY_BYTES = 32
_KEY_FILE = "builder-key"


class _Envelope(msgspec.Struct):
    version: str
    algorithm: str
    public_key: str
    secrets: dict[str, str]


@dataclass(frozen=True, slots=True)
class BoxKey:
    """The key that secrets are sealed for. Only the public half leaves the process."""

    private: bytes = field(repr=False)

    @property
    def public(self) -> str:
        """The public half, base64."""
        return base64.b64encode(PrivateKey(self.private).public_key.encode()).decode()

    @property
    def id(self) -> str:
        """A short name of the public half."""
        return hashlib.sha256(PrivateKey(self.private).public_key.encode()).hexdigest()[:8]

    def unseal(self, envelope: bytes) -> dict[str, bytes]:
        """The secrets of an envelope, by name.

        Raises:
            InvalidRequest: it is no envelope, or is sealed for another key.
        """
        try:
            found = msgspec.convert(yaml.load(envelope, Loader=yaml.BaseLoader), _Envelope)  # noqa: S506  # texts only
        except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
            raise InvalidRequest("the sealed build secrets cannot be read") from None
        if (found.version, found.algorithm) != (_VERSION, ALGORITHM):
            raise InvalidRequest(
                f"build secrets are sealed as '{found.version[:20]}', '{found.algorithm[:20]}'; "
                f"expected '{_VERSION}', '{ALGORITHM}'"
            )
        sender = _decode(found.public_key, "the sender's public key")
        if len(sender) != _KEY_BYTES:
            raise InvalidRequest("the sender's public key of the build secrets has not 32 bytes")
        box = Box(PrivateKey(self.private), PublicKey(sender))
        return {name: self._open(box, name, value) for name, value in found.secrets.items()}

    def _open(self, box: Box, name: str, value: str) -> bytes:
        try:
            return bytes(box.decrypt(_decode(value, f"build secret '{name[:80]}'")))
        except (CryptoError, ValueError):
            raise InvalidRequest(
                f"build secret '{name[:80]}' cannot be opened: it is not sealed for this gateway's key",
                hint=f"Fetch the key again: GET /publickey (key id {self.id}).",
            ) from None


def open_box_key(folder: Path) -> BoxKey:
    """The key in the folder, made when it is missing, in a file of mode 0600.

    Raises:
        PlatformError: the file is damaged.
    """
    path = folder / _KEY_FILE
    if not path.exists():
        write_atomically(path, base64.b64encode(PrivateKey.generate().encode()))
    try:
        private = base64.b64decode(path.read_bytes(), validate=True)
    except (OSError, binascii.Error):
        private = b""
    if len(private) != _KEY_BYTES:
        raise PlatformError(
            f"'{path}' does not hold a key of {_KEY_BYTES} bytes",
            hint="Remove it; the next start makes a new one.",
        )
    return BoxKey(private)


def _decode(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{what} is not base64") from None
