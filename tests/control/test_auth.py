"""The admin's password: whose it is, how often it may be wrong, and what needs none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from tailrace.addresses import household
from tailrace.control.guard import Guard, open_auth
from tailrace.control.table import ROWS, Row
from tailrace.control.tries import ADDRESSES, LIMIT, WINDOW_S, Tries
from tailrace.errors import PlatformError
from tailrace.gateway import open_gateway
from tailrace.settings import load
from tests.kit.gateway import running_town
from tests.kit.loops import run


class Asked:
    """An application behind the guard: says 200 to whom it lets through."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def guarded(tmp_path: Path) -> tuple[httpx.AsyncClient, list[float]]:
    """A client of a guard with admin:secret, and the clock."""
    now = [1000.0]
    for name, text in {"basic-auth-user": "boss\n", "basic-auth-password": " s3cret \n"}.items():
        (tmp_path / name).write_text(text)
    auth, shown = open_auth(tmp_path / "state", tmp_path)
    assert shown is None
    guard = Guard(Asked(), auth, [("GET", "/healthz"), ("GET", "/run/{id}")], clock=lambda: now[0])
    transport = httpx.ASGITransport(guard)
    return httpx.AsyncClient(transport=transport, base_url="http://gw"), now


def ask(client: httpx.AsyncClient, password: str, address: str = "10.0.0.1", path: str = "/x") -> int:
    headers = {"X-Forwarded-For": address}
    asked = client.get(path, auth=("boss", password) if password else None, headers=headers)
    return run(asked).status_code


def test_openfaas_s_credential_files_are_honoured(
    guarded: tuple[httpx.AsyncClient, list[float]], tmp_path: Path
) -> None:
    """Trimmed; no password of our own is made then."""
    client, _ = guarded

    assert [200, 401, 401] == [ask(client, "s3cret"), ask(client, " s3cret"), ask(client, "")]
    assert not (tmp_path / "state" / "admin.json").exists()


def test_too_many_wrong_passwords_make_an_address_wait(
    guarded: tuple[httpx.AsyncClient, list[float]],
) -> None:
    """Even for the right one; another address is not concerned; after a minute all is well."""
    client, now = guarded

    wrong = [ask(client, f"guess-{n}") for n in range(LIMIT)]
    waiting = [ask(client, "s3cret"), ask(client, "guess")]
    others = [ask(client, "s3cret", "10.0.0.2"), ask(client, ""), ask(client, "", path="/healthz")]
    now[0] += WINDOW_S
    after = ask(client, "s3cret")

    assert [401] * LIMIT == wrong
    assert [429, 429] == waiting
    assert [200, 401, 200] == others
    assert 200 == after


def test_wrong_passwords_long_ago_do_not_count() -> None:
    tries = Tries()
    for second in range(LIMIT * 2):
        tries.fail("a", second * WINDOW_S / 5)

    assert 0.0 == tries.wait_s("a", LIMIT * 2 * WINDOW_S / 5)


def test_an_ipv6_client_is_counted_by_its_64(guarded: tuple[httpx.AsyncClient, list[float]]) -> None:
    """It may take any address of it; its neighbour in the /63 is somebody else."""
    client, _ = guarded

    wrong = [ask(client, f"guess-{n}", f"2001:db8:0:2:{n:x}::{n:x}") for n in range(LIMIT)]
    waiting = [ask(client, "s3cret", "2001:db8:0:2:ffff::"), ask(client, "s3cret", "2001:DB8::2:0:0:0:1")]
    others = [ask(client, "s3cret", "2001:db8:0:3::1"), ask(client, "s3cret", "10.0.0.1")]

    assert [401] * LIMIT == wrong
    assert [429, 429] == waiting
    assert [200, 200] == others


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("a:b", "a:b"),
    ],
)
def test_whom_an_address_belongs_to(address: str, counted: str) -> None:
    assert counted == household(address)


@pytest.mark.parametrize("form", ["10.{:x}", "2001:db8:{:x}::1", "2001:db8::{:x}"])
def test_addresses_that_are_remembered_are_bounded(form: str) -> None:
    """Of whatever kind, however many there are; the newest are known."""
    tries = Tries()
    for number in range(ADDRESSES * 2):
        for _ in range(LIMIT):
            tries.fail(form.format(number), 0.0)

    assert len(tries._failed) <= ADDRESSES
    assert tries.wait_s(form.format(ADDRESSES * 2 - 1), 0.0)


@pytest.mark.parametrize("text", ["", " \n", "\xff"])
def test_an_empty_or_unreadable_credential_file_stops_the_start(tmp_path: Path, text: str) -> None:
    """Better no gateway than one with an empty password."""
    (tmp_path / "basic-auth-user").write_text("admin")
    (tmp_path / "basic-auth-password").write_bytes(text.encode("latin-1"))

    with pytest.raises(PlatformError, match="basic-auth-password"):
        open_auth(tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["basic-auth-user", "basic-auth-password"])
