"""What every provider must do, as checks that anyone can run on their own.

Each check takes a fresh `Subject`. With pytest::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_conforms(check): asyncio.run(run_check(check, open_my_subject))
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from tailrace.errors import HandlerNotLoaded, InvalidDeployment, InvalidRequest, NotFound, TailraceError
from tailrace.model import FunctionSpec, Namespace
from tailrace.names import FunctionName
from tailrace.provider.contract import Address, Provider

Behaviour = Literal["answers", "cannot-load", "never-loads", "stubborn"]
_CHECK_TIMEOUT_S = 60.0
_Error = TypeVar("_Error", bound=TailraceError)


@dataclass(frozen=True, slots=True)
class Subject:
    """A provider under test, keeping deployments, and a way to make functions for it.

    ``make_spec(name, behaviour)`` gives the spec of a function whose handler: ``answers`` calls;
    ``cannot-load`` (its import fails); ``never-loads`` (its import does not end); ``stubborn`` (does not
    end when it is asked to).
    """

    provider: Provider
    make_spec: Callable[[str, Behaviour], Awaitable[FunctionSpec]]


Check = Callable[[Subject], Awaitable[None]]
OpenSubject = Callable[[], AbstractAsyncContextManager[Subject]]


async def run_check(check: Check, open_subject: OpenSubject) -> None:
    """Run one check on a fresh subject.

    Raises:
        AssertionError: the provider does not conform; the text says how.
        TimeoutError: the check did not end within 60 s.
    """
    async with asyncio.timeout(_CHECK_TIMEOUT_S), open_subject() as subject:
        await check(subject)


async def check_provider(open_subject: OpenSubject) -> None:
    """Run all checks, each on a fresh subject; raises as `run_check` at the first that fails."""
    for check in CHECKS:
        await run_check(check, open_subject)


async def a_started_replica_answers(subject: Subject) -> None:
    """``start`` returns only when connections are accepted and the health route is green."""
    replica = await subject.provider.start(await subject.make_spec("f", "answers"), "f-1")

    status = await _ask_health(replica.address)
    _expect(replica.id == "f-1", f"the replica's id is {replica.id}, not f-1")
    _expect(status == b"HTTP/1.1 200", f"/_/health answered {status!r}")
    _expect(replica.import_s >= 0 and replica.pid >= 0, "import_s or pid is negative")


async def replicas_of_one_function_are_apart(subject: Subject) -> None:
    """Two replicas have two addresses, and the end of one leaves the other."""
    spec = await subject.make_spec("f", "answers")
    first, second = await asyncio.gather(
        subject.provider.start(spec, "f-1"), subject.provider.start(spec, "f-2")
    )

    await first.stop(0)
    _expect(first.address != second.address, "both replicas have one address")
    _expect(await _ask_health(second.address) == b"HTTP/1.1 200", "the second replica died with the first")


async def preparing_is_idempotent(subject: Subject) -> None:
    """``prepare`` may be called at once and again."""
    spec = await subject.make_spec("f", "answers")

    await asyncio.gather(*(subject.provider.prepare(spec) for _ in range(3)))
    await subject.provider.prepare(spec)


async def an_unknown_bundle_is_not_found(subject: Subject) -> None:
    """``prepare`` and ``start`` say NotFound when the code is not there."""
    spec = replace(await subject.make_spec("f", "answers"), bundle="0" * 64)

    await _expect_error(NotFound, subject.provider.prepare(spec))
    await _expect_error(NotFound, subject.provider.start(spec, "f-1"))


async def a_handler_that_cannot_load_is_told(subject: Subject) -> None:
    """``start`` raises HandlerNotLoaded with a text, and works again for the next function."""
    spec = await subject.make_spec("bad", "cannot-load")

    error = await _expect_error(HandlerNotLoaded, subject.provider.start(spec, "bad-1"))
    _expect(bool(error.message), "the error has no text")
    await subject.provider.start(await subject.make_spec("good", "answers"), "good-1")


async def a_cancelled_start_leaves_nothing(subject: Subject) -> None:
    """Cancelling ``start`` ends it soon, and the provider goes on."""
    spec = await subject.make_spec("slow", "never-loads")
    start = asyncio.ensure_future(subject.provider.start(spec, "slow-1"))
    await asyncio.wait([start], timeout=0.3)

    start.cancel()
    await asyncio.wait([start], timeout=5)
    _expect(start.cancelled(), "start did not end within 5 s of its cancellation")
    await subject.provider.start(await subject.make_spec("good", "answers"), "good-1")


async def a_stopped_replica_is_gone(subject: Subject) -> None:
    """After ``stop`` nothing listens; ``stop`` and ``wait_exit`` may be called again, by many."""
    replica = await subject.provider.start(await subject.make_spec("f", "answers"), "f-1")
    waiting = [asyncio.ensure_future(replica.wait_exit()) for _ in range(3)]

    ends = [await replica.stop(5), await replica.stop(5), await replica.wait_exit()]
    ends += await asyncio.gather(*waiting)
    _expect(len(set(ends)) == 1, f"the end is told differently: {ends}")
    _expect(not await _is_listening(replica.address), "something still listens at the address")


async def a_stubborn_replica_is_killed_after_the_grace(subject: Subject) -> None:
    """``stop`` kills what does not end by itself."""
    replica = await subject.provider.start(await subject.make_spec("f", "stubborn"), "f-1")

    end = await asyncio.wait_for(replica.stop(0.2), 5)
    _expect(end.code != 0, "a killed replica ended with code 0")
    _expect(not await _is_listening(replica.address), "something still listens at the address")


async def a_second_stop_may_be_harder(subject: Subject) -> None:
    """``stop(0)`` kills at once while an earlier stop still waits out its grace; both return."""
    replica = await subject.provider.start(await subject.make_spec("f", "stubborn"), "f-1")
    gentle = asyncio.ensure_future(replica.stop(600))
    await asyncio.sleep(0)

    end = await asyncio.wait_for(replica.stop(0), 5)
    _expect(await asyncio.wait_for(gentle, 5) == end, "the two stops tell different ends")


async def a_missing_secret_is_named(subject: Subject) -> None:
    """``start`` refuses a function whose secret does not exist, and starts it once it does."""
    spec = replace(await subject.make_spec("f", "answers"), secrets=("api-key",))

    error = await _expect_error(InvalidDeployment, subject.provider.start(spec, "f-1"))
    _expect("api-key" in error.message, "the text does not name the secret")
    await subject.provider.set_secret(spec.name.namespace, "api-key", b"x")
    await subject.provider.start(spec, "f-2")


async def secrets_are_kept_by_namespace(subject: Subject) -> None:
    """Secrets are listed sorted, replaced, removed once, and apart from other namespaces'."""
    provider = subject.provider
    for namespace, name in [("one", "b"), ("one", "a"), ("two", "c"), ("one", "a")]:
        await provider.set_secret(namespace, name, b"\x00\xff value\n")

    _expect(await provider.list_secrets("one") == ["a", "b"], "the list is not the sorted names")
    _expect(await provider.list_secrets("none") == [], "a namespace without secrets has some")
    _expect(await provider.remove_secret("one", "a"), "removing an existing secret said False")
    _expect(not await provider.remove_secret("one", "a"), "removing a missing secret said True")
    _expect(await provider.list_secrets("one") == ["b"], "the removed secret is still listed")


