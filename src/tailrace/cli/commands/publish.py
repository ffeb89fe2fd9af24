"""``tailrace publish``: what `build` does, under the name it has where there is a registry."""

from __future__ import annotations

import functools

from tailrace.cli.commands import build


@functools.wraps(build.command)
def command(*given: object, **options: object) -> None:
    build.command(*given, **options)  # type: ignore[arg-type]  # its own signature is what is asked for


command.__doc__ = """Pack the functions of a stack file and put them onto a gateway, as `tailrace build` does.

    There is no registry: the gateway keeps what is built. `tailrace deploy` does this too.

    \b
    Examples:
      tailrace publish
      tailrace publish -f stack.yaml --filter hello --tag sha
    """
