"""``tailrace generate``: a stack file's functions as manifests for Kubernetes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tailrace.cli.options import AsJson, Envsubst, Filter, Namespace, Regex, StackFile, Tag, TagMode
from tailrace.cli.result import Result, finish


def command(
    file: StackFile = None,
    filter: Filter = None,
    regex: Regex = None,
    envsubst: Envsubst = True,
    tag: Tag = TagMode.LATEST,
    api: Annotated[
        str, typer.Option("--api", metavar="API", help="openfaas.com/v1, or serving.knative.dev/v1.")
    ] = "openfaas.com/v1",
    namespace: Namespace = "",
    as_json: AsJson = False,
) -> None:
    """Print a stack file's functions as manifests: OpenFaaS's Function, or Knative's Service.

    \b
    Examples:
      tailrace generate > functions.yaml
      tailrace generate --api serving.knative.dev/v1 --filter hello
    """
    from tailrace.cli.changes import read_changes
    from tailrace.cli.imagetags import as_chosen
    from tailrace.cli.manifests import manifests, to_yaml
    from tailrace.cli.stackfile import find_stack_file, load_stack

    stack = load_stack(find_stack_file(file, Path.cwd()), os.environ, expand=envsubst)
    chosen = as_chosen(
        stack.select(pattern=filter, regex=regex), tag=tag, builtin=True, folder=stack.path.parent
    )
    changed = read_changes(namespace=namespace)
    found = manifests([changed.apply(function) for function in chosen], api)
    finish(Result(to_yaml(found), found), as_json=as_json)
