"""Names of functions, namespaces and secrets: what is legal and how they are written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tailrace.errors import InvalidDeployment

DEFAULT_NAMESPACE = "openfaas-fn"

# RFC 1123 label, as OpenFaaS requires of a service name; 63 is DNS's limit for one label.
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
# RFC 1123 subdomain: what a Kubernetes secret may be called.
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
# C0, DEL and C1: what a terminal obeys, and what ends a line in a list or a log.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True, order=True)
class FunctionName:
    """A function's full name. ``str()`` gives ``name.namespace``, the form metrics and URLs use."""

    name: str
    namespace: str = DEFAULT_NAMESPACE

    def __str__(self) -> str:
        return f"{self.name}.{self.namespace}"

    @property
    def short(self) -> str:
        """The name as a person types it: without the namespace when it is the default one."""
        return self.name if self.namespace == DEFAULT_NAMESPACE else str(self)


def is_function_label(text: str) -> bool:
    """Whether text can be a function's or namespace's name: an RFC 1123 label of at most 63 characters."""
    return _LABEL.fullmatch(text) is not None


def parse_function_name(text: str) -> FunctionName | None:
    """``fn`` or ``fn.namespace`` (split at the last dot); None when it is neither."""
    name, dot, namespace = text.rpartition(".")
    if not dot:
        name, namespace = text, DEFAULT_NAMESPACE
    if is_function_label(name) and is_function_label(namespace):
        return FunctionName(name, namespace)
    return None


def check_function_name(name: str, namespace: str = "") -> FunctionName:
    """The full name of a deployment.

    Raises:
        InvalidDeployment: either part is no DNS label. The texts are OpenFaaS's (contract 1.3).
    """
    if not name:
        raise InvalidDeployment("validation failed: service: is required")
    if not is_function_label(name):
        raise InvalidDeployment(
            f"validation failed: service: ({name}) is invalid, must be a valid DNS entry",
            hint="Use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.",
        )
    if namespace and not is_function_label(namespace):
        raise InvalidDeployment(
            f"validation failed: namespace: ({namespace}) is invalid, must be a valid DNS entry"
        )
    return FunctionName(name, namespace or DEFAULT_NAMESPACE)


def is_secret_name(text: str) -> bool:
    """Whether text can name a secret: an RFC 1123 subdomain, which can be no path."""
    return _SUBDOMAIN.fullmatch(text) is not None and ".." not in text


def check_pairs(what: str, pairs: Mapping[str, str], *, with_lines: bool = False) -> None:
    """Refuse labels or annotations that hold control characters.

    Args:
        with_lines: Values may hold tabs and line ends, as annotations of Kubernetes do.
    Raises:
        InvalidDeployment: the first of them; the text begins with ``validation failed``.
    """
    of_values = _CONTROL_BUT_LINES if with_lines else _CONTROL
    for key, value in pairs.items():
        if _CONTROL.search(key) or of_values.search(value):
            raise InvalidDeployment(f"validation failed: {what} {key[:80]!a} holds control characters")


def read_queues(text: str) -> tuple[str, ...]:
    """Names of queues with commas between them; ``("all",)`` for every one, empty for ``off``.

    Raises:
        ValueError: with what is expected.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if found == ("off",):
        return ()
    if not found or not all(is_function_label(name) for name in found) or "off" in found:
        raise ValueError("all, off, or names of queues with commas between them")
    return ("all",) if "all" in found else found


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like a mistyped one, or None when nothing is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