async def one_of_several_creates_a_secret(subject: Subject) -> None:
    """Of those who create one at once one succeeds; replacing one needs that it is there."""
    provider = subject.provider

    _expect(not await provider.set_secret("one", "a", b"x", is_there=True), "a missing secret was replaced")
    created = await asyncio.gather(
        *(provider.set_secret("one", "a", bytes([n]), is_there=False) for n in range(8))
    )
    _expect(created.count(True) == 1, f"{created.count(True)} of 8 created one secret")
    _expect(
        await provider.set_secret("one", "a", b"x", is_there=True), "a secret that is there was not replaced"
    )
    _expect(await provider.set_secret("one", "a", b"y"), "a secret was not set")


async def namespaces_are_kept(subject: Subject) -> None:
    """A saved namespace is listed with what was written about it, replaced, and dropped once."""
    provider = subject.provider
    first, second = Namespace("b", labels={"l": "ü"}, annotations={"a": ""}), Namespace("a")
    for namespace in (first, second):
        await provider.save_namespace(namespace)
    _expect(await provider.list_namespaces() == [second, first], "the list is not what was saved, sorted")
    await provider.save_namespace(Namespace("b"))
    _expect(await provider.list_namespaces() == [second, Namespace("b")], "the replaced one is not listed")
    _expect(await provider.forget_namespace("b"), "dropping an existing namespace said False")
    _expect(not await provider.forget_namespace("b"), "dropping a missing namespace said True")
    _expect(await provider.list_namespaces() == [second], "the dropped namespace is still listed")


