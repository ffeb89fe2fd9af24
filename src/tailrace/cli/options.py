"""Options that several commands share, so that they are named and explained once."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from tailrace.gateway_url import DEFAULT_GATEWAY


class TagMode(enum.StrEnum):
    """Where the tag of an image comes from."""

    LATEST = "latest"
    SHA = "sha"
    BRANCH = "branch"
    DESCRIBE = "describe"
    DIGEST = "digest"


Gateway = Annotated[
    str | None,
    typer.Option(
        "--gateway",
        "-g",
        envvar="OPENFAAS_URL",
        metavar="URL",
        show_envvar=False,
        help=f"The gateway to talk to. Default: $OPENFAAS_URL, else {DEFAULT_GATEWAY}.",
    ),
]
GatewayOrStack = Annotated[
    str | None,
    typer.Option(
        "--gateway",
        "-g",
        metavar="URL",
        help=f"The gateway. Default: the stack file's if that is not {DEFAULT_GATEWAY}, else $OPENFAAS_URL, "
        "else that address.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NS", help="Namespace. Default: openfaas-fn.")
]
StackFile = Annotated[
    str | None,
    typer.Option("--file", "-f", metavar="FILE", help="The stack file. Default: stack.yaml, then stack.yml."),
]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="GLOB", help="Only functions whose name matches: 'web-*'.")
]
Regex = Annotated[
    str | None,
    typer.Option("--regex", metavar="EXPR", help="Only functions whose name matches the expression."),
]
Envsubst = Annotated[
    bool, typer.Option("--envsubst/--no-envsubst", help="Replace ${VAR:-default} in the stack file.")
]
Tag = Annotated[
    TagMode,
    typer.Option(
        "--tag",
        help="Where the image's tag comes from: as written, git's sha, branch, describe, or a digest.",
    ),
]
Builtin = Annotated[
    bool,
    typer.Option(
        "--builtin/--no-builtin",
        help="Let Tailrace's runtime serve stock templates that it has itself, instead of their own server.",
    ),
]
FunctionArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The function: NAME or NAME.NAMESPACE.")
]
Wait = Annotated[bool, typer.Option(help="Wait until the new code answers.")]
