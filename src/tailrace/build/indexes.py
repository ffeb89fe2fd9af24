"""A private package index out of build secrets: for one build's installer, and kept nowhere."""

from __future__ import annotations

import configparser
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tailrace.errors import InvalidRequest

# Names of secrets as Dockerfiles of Python functions mount them, in lower case with '_' for '-' and '.'.
_CONF = frozenset(("pip", "pip_conf", "pipconf", "pip_ini"))
_DEFAULT = frozenset(("index_url", "pip_index_url", "uv_index_url", "uv_default_index"))
_EXTRA = frozenset(("extra_index_url", "pip_extra_index_url", "uv_extra_index_url", "uv_index"))
_ADDRESS = re.compile(r"https?://[\x21-\x7e]{1,2000}")
# What would stand against them among the gateway's own settings of the installer.
_REPLACED = ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL")


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """Where the packages of one build come from.

    Attributes:
        name: Names it without telling it: who knows the addresses alone cannot compute it.
    """

    name: str
    default: str = field(default="", repr=False)
    extra: tuple[str, ...] = field(default=(), repr=False)

    def installer_env(self, env: Mapping[str, str]) -> dict[str, str]:
        """The installer's variables with this index among them."""
        found = dict(env)
        if self.default:
            found = {key: value for key, value in found.items() if key not in _REPLACED}
            found["UV_DEFAULT_INDEX"] = self.default
        if self.extra:
            found["UV_INDEX"] = " ".join(self.extra)
        return found

    def redact(self, text: str) -> str:
        """The text without the addresses, however the installer writes them."""
        for address in (self.default, *self.extra):
            parts = urlsplit(address)
            host = parts.netloc.rpartition("@")[2]
            words = {address, f"{host}{parts.path}".rstrip("/"), parts.password or "", parts.username or ""}
            # Of a path, a part of over 8 letters may be a token: hidden wherever it stands.
            words |= {part for part in parts.path.split("/") if len(part) > 8}
            for word in sorted(words, key=len, reverse=True):
                if len(word) > 3:
                    text = text.replace(word, "***")
        return text


def find_index(secrets: Mapping[str, bytes], key: bytes) -> tuple[PackageIndex | None, tuple[str, ...]]:
    """The index that secrets tell of, if any, and the names of those secrets that told nothing.

    Args:
        key: Of this gateway alone; it makes the index's name.
    Raises:
        InvalidRequest: a secret that should hold addresses does not; its value is not told.
    """
    default, extra, unused = "", [], []
    for name, value in sorted(secrets.items()):
        kind = re.sub(r"[-.]", "_", name.lower()).strip("_")
        if kind in _CONF:
            found, more = _read_conf(name, value)
            default = found or default
            extra += more
        elif kind in _DEFAULT:
            default = _one_address(name, value)
        elif kind in _EXTRA:
            extra += list(_addresses(name, value))
        else:
            unused.append(name)
    if not default and not extra:
        return None, tuple(unused)
    told = "\n".join(["default", default, "extra", *extra]).encode()
    index = hmac.new(key, told, hashlib.sha256).hexdigest()
    return PackageIndex(index, default, tuple(extra)), tuple(unused)


def _read_conf(name: str, value: bytes) -> tuple[str, list[str]]:
    """``index-url`` and ``extra-index-url`` of a pip.conf."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(value.decode())
    except (configparser.Error, UnicodeDecodeError):
        raise _wrong(name, "no pip.conf") from None
    default, extra = "", []
    for section in ("global", "install"):
        for key, text in parser.items(section) if parser.has_section(section) else ():
            if key.replace("_", "-") == "index-url":
                default = _one_address(name, text.encode())
            elif key.replace("_", "-") == "extra-index-url":
                extra += list(_addresses(name, text.encode()))
    return default, extra


def _one_address(name: str, value: bytes) -> str:
    found = list(_addresses(name, value))
    if len(found) != 1:
        raise _wrong(name, f"{len(found)} addresses where one is expected")
    return found[0]


def _addresses(name: str, value: bytes) -> Iterator[str]:
    for word in value.decode("utf-8", "replace").split():
        if not _ADDRESS.fullmatch(word) or not _has_host(word):
            raise _wrong(name, "something else than addresses that begin with https://")
        yield word


def _has_host(address: str) -> bool:
    try:
        return bool(urlsplit(address).hostname)
    except ValueError:  # a bracket that nothing closes
        return False


def _wrong(name: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"build secret '{name[:80]}' holds {what}")
