"""The command line: one verb a file below ``commands``. Heavy modules are imported where they are used."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Annotated

import typer

from tailrace import __version__
from tailrace.cli.commands import (
    build,
    completion,
    deploy,
    describe,
    diff,
    doctor,
    generate,
    invoke,
    list,
    llm,
    login,
    logout,
    logs,
    namespace,
    new,
    publish,
    push,
    queue,
    ready,
    reload,
    remove,
    runs,
    scale,
    secret,
    serve,
    store,
    template,
    up,
    version,
    watchdog,
    worker,
)
from tailrace.cli.result import FAILED, error_for, exit_code_of, print_error
from tailrace.cli.usage import Command
from tailrace.errors import PlatformError, TailraceError

app = typer.Typer(
    name="tailrace",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# What writing to a file may come to that has no room, or no disk behind it any more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# In the order a person meets them.
_VERBS = (
    ("new", new, "Make a function."),
    ("up", up, "Run a stack file here; every save is deployed."),
    ("invoke", invoke, "Call a function, print its answer as it comes."),
    ("logs", logs, "Print what a function wrote."),
    ("list", list, "List the functions."),
    ("describe", describe, "Show one function and its last error."),
    ("ready", ready, "Wait until a gateway or a function is ready."),
    ("deploy", deploy, "Deploy a stack file to a gateway."),
    ("build", build, "Build a stack file's functions onto a gateway."),
    ("publish", publish, "The same as build: there is no registry."),
    ("push", push, "Check that a gateway has the images."),
    ("diff", diff, "Compare a stack file with what is deployed."),
    ("generate", generate, "Print manifests for Kubernetes."),
    ("remove", remove, "Remove functions."),
    ("scale", scale, "Set how many replicas a function has."),
    ("serve", serve, "Run the gateway for a server."),
    ("worker", worker, "Make asynchronous calls apart from a gateway."),
    ("reload", reload, "Have `serve` read its settings again."),
    ("login", login, "Keep a gateway's password."),
    ("logout", logout, "Forget a gateway's password."),
    ("doctor", doctor, "Check this machine."),
    ("watchdog", watchdog, "Run any program as a function."),
    ("completion", completion, "Print a script for the shell."),
    ("version", version, "Print the version."),
)
for _name, _module, _words in _VERBS:
    app.command(_name, short_help=_words, cls=Command)(_module.command)
app.add_typer(llm.app, name="llm", short_help="Run a small local model, or a mock.")
app.add_typer(namespace.app, name="namespace", short_help="Create, list and remove namespaces.")
app.add_typer(queue.app, name="queue", short_help="List and mend asynchronous calls.")
app.add_typer(runs.app, name="runs", short_help="List, watch and stop recorded runs.")
app.add_typer(secret.app, name="secret", short_help="Create, list and remove secrets.")
app.add_typer(store.app, name="store", short_help="List and deploy ready-made functions.")
app.add_typer(template.app, name="template", short_help="List templates, and pull those of others.")


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"tailrace {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Functions that stream: every piece of an answer reaches the caller the moment it exists.

    \b
    Begin:
      tailrace new hello             make a function
      tailrace up                    run it; every save is deployed
      tailrace invoke hello -d Ada   call it (or: curl -N http://127.0.0.1:8080/function/hello -d Ada)
    """


def main() -> None:
    """The console script. An error of ours is message and hint on stderr, never a traceback."""
    _fill_streams()
    try:
        _run()
    except BrokenPipeError:  # the reader of our output has left: `up | head`
        _drop_output()
        raise SystemExit(FAILED) from None
    except OSError as failed:
        if failed.errno not in _FULL:
            raise
        with contextlib.suppress(OSError):  # stderr may be the same file
            print_error(PlatformError(f"what is said cannot be written: {failed.strerror}"))
        _drop_output()
        raise SystemExit(FAILED) from None


def _run() -> None:
    """The command; errors of ours are told.

    Raises:
        BrokenPipeError: nobody reads what is said.
    """
    try:
        if sys.argv[1:] in (["version"], ["--version"]):
            version.command()  # reading options loads 80 ms of modules; scripts that ask this give none
        completion.answer_shell()
        app()
    except TailraceError as error:
        print_error(error)
        raise SystemExit(exit_code_of(error)) from None
    except BaseExceptionGroup as group:  # from a task group; one of ours in it is what the person needs
        if group.subgroup(BrokenPipeError):
            raise BrokenPipeError from None
        ours = group.subgroup(lambda error: error_for(error) is not None)
        if ours is None:
            raise
        told = error_for(_first(ours))
        assert told is not None, "it was looked for"
        print_error(told)
        raise SystemExit(exit_code_of(told)) from None
    except (OSError, RuntimeError) as failed:
        told = error_for(failed)
        if told is None:
            raise
        print_error(told)
        raise SystemExit(exit_code_of(told)) from None


def _fill_streams() -> None:
    """Put /dev/null where a standard stream is closed: else the next file or socket would get its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:  # as Python leaves it
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  # kept


def _drop_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter's last flush finds no broken pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
