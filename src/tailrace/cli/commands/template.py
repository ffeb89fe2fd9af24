"""``tailrace template``: what functions are made of: ours, and those pulled from others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, StackFile
from tailrace.cli.result import Result, as_usage, finish, print_note, print_words
from tailrace.cli.usage import Command
from tailrace.errors import NotFound
from tailrace.names import nearest

if TYPE_CHECKING:
    from tailrace.cli.templates import Pulled, Source, StoreTemplate

app = typer.Typer(
    no_args_is_help=True, help="List templates, and pull those of others.", rich_markup_mode=None
)
store = typer.Typer(no_args_is_help=True, help="Templates that a store lists.", rich_markup_mode=None)
app.add_typer(store, name="store", short_help="List, describe and pull templates of a store.")

StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        "-u",
        envvar="OPENFAAS_TEMPLATE_STORE_URL",
        show_envvar=False,
        metavar="URL",
        help="The store: an address or a file. Default: $OPENFAAS_TEMPLATE_STORE_URL, else OpenFaaS's.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace templates that are there.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The template.")]


@app.command("list", short_help="List the templates there are here.", cls=Command)
def list_(as_json: AsJson = False) -> None:
    """List Tailrace's own templates, and those in ./template.

    One in ./template is used before one of ours of the same name.

    \b
    Examples:
      tailrace template list
    """
    finish(listed(), as_json=as_json)


@app.command("pull", short_help="Pull templates from a git repository or a folder.", cls=Command)
def pull(
    repository: Annotated[
        str,
        typer.Argument(metavar="URL[#REF]", help="A git address, a folder, or 'stack' for the stack file's."),
    ],
    file: StackFile = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Put the templates of a repository into ./template, where `new`, `build`, `deploy` and `up` find them.

    REF is a branch, a tag, or sha-<commit>. 'stack' pulls what the stack file's configuration.templates name.

    \b
    Examples:
      tailrace template pull https://github.com/openfaas/python-flask-template
      tailrace template pull https://git.example.com/templates.git#v1.2
      tailrace template pull ../our-templates
      tailrace template pull stack -f stack.yaml
    """
    from tailrace.cli.templates import parse_source

    if repository == "stack":
        finish(_pull_stack(file, overwrite), as_json=as_json)
    with as_usage():
        source = parse_source(repository)
    finish(_pull([(None, source)], overwrite), as_json=as_json)


@store.command("list", short_help="List a store's templates.", cls=Command)
def store_list(
    url: StoreUrl = None,
    recommended: Annotated[bool, typer.Option("--recommended", help="Only those it recommends.")] = False,
    official: Annotated[bool, typer.Option("--official", help="Only its owner's.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the templates of a store.

    \b
    Examples:
      tailrace template store list
      tailrace template store list --url https://git.example.com/templates.json
    """
    import msgspec

    from tailrace.cli.columns import columns

    found = [
        t for t in _read_store(url)
        if (t.recommended or not recommended) and (t.official == "true" or not official)
    ]  # fmt: skip
    rows = [("NAME", "LANGUAGE", "SOURCE", "DESCRIPTION")]
    rows += [(t.template, t.language, t.source, t.description) for t in found]
    finish(Result(columns(rows), msgspec.to_builtins(found)), as_json=as_json)


@store.command("describe", short_help="Show one template of a store.", cls=Command)
def store_describe(name: Name, url: StoreUrl = None, as_json: AsJson = False) -> None:
    """Show what a store says about a template.

    \b
    Examples:
      tailrace template store describe python3-http
    """
    import msgspec

    from tailrace.cli.columns import fields

    found = _find(name, url)
    rows = {
        "Name": found.template,
        "Language": found.language,
        "Description": found.description,
        "Source": found.source,
        "Repository": found.repo,
        "Platform": found.platform,
        "Official": "yes" if found.official == "true" else "no",
    }
    finish(Result("\n".join(fields(rows.items())), msgspec.to_builtins(found)), as_json=as_json)


@store.command("pull", short_help="Pull a template that a store lists.", cls=Command)
def store_pull(
    name: Name, url: StoreUrl = None, overwrite: Overwrite = False, as_json: AsJson = False
) -> None:
    """Put one template of a store into ./template.

    \b
    Examples:
      tailrace template store pull golang-middleware
    """
    from tailrace.cli.templates import parse_source

    found = _find(name, url)
    finish(_pull([(found.template, parse_source(found.repo))], overwrite), as_json=as_json)


def listed() -> Result:
    """The templates there are here: ours, and those in ./template."""
    from tailrace.build.templates import find_template, template_names
    from tailrace.cli.columns import columns
    from tailrace.cli.templates import pulled, read_pulled

    here = pulled(Path.cwd())
    found = {name: ("tailrace", find_template(name).path) for name in template_names()}
    found |= {name: (f"./template/{name}", path) for name, path in here.items()}
    data = [
        {"name": name, "from": origin, "language": read_pulled(path).language or name}
        for name, (origin, path) in sorted(found.items())
    ]
    rows = [("NAME", "LANGUAGE", "FROM"), *((d["name"], d["language"], d["from"]) for d in data)]
    return Result(columns(rows), data)


def _pull(wanted: list[tuple[str | None, Source]], overwrite: bool) -> Result:
    from tailrace.cli.templates import pull as pull_from

    done: list[Pulled] = []
    for only, source in wanted:
        print_words(f"fetching {source.shown}{f' at {source.ref}' if source.ref else ''}")
        done += pull_from(source, Path.cwd(), is_overwriting=overwrite, only=only)
    notes = tuple(f"{p.name} is there already; --overwrite replaces it" for p in done if not p.is_new)
    lines = [f"pulled ./template/{p.name}" for p in done if p.is_new]
    return Result("\n".join(lines), [{"name": p.name, "pulled": p.is_new} for p in done], notes)


def _pull_stack(file: str | None, overwrite: bool) -> Result:
    from tailrace.cli.stacktemplates import templates_of_stack
    from tailrace.cli.templates import parse_source

    path, named = templates_of_stack(file, Path.cwd())
    if not named:
        print_note(f"{path.name} names no templates in configuration.templates")
    wanted: list[tuple[str | None, Source]] = [
        (name, parse_source(source or _find(name, None).repo)) for name, source in named.items()
    ]
    return _pull(wanted, overwrite)


def _read_store(url: str | None) -> list[StoreTemplate]:
    from tailrace.cli.documents import read_document
    from tailrace.cli.templates import STORE_URL, StoreTemplate

    return read_document(url or STORE_URL, list[StoreTemplate], "template store")


def _find(name: str, url: str | None) -> StoreTemplate:
    found = {t.template: t for t in _read_store(url)}
    if name not in found:
        near = nearest(name, found)
        hint = f"Did you mean '{near}'?" if near else "See: tailrace template store list"
        raise NotFound(f"the template store has no '{name}'", hint=hint)
    return found[name]
