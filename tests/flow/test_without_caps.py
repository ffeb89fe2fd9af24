"""Behaviour 25: compatible with OpenFaaS, without its caps: `tests/compat` holds the first half of it.

A hundred functions where the free edition has 15, of an image that is in no registry, scaled to zero, on a
machine that reaches nobody who could be asked for a licence.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import DEFAULT, Shell
from tests.kit.patience import wait_until
from tests.kit.remote import SECRET, build, context_tar

pytestmark = pytest.mark.slow
COUNT = 100
IMAGE = "registry.invalid/private/cat:1"
CONTEXT = {
    "template.yml": "language: cat\nfprocess: cat\n",
    "Dockerfile": 'FROM scratch\nENV fprocess=cat mode=streaming content_type="text/plain"\n',
    "function/handler.sh": "",
}


class Outside:
    """The only way out of the machine, and who took it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.asked: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._refuse)
        self._thread.start()

    def _refuse(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(5)
                self.asked.append(client.recv(200))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def outside() -> Iterator[Outside]:
    found = Outside()
    yield found
    found.close()


def deploy(http: httpx.Client, name: str) -> int:
    """As faas-cli does it."""
    body = {
        "service": name, "image": IMAGE, "annotations": {},
        "labels": {"com.openfaas.scale.min": "0", "com.openfaas.scale.zero": "true"},
    }  # fmt: skip
    reply = http.put("/system/functions", json=body)
    if reply.status_code == 404:
        reply = http.post("/system/functions", json=body)
    return reply.status_code


def available(http: httpx.Client, name: str) -> int:
    return int(http.get(f"/system/function/{name}").json().get("availableReplicas", 0))


def scale(http: httpx.Client, name: str, replicas: int) -> int:
    body = {"serviceName": name, "replicas": replicas}
    return http.post(f"/system/scale-function/{name}", json=body).status_code


def test_a_hundred_functions_of_a_private_image_sleep_and_wake_and_nobody_is_asked(
    tmp_path: Path, outside: Outside
) -> None:
    """Built here, deployed and listed; a call wakes one, six replicas are as well as none."""
    (tmp_path / "payload").write_text(SECRET)
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), outside.url)
    shell = Shell(tmp_path, {**proxies, "NO_PROXY": DEFAULT, "no_proxy": DEFAULT})
    flags = ("--port", "0", "--state-dir", "state", "--payload-secret-file", "payload")
    with shell.start("serve", *flags) as serve:
        url = serve.wait_for(r"^tailrace .*(http://127\.0\.0\.1:\d+)$")[1]
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            outcome = build(url, context_tar(CONTEXT, image=IMAGE))
            deployed = [deploy(http, f"cat-{number}") for number in range(COUNT)]
            listed = http.get("/system/functions").json()
            answer = http.post("/function/cat-57.openfaas-fn", content=b"awake")
            many = scale(http, "cat-57", 6)
            wait_until(lambda: available(http, "cat-57") == 6, "six replicas", 60)
            none = scale(http, "cat-57", 0)
            wait_until(lambda: available(http, "cat-57") == 0, "it sleeps again", 60)
            again = http.post("/function/cat-57", content=b"awake again")

    assert "success" == outcome.status, outcome
    assert [202] * COUNT == deployed
    assert COUNT == len(listed)
    assert not [function for function in listed if function.get("availableReplicas")]
    assert (200, "awake") == (answer.status_code, answer.text)
    assert (202, 202) == (many, none)
    assert (200, "awake again") == (again.status_code, again.text)
    assert [] == outside.asked
