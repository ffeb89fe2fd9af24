"""A NATS of an operator's: reached over TLS, with credentials; what does not fit is told at the start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import Shell
from tests.kit.natsauth import Tenant, tenant
from tests.kit.patience import wait_until
from tests.kit.served import Serve

pytestmark = pytest.mark.slow
HANDLER = "async def handle(event, context):\n    yield event.body.decode()\n"


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    with tenant(tmp_path_factory.mktemp("tenant")) as nats:
        yield nats


def test_runs_and_queues_are_kept_there(nats: Tenant, tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"SSL_CERT_FILE": str(nats.trust)})
    serve = Serve(shell, tmp_path / "state")

    with serve.start("--nats-url", nats.url, "--nats-creds", str(nats.creds)) as (running, url):
        serve.deploy(url, "echo", HANDLER)
        with httpx.Client(base_url=url, timeout=20) as http:
            run = http.post("/async-function/echo", content="hello").headers["x-call-id"]
            wait_until(lambda: http.get(f"/run/{run}").json().get("state") == "done", "the call is made", 20)
            recorded = http.get(f"/run/{run}/stream", params={"format": "raw"}).text
        secrets = nats.creds.read_text().splitlines()

    assert "hello" in recorded
    assert not any(line in running.text for line in secrets if len(line) > 50)


@pytest.mark.parametrize(
    ("creds", "trust", "words"),
    [
        ("others", True, "uthorization"),
        ("none", True, "uthorization"),
        ("missing", True, "nats_creds"),
        ("creds", False, "certificate"),
    ],
)
def test_what_does_not_fit_stops_the_start_and_is_told(
    nats: Tenant, tmp_path: Path, creds: str, trust: bool, words: str
) -> None:
    files = {"creds": nats.creds, "others": nats.others, "missing": tmp_path / "nowhere.creds"}
    flags = ("--nats-creds", str(files[creds])) if creds in files else ()
    env = {"SSL_CERT_FILE": str(nats.trust)} if trust else {}

    done = Shell(tmp_path, env).run("serve", "--port", "0", "--nats-url", nats.url, *flags)

    assert 1 == done.returncode
    assert words in done.stderr
    assert "Traceback" not in done.stderr
