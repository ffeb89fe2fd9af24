"""The gateway that the requests are replayed against, and what has to be so before each of them.

It asks for the password that the transcripts were recorded with, builds with a payload secret, and knows the
functions of their stack file: `hello` with every field, `second` with an image alone, `stream`, `adhoc`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.kit.gateway import Town
from tests.kit.patience import wait_until
from tests.kit.remote import build, context_tar

USER, PASSWORD = "admin", "labpass"
STAGING = "staging-fn"
DEFAULT = "openfaas-fn"
# Any Flask object in, what it was asked with out; `RAW_BODY` makes the body bytes.
ECHO = """
import os
from flask import redirect, request

def handle(req):
    print("called", request.method)
    if request.path == "/moved":
        return redirect("https://example.com/elsewhere", 302)
    return {
        "body": req if isinstance(req, str) else req.decode(),
        "type": type(req).__name__,
        "method": request.method,
        "path": request.path,
        "query": request.query_string.decode(),
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "env": {name: os.environ.get(name, "") for name in ("FROM_FILE", "exec_timeout")},
    }
"""
STREAM = """
import time
from flask import Response

def handle(req):
    def tokens():
        for n in range(4):
            yield f"data: tok{n}\\n\\n"
            time.sleep(0.1)
    return Response(tokens(), mimetype="text/event-stream")
"""
SOURCES = {"hello": ECHO, "second": ECHO, "stream": STREAM, "adhoc": ECHO, "nodeinfo": ECHO, "sse": STREAM}
IMAGES = {
    "hello": "ghcr.io/lab/hello:0.1",
    "second": "ghcr.io/lab/second:0.1",
    "stream": "ghcr.io/lab/stream:0.1",
    "adhoc": "ghcr.io/lab/adhoc:1",
    "nodeinfo": "ghcr.io/openfaas/nodeinfo:latest",
    "sse": "ghcr.io/lab/sse:0.1",
}
# As faas-cli makes it of the stack file of the transcripts.
HELLO: dict[str, object] = {
    "service": "hello",
    "image": IMAGES["hello"],
    "namespace": DEFAULT,
    "envProcess": "python index.py",
    "envVars": {"FROM_FILE": "yes", "RAW_BODY": "true", "exec_timeout": "5m", "write_timeout": "5m"},
    "constraints": ["kubernetes.io/arch=amd64"],
    "secrets": ["api-key"],
    "labels": {"com.openfaas.scale.max": "5", "com.openfaas.scale.min": "1"},
    "annotations": {"schedule": "*/5 * * * *", "topic": "cron-function"},
    "limits": {"memory": "128Mi", "cpu": "500m"},
    "requests": {"memory": "64Mi", "cpu": "50m"},
    "readOnlyRootFilesystem": True,
}


@dataclass
class World:
    """The gateway, and what was built on it."""

    town: Town
    http: httpx.Client
    built: set[str] = field(default_factory=set)

    @property
    def port(self) -> int:
        return self.town.port

    def is_there(self, name: str, namespace: str) -> bool:
        params = {"namespace": namespace}
        return self.http.get(f"/system/function/{name}", params=params).status_code == 200

    def status(self, name: str, namespace: str) -> dict[str, object]:
        params = {"namespace": namespace}
        found: dict[str, object] = self.http.get(f"/system/function/{name}", params=params).json()
        return found

    def remove(self, name: str, namespace: str) -> None:
        """Gone, whether it was there or not."""
        body = {"functionName": name, "namespace": namespace}
        assert self.http.request("DELETE", "/system/functions", json=body).status_code in (202, 404)

    def build(self, source: str) -> None:
        """An image is built as faas-cli does it, once."""
        if source in self.built:
            return
        files = {
            "template.yml": "language: python3-flask-debian\nfprocess: python index.py\n",
            "function/handler.py": SOURCES[source],
            "function/requirements.txt": "",
        }
        outcome = build(self.town.url, context_tar(files, image=IMAGES[source]))
        assert outcome.status == "success", outcome
        self.built.add(source)


Condition = Callable[[World], None]


def _condition(make: Callable[..., None]) -> Callable[..., Condition]:
    """A condition of a world, out of a function of the world and what it is about."""

    @functools.wraps(make)
    def about(*args: str) -> Condition:
        return lambda world: make(world, *args)

    return about


@_condition
def image(world: World, name: str) -> None:
    """The function's image was built."""
    world.build(name)


@_condition
def secret(world: World, name: str, namespace: str = DEFAULT) -> None:
    """There is such a secret."""
    body = {"name": name, "namespace": namespace, "value": "s3cret"}
    assert world.http.post("/system/secrets", json=body).status_code in (202, 409)


@_condition
def no_secret(world: World, name: str, namespace: str = DEFAULT) -> None:
    """There is none, nor a function that would need it."""
    for item in world.http.get("/system/secrets", params={"namespace": namespace}).json():
        if item["name"] == name:
            for user in item.get("functions", []):
                world.remove(user, namespace)
    body = {"name": name, "namespace": namespace}
    assert world.http.request("DELETE", "/system/secrets", json=body).status_code in (202, 404)


@_condition
def absent(world: World, name: str, namespace: str = DEFAULT) -> None:
    """The function is not deployed."""
    world.remove(name, namespace)


@_condition
def deployed(world: World, name: str, namespace: str = DEFAULT) -> None:
    """The function is deployed, and answers."""
    if not world.is_there(name, namespace):
        world.build(name)
        body: dict[str, object] = {"service": name, "image": IMAGES[name], "labels": {}, "annotations": {}}
        if name == "hello":
            secret("api-key", namespace)(world)
            body = HELLO
        reply = world.http.post("/system/functions", json={**body, "namespace": namespace})
        assert reply.status_code == 202, reply.text
    if not world.status(name, namespace).get("replicas"):
        wish = {"serviceName": name, "replicas": 1, "namespace": namespace}
        assert world.http.post(f"/system/scale-function/{name}", json=wish).status_code == 202
    wait_until(lambda: bool(world.status(name, namespace).get("availableReplicas")), f"{name} answers", 60)


@_condition
def namespace(world: World, name: str) -> None:
    """There is such a namespace, with the label a=b."""
    body = {"name": name, "labels": {"openfaas": "1", "a": "b"}, "annotations": {"openfaas": "1", "c": "d"}}
    assert world.http.post("/system/namespace/", json=body).status_code in (201, 409)
    assert world.http.put(f"/system/namespace/{name}", json=body).status_code == 202


@_condition
def no_namespace(world: World, name: str) -> None:
    """There is none, nor anything in it."""
    for found in world.http.get("/system/functions", params={"namespace": name}).json():
        world.remove(found["name"], name)
    for found in world.http.get("/system/secrets", params={"namespace": name}).json():
        no_secret(found["name"], name)(world)
    assert world.http.delete(f"/system/namespace/{name}").status_code in (202, 404)


@_condition
def called(world: World, name: str, namespace: str = DEFAULT) -> None:
    """The function was called, and so has something in its log and its count."""
    assert world.http.post(f"/function/{name}.{namespace}", content=b"hi").status_code == 200
