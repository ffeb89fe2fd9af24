"""What the command line changes about a function before it is deployed: variables, labels, secrets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.errors import InvalidUsage
from tailrace.model import Resources
from tailrace.names import FunctionName, is_function_label, is_secret_name

if TYPE_CHECKING:
    from tailrace.cli.stackfile import StackFunction

_Texts = list[str] | None
Env = Annotated[_Texts, typer.Option("--env", "-e", metavar="K=V", help="A variable; may be given often.")]
Label = Annotated[_Texts, typer.Option("--label", "-l", metavar="K=V", help="A label; may be given often.")]
Annotation = Annotated[
    _Texts, typer.Option("--annotation", metavar="K=V", help="An annotation; may be given often.")
]
SecretNames = Annotated[
    _Texts, typer.Option("--secret", metavar="NAME", help="A secret it may read; may be given often.")
]
Constraint = Annotated[
    _Texts, typer.Option("--constraint", metavar="EXPR", help="Kept and shown; places nothing yet.")
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Remove the function first, instead of updating it in place.")
]


@dataclass(frozen=True, slots=True)
class Changes:
    """Options of a deploy. Pairs are added to what the function has; a text that is empty changes nothing."""

    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    namespace: str = ""
    fprocess: str = ""
    limits: Resources | None = None
    requests: Resources | None = None
    read_only: bool = False

    def apply(self, function: StackFunction) -> StackFunction:
        """The function with these changes."""
        name = FunctionName(function.name.name, self.namespace) if self.namespace else function.name
        return replace(
            function,
            name=name,
            env={**function.env, **self.env},
            labels={**function.labels, **self.labels},
            annotations={**function.annotations, **self.annotations},
            secrets=tuple(dict.fromkeys((*function.secrets, *self.secrets))),
            constraints=tuple(dict.fromkeys((*function.constraints, *self.constraints))),
            fprocess=self.fprocess or function.fprocess,
            limits=_merged(function.limits, self.limits),
            requests=_merged(function.requests, self.requests),
            read_only_root_filesystem=self.read_only or function.read_only_root_filesystem,
        )


def read_changes(
    *,
    env: _Texts = None,
    label: _Texts = None,
    annotation: _Texts = None,
    secret: _Texts = None,
    constraint: _Texts = None,
    namespace: str = "",
    fprocess: str = "",
    limits: Resources | None = None,
    requests: Resources | None = None,
    read_only: bool = False,
) -> Changes:
    """The options as changes.

    Raises:
        InvalidUsage: a pair is no pair, a name is no legal name.
    """
    for name in secret or ():
        if not is_secret_name(name):
            raise InvalidUsage(f"--secret {name} is no legal name of a secret")
    if namespace and not is_function_label(namespace):
        raise InvalidUsage(f"--namespace {namespace} is no legal name")
    return Changes(
        env=pairs("--env", env),
        labels=pairs("--label", label),
        annotations=pairs("--annotation", annotation),
        secrets=tuple(secret or ()),
        constraints=tuple(constraint or ()),
        namespace=namespace,
        fprocess=fprocess,
        limits=limits,
        requests=requests,
        read_only=read_only,
    )


def pairs(option: str, texts: Iterable[str] | None) -> dict[str, str]:
    """``K=V`` texts as a mapping; the last of a key wins.

    Raises:
        InvalidUsage: one has no key or no ``=``.
    """
    split = [text.partition("=") for text in texts or ()]
    for key, equals, value in split:
        if not key or not equals:
            raise InvalidUsage(f"{option} {key}{equals}{value} is not of the form KEY=VALUE")
    return {key: value for key, _, value in split}


def resources(memory: str, cpu: str) -> Resources | None:
    """A pair of options; None when neither is given."""
    return Resources(memory=memory, cpu=cpu) if memory or cpu else None


def _merged(old: Resources | None, new: Resources | None) -> Resources | None:
    if old is None or new is None:
        return new or old
    return Resources(memory=new.memory or old.memory, cpu=new.cpu or old.cpu)
