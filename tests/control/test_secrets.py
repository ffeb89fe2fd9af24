"""Secrets as they arrive: how large one may be, and who of several makes it."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import httpx
import pytest

from tailrace.provider.contract import SECRET_LIMIT
from tests.kit.gateway import Town
from tests.kit.loops import run

RACERS = 12


def kept(town: Town, name: str) -> bytes:
    return (town.work.parent / "state" / "secrets" / "openfaas-fn" / name).read_bytes()


def from_file(name: str, value: bytes) -> bytes:
    """The body of ``faas-cli secret create --from-file``, as Go writes JSON: the value twice."""
    text = json.dumps(value.decode(errors="replace"), ensure_ascii=True)
    raw = base64.b64encode(value).decode()
    return f'{{"name":"{name}","value":{text},"rawValue":"{raw}"}}'.encode()


FULL = {
    "text": b"a" * SECRET_LIMIT,
    "zeros": bytes(SECRET_LIMIT),
    "bytes": bytes(range(256)) * (SECRET_LIMIT // 256),
    "no-utf8": b"\xff" * SECRET_LIMIT,
}


@pytest.mark.parametrize("name", FULL)
def test_a_value_of_a_whole_mebibyte_is_taken_whatever_is_in_it(town: Town, name: str) -> None:
    """The limit is the value's, not that of the JSON and base64 around it; replaced it may be as large."""
    value = FULL[name]
    bodies = [
        ("POST", from_file(name, value)),
        ("PUT", json.dumps({"name": name, "rawValue": base64.b64encode(value).decode()}).encode()),
    ]
    with town.http() as http:
        replies = [http.request(method, "/system/secrets", content=body) for method, body in bodies]

    assert [202, 202] == [reply.status_code for reply in replies], replies[0].text
    assert value == kept(town, name)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_value_of_one_byte_more_is_refused(town: Town, method: str) -> None:
    """413 that says how large it is and may be; a secret that was there keeps its value."""
    with town.http() as http:
        http.post("/system/secrets", json={"name": "large", "value": "small"})
        name = "large" if method == "PUT" else "larger"
        reply = http.request(method, "/system/secrets", content=from_file(name, b"a" * (SECRET_LIMIT + 1)))
        listed = [secret["name"] for secret in http.get("/system/secrets").json()]

    assert 413 == reply.status_code
    assert "1,048,577 bytes; at most 1,048,576" in reply.text
    assert b"small" == kept(town, "large")
    assert "larger" not in listed


def test_of_several_who_create_a_secret_at_once_one_does(town: Town) -> None:
    """The others are told that it is there, and what is kept is the whole value of the one."""
    values = [bytes([65 + n]) * SECRET_LIMIT for n in range(RACERS)]

    async def race() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=town.url, timeout=60) as http:
            bodies = [{"name": "raced", "value": value.decode()} for value in values]
            return await asyncio.gather(*(http.post("/system/secrets", json=body) for body in bodies))

    statuses = [reply.status_code for reply in run(race())]

    assert [202] + [409] * (RACERS - 1) == sorted(statuses)
    assert values[statuses.index(202)] == kept(town, "raced")


def test_nothing_half_written_is_seen_or_left(town: Town) -> None:
    """Who reads while a secret is replaced again and again finds one of its values, whole."""
    values = [bytes([65 + n]) * SECRET_LIMIT for n in range(4)]
    with town.http() as http:
        http.post("/system/secrets", json={"name": "turning", "value": values[0].decode()})

    async def turn() -> set[bytes]:
        seen = set()
        async with httpx.AsyncClient(base_url=town.url, timeout=60) as http:
            puts = [
                asyncio.create_task(
                    http.put("/system/secrets", json={"name": "turning", "value": value.decode()})
                )
                for value in values
            ]
            while not all(put.done() for put in puts):
                seen.add(kept(town, "turning"))
                await asyncio.sleep(0.001)
            assert {202} == {put.result().status_code for put in puts}
        return seen

    assert run(turn()) <= set(values)
    folder = Path(town.work.parent / "state" / "secrets" / "openfaas-fn")
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