@pytest.mark.parametrize("other", ["missing", "folder", "broken link", "circle"])
def test_half_of_the_credential_files_stops_the_start(tmp_path: Path, name: str, other: str) -> None:
    """No other password takes their place: neither the one that is kept already nor a new one."""
    mounted, state = tmp_path / "mounted", tmp_path / "state"
    mounted.mkdir()
    state.mkdir()
    open_auth(state, mounted)
    for path in (mounted / "basic-auth-user", mounted / "basic-auth-password"):
        path.write_text("text")
    (mounted / name).unlink()
    if other == "folder":
        (mounted / name).mkdir()
    elif other != "missing":
        (mounted / name).symlink_to("nowhere" if other == "broken link" else name)

    with pytest.raises(PlatformError, match=name):
        open_auth(state, mounted)


def test_a_credential_folder_that_cannot_be_looked_into_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "mounted").write_text("a file where a folder is expected")

    with pytest.raises(PlatformError, match="cannot be looked for"):
        open_auth(tmp_path, tmp_path / "mounted")
    assert not (tmp_path / "admin.json").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "{", '{"password_sha256": 1}', '{"password_sha256": "zz"}', '{"password_sha256": "ab"}'],
)
def test_a_damaged_file_of_the_state_directory_stops_the_start(tmp_path: Path, text: str) -> None:
    """It is neither taken for a password that nobody has, nor written over."""
    (tmp_path / "admin.json").write_text(text)

    with pytest.raises(PlatformError, match="SHA-256"):
        open_auth(tmp_path, tmp_path)
    assert text == (tmp_path / "admin.json").read_text()


@pytest.mark.parametrize("kind", ["folder", "broken link"])
def test_a_file_of_the_state_directory_that_cannot_be_read_stops_the_start(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "admin.json"
    path.mkdir() if kind == "folder" else path.symlink_to("nowhere")

    with pytest.raises(PlatformError, match="cannot be read"):
        open_auth(tmp_path, tmp_path)


@pytest.mark.parametrize(("user", "password"), [("a:b", "x"), ("admin", "x" * 5000)])
def test_credentials_that_nobody_could_give_stop_the_start(tmp_path: Path, user: str, password: str) -> None:
    """Basic ends the name at a colon; a password of over 4 KiB is none that was cut."""
    (tmp_path / "basic-auth-user").write_text(user)
    (tmp_path / "basic-auth-password").write_text(password)

    with pytest.raises(PlatformError):
        open_auth(tmp_path, tmp_path)


def test_a_folder_of_credentials_that_was_named_has_to_hold_them(tmp_path: Path) -> None:
    """A mount that did not come does not make the gateway ask for another password."""
    flags = {
        "auth": True, "secret_mount_path": tmp_path / "not-mounted", "state_dir": tmp_path / "state",
        "port": 0, "metrics_port": 0,
    }  # fmt: skip

    async def start() -> None:
        async with open_gateway(load(flags, env={}), persistent=False):
            pass

    with pytest.raises(PlatformError, match=r"not-mounted.*neither is there"):
        run(start())


@pytest.mark.slow
def test_a_client_cannot_choose_the_address_it_is_counted_by(tmp_path: Path) -> None:
    """Its own X-Forwarded-For does not count unless it is a trusted proxy."""
    with running_town(tmp_path, flags={"auth": True}) as town:
        replies = [
            httpx.get(
                f"{town.url}/system/functions",
                auth=("admin", "wrong"),
                headers={"X-Forwarded-For": f"10.0.0.{n}"},
            )
            for n in range(LIMIT + 1)
        ]

    assert [401] * LIMIT + [429] == [reply.status_code for reply in replies]
    assert 0 < int(replies[-1].headers["Retry-After"]) <= WINDOW_S


def test_with_auth_a_missing_function_names_no_other(tmp_path: Path) -> None:
    """Who has no password must not learn what is deployed; without auth a typing error is seen at once."""
    kinds = ("function", "async-function")
    for is_auth in (True, False):
        with running_town(tmp_path / str(is_auth), flags={"auth": is_auth}) as town:
            town.deploy("hidden", "def handle(req):\n    return req\n")
            replies = [httpx.post(f"{town.url}/{kind}/hiden") for kind in kinds]

        assert [404, 404] == [reply.status_code for reply in replies]
        assert [not is_auth] * 2 == ["'hidden'" in reply.text for reply in replies]
        assert all("function 'hiden' not found" in reply.text for reply in replies)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_town(tmp_path_factory.mktemp("locked"), flags={"auth": True}) as town:
        yield town.url


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_every_route_asks_for_the_password_unless_its_row_says_otherwise(locked: str, row: Row) -> None:
    """As does a path that is no route, and an empty bearer token, which faas-cli sends, is none."""
    path = row.path.replace("{name}", "x").replace("{digest}", "x").replace("{namespace}", "x")
    replies = [
        httpx.request(row.method, locked + path),
        httpx.request(row.method, locked + path, headers={"Authorization": "Bearer"}),
        httpx.request(row.method, f"{locked}/none"),
    ]

    is_refused = [reply.status_code == 401 for reply in replies]
    assert [not row.is_public, not row.is_public, True] == is_refused
    if not row.is_public:
        assert "invalid credentials" == replies[0].text
        assert 'Basic realm="Restricted"' == replies[0].headers["WWW-Authenticate"]
