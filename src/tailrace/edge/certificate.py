"""The certificate that the edge answers HTTPS with, and its exchange while it runs."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from tailrace.errors import InvalidRequest
from tailrace.settings import Settings

# A chain has some KiB.
_FILE_BYTES = 1024 * 1024


class Certificate:
    """A certificate chain and its private key, from two PEM files.

    Attributes:
        context: What a listener speaks TLS with. It stays the same object over every `reload`.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self._current = _open_context(cert, key)
        self.context = _open_context(cert, key)
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Read the files again: connections made from now on get what is in them.

        Raises:
            InvalidRequest: they cannot be used; the certificate stays the one it was.
        """
        # A context of its own, exchanged whole: one that loads a certificate without its key has neither.
        self._current = _open_context(self._cert, self._key)

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called at every handshake, whether the client names a server or not."""
        del name, context
        connection.context = self._current


def open_certificate(settings: Settings) -> Certificate | None:
    """The certificate of the settings; None when they name none.

    Raises:
        InvalidRequest: only one of the two files is given, one cannot be read or is not what it should be,
            or everybody on this machine could read the key.
    """
    cert, key = settings.tls_cert, settings.tls_key
    if cert and key:
        return Certificate(cert, key)
    if cert or key:
        given, missing = ("tls_cert", "tls_key") if cert else ("tls_key", "tls_cert")
        raise InvalidRequest(
            f"{given} is given without {missing}; HTTPS needs both",
            hint=f"Add --{missing.replace('_', '-')} FILE.",
        )
    return None


def _open_context(cert: Path, key: Path) -> ssl.SSLContext:
    _check_file("tls_cert", cert, b"-----BEGIN CERTIFICATE-----", "certificate")
    _check_file("tls_key", key, b"PRIVATE KEY-----", "private key")
    _check_private(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # A client of TLS 1.2 could ask for new handshakes without end, each costing us more than it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(cert, key, password=lambda: _refuse_encrypted(key))
    except ssl.SSLError as failed:
        raise _explain(cert, key, failed) from failed
    return context


def _check_file(name: str, path: Path, mark: bytes, what: str) -> None:
    """OpenSSL would not tell which of the two files it means."""
    try:
        with path.open("rb") as file:
            is_there = mark in file.read(_FILE_BYTES)
    except OSError as failed:
        raise InvalidRequest(f"{name} '{path}' cannot be read: {failed.strerror}") from failed
    if not is_there:
        raise InvalidRequest(f"{name} '{path}' holds no {what} in PEM form")


def _check_private(key: Path) -> None:
    # Its group may read it: that is how a key is shared with those who renew it.
    if key.stat().st_mode & stat.S_IROTH:
        raise InvalidRequest(
            f"tls_key '{key}' can be read by everybody on this machine", hint=f"chmod o-rwx '{key}'"
        )


def _refuse_encrypted(key: Path) -> str:
    raise InvalidRequest(
        f"tls_key '{key}' is encrypted, and nobody is there to type its password",
        hint="Decrypt it into a file of mode 0600: openssl pkey -in KEY -out FILE",
    )


def _explain(cert: Path, key: Path, failed: ssl.SSLError) -> InvalidRequest:
    if failed.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return InvalidRequest(
            f"tls_key '{key}' does not belong to tls_cert '{cert}'",
            hint="In a chain the server's own certificate comes first.",
        )
    why = (failed.reason or str(failed)).replace("_", " ").lower()
    return InvalidRequest(f"tls_cert '{cert}' and tls_key '{key}' cannot be used: {why}")