async def odd_names_of_secrets_are_refused(subject: Subject) -> None:
    """No name reaches a place outside of the namespace."""
    for namespace, name in [
        ("one", "../x"),
        ("one", ""),
        ("one", "a/b"),
        ("one", ".x"),
        ("..", "x"),
        ("", "x"),
    ]:
        await _expect_error(InvalidRequest, subject.provider.set_secret(namespace, name, b"x"))
        await _expect_error(InvalidRequest, subject.provider.remove_secret(namespace, name))


async def deployments_are_kept(subject: Subject) -> None:
    """A saved spec comes back equal, is replaced by the next, and forgotten for good."""
    provider = subject.provider
    spec = FunctionSpec(
        FunctionName("f", "dev"), "registry/f:1", "a" * 64, env_process="x", env={"A": "1\n"},
        labels={"l": "ü"}, annotations={"a": ""}, secrets=("s",), constraints=("c",), created_at="now",
    )  # fmt: skip
    other = FunctionSpec(FunctionName("f"), "f", "b" * 64)
    await provider.save_spec(replace(spec, image="older"))
    for saved in (spec, other):
        await provider.save_spec(saved)

    _expect(sorted(await provider.load_specs(), key=str) == sorted([spec, other], key=str), "specs changed")
    await provider.forget_spec(spec.name)
    await provider.forget_spec(spec.name)
    _expect(await provider.load_specs() == [other], "forgetting one did not leave the other")


async def closing_stops_every_replica(subject: Subject) -> None:
    """After ``aclose`` nothing of the provider's runs."""
    started = [
        await subject.provider.start(await subject.make_spec("f", behaviour), f"f-{number}")
        for number, behaviour in enumerate[Behaviour](("answers", "stubborn"))
    ]

    await asyncio.wait_for(subject.provider.aclose(), 5)
    for replica in started:
        await asyncio.wait_for(replica.wait_exit(), 1)
        _expect(not await _is_listening(replica.address), f"replica {replica.id} still listens")


CHECKS: tuple[Check, ...] = (
    a_started_replica_answers,
    replicas_of_one_function_are_apart,
    preparing_is_idempotent,
    an_unknown_bundle_is_not_found,
    a_handler_that_cannot_load_is_told,
    a_cancelled_start_leaves_nothing,
    a_stopped_replica_is_gone,
    a_stubborn_replica_is_killed_after_the_grace,
    a_second_stop_may_be_harder,
    a_missing_secret_is_named,
    secrets_are_kept_by_namespace,
    one_of_several_creates_a_secret,
    namespaces_are_kept,
    odd_names_of_secrets_are_refused,
    deployments_are_kept,
    closing_stops_every_replica,
)


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise AssertionError(otherwise)


async def _expect_error(kind: type[_Error], act: Awaitable[object]) -> _Error:
    try:
        await act
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


async def _ask_health(address: Address) -> bytes:
    """The first bytes of the answer: version and status."""
    reader, writer = await _connect(address)
    try:
        writer.write(b"GET /_/health HTTP/1.1\r\nHost: f\r\nConnection: close\r\n\r\n")
        return await reader.readexactly(len(b"HTTP/1.1 200"))
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _is_listening(address: Address) -> bool:
    try:
        _, writer = await _connect(address)
    except (ConnectionError, FileNotFoundError):
        return False
    writer.close()
    return True


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.path:
        return await asyncio.open_unix_connection(address.path)
    return await asyncio.open_connection(address.host, address.port)
