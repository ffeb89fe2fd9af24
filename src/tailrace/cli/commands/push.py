"""``tailrace push``: whether a gateway has the images of a stack file; there is no registry to push to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tailrace.cli.options import AsJson, Envsubst, Filter, GatewayOrStack, Regex, StackFile, Tag, TagMode
from tailrace.cli.result import FAILED, Result, finish, print_error
from tailrace.cli.terminal import plain
from tailrace.errors import NotFound

if TYPE_CHECKING:
    from tailrace.client import Client


def command(
    file: StackFile = None,
    gateway: GatewayOrStack = None,
    filter: Filter = None,
    regex: Regex = None,
    envsubst: Envsubst = True,
    tag: Tag = TagMode.LATEST,
    as_json: AsJson = False,
) -> None:
    """Check that a gateway has the images of a stack file. `tailrace build` has put them there.

    There is no registry to push to. One that is missing is told with what to run, and the exit code is 1.

    \b
    Examples:
      tailrace push -f stack.yaml
    """
    from tailrace.cli.imagetags import as_chosen
    from tailrace.cli.session import chosen_gateway, with_client
    from tailrace.cli.stackfile import find_stack_file, load_stack

    stack = load_stack(find_stack_file(file, Path.cwd()), os.environ, expand=envsubst)
    selected = stack.select(pattern=filter, regex=regex)
    functions = as_chosen(selected, tag=tag, builtin=True, folder=stack.path.parent)

    async def use(client: Client) -> Result:
        lines, data = [], []
        for function in functions:
            try:
                digest = await client.find_image(function.image)
            except NotFound as missing:
                print_error(missing)
                digest = ""
            else:
                lines.append(
                    f"{function.name.short}: {plain(function.image)} is there, sha256:{plain(digest)}"
                )
            data.append({"name": function.name.short, "image": function.image, "digest": digest})
        is_complete = len(lines) == len(functions)
        return Result("\n".join(lines), data, exit_code=0 if is_complete else FAILED)

    finish(with_client(chosen_gateway(gateway, stack.gateway), use), as_json=as_json)
