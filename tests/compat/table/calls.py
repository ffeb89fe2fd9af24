"""Calls of functions, with the names, headers and methods of `faas-cli invoke`; and their logs."""

from __future__ import annotations

from tests.compat.table.asked import CALL, CLI, IN_JSON, IN_LINES, IN_TEXT, RFC3339
from tests.compat.world import STAGING, called, deployed
from tests.kit.replay import Case, Text, among

# echo -n hi | openssl dgst -sha256 -hmac k3y
_SIGNATURE = "sha256=f161339b3fe47498cb4819e585297bae866d0c6ddfdc21d82af2e6cd4d0e6df2"
_TOKENS = "data: tok0\n\ndata: tok1\n\ndata: tok2\n\ndata: tok3\n\n"
_STREAMED = {
    "content-type": Text("^text/event-stream"), "content-length": None, "x-call-id": Text("."),
}  # fmt: skip
_CALLED = {**IN_JSON, "x-call-id": Text("."), "x-start-time": Text(r"^\d{19}$")}
_TAKEN = {"x-call-id": Text("."), "x-start-time": Text(r"^\d{19}$"), "location": Text("^/run/")}
_LINE = {
    "name": "hello", "namespace": "openfaas-fn", "instance": Text("."), "timestamp": RFC3339, "text": str,
    "callId": str, "stream": Text("^std(out|err)$"),
}  # fmt: skip
_LOGS = "GET /system/logs"
_WAS_CALLED = (deployed("hello"), called("hello"))

_CALLS = (
    Case(
        "invoke hello", "POST /function/hello.openfaas-fn", 200, given=(deployed("hello"),), headers=CALL,
        body=b"hi", replied=_CALLED,
        shape=among({"body": "hi", "method": "POST", "path": "/", "query": ""}),
    ),
    Case(
        "invoke hello: the environment of the deployment, RAW_BODY among it",
        "POST /function/hello.openfaas-fn", 200, given=(deployed("hello"),), headers=CALL, body=b"hi",
        replied=_CALLED,
        shape=among({"type": "bytes", "env": {"FROM_FILE": "yes", "exec_timeout": "5m"}}),
    ),
    Case(
        "curl of a function by its name alone", "POST /function/hello", 200, given=(deployed("hello"),),
        headers=CALL, body=b"hi", replied=_CALLED, shape=among({"body": "hi"}),
    ),
    Case(
        "curl of a function by its name and a slash", "POST /function/hello/", 200,
        given=(deployed("hello"),), headers=CALL, body=b"hi", replied=_CALLED, shape=among({"path": "/"}),
    ),
    Case(
        "invoke hello --method GET -n staging-fn --query a=1 --query 'b=x y' -H 'X-One: 1'",
        "GET /function/hello.staging-fn?a=1&b=x+y", 200, given=(deployed("hello", STAGING),),
        headers={**CALL, "Content-Type": "application/json", "X-One": "1"}, replied=_CALLED,
        shape=among({
            "method": "GET", "query": "a=1&b=x+y",
            "headers": among({"x-one": "1", "content-type": "application/json"}),
        }),
    ),
    Case(
        "invoke hello --sign X-Hub-Signature-256 --key k3y", "POST /function/hello.openfaas-fn", 200,
        given=(deployed("hello"),), headers={**CALL, "X-Hub-Signature-256": _SIGNATURE}, body=b"hi",
        replied=_CALLED, shape=among({"body": "hi", "headers": among({"x-hub-signature-256": _SIGNATURE})}),
    ),
    Case(
        "invoke hello --sign X-Hub-Signature --key k3y", "POST /function/hello.openfaas-fn", 200,
        given=(deployed("hello"),), headers={**CALL, "X-Hub-Signature": _SIGNATURE}, body=b"hi",
        replied=_CALLED, shape=among({"body": "hi", "headers": among({"x-hub-signature": _SIGNATURE})}),
    ),
    Case(
        "a caller's own credentials reach the function", "POST /function/hello", 200,
        given=(deployed("hello"),), headers={**CALL, "Authorization": "Bearer of-the-function"}, body=b"hi",
        replied=_CALLED, shape=among({"headers": among({"authorization": "Bearer of-the-function"})}),
    ),
    Case(
        "the path behind the name reaches the function", "GET /function/hello/a/b?c=d", 200,
        given=(deployed("hello"),), headers=CALL, replied=_CALLED,
        shape=among({"path": "/a/b", "query": "c=d"}),
    ),
    Case(
        "who asked and where, as the function is told", "GET /function/hello", 200,
        given=(deployed("hello"),), headers=CALL, replied=_CALLED,
        shape=among({"headers": among({
            "x-call-id": Text("."), "x-start-time": Text(r"^\d{19}$"),
            "x-forwarded-for": Text(r"^127\.0\.0\.1$"), "x-forwarded-host": Text(r"^127\.0\.0\.1:\d+$"),
        })}),
    ),
    Case(
        "a caller that numbers its own calls: each number reaches the other side", "GET /function/hello", 200,
        given=(deployed("hello"),), headers={**CALL, "X-Call-Id": "mine-1"}, replied=_CALLED,
        shape=among({"headers": among({"x-call-id": Text("."), "x-client-call-id": "mine-1"})}),
    ),
    Case(
        "a redirect is passed on and not followed", "GET /function/hello/moved", 302,
        given=(deployed("hello"),), headers=CALL,
        replied={"location": "https://example.com/elsewhere"}, shape=str,
    ),
    Case(
        "invoke stream: no Accept header is needed", "POST /function/stream.openfaas-fn", 200,
        given=(deployed("stream"),), headers=CALL, body=b"{}", replied=_STREAMED, shape=_TOKENS,
        is_streamed=True,
    ),
    Case(
        "invoke stream -H 'Accept: text/event-stream'", "POST /function/stream.openfaas-fn", 200,
        given=(deployed("stream"),), headers={**CALL, "Accept": "text/event-stream"}, body=b"{}",
        replied=_STREAMED, shape=_TOKENS, is_streamed=True,
    ),
    Case(
        "invoke of what is not there, which is marked as the platform's own words",
        "POST /function/none.openfaas-fn", 404, headers=CALL, body=b"hi",
        replied={**IN_TEXT, "x-openfaas-internal": Text(".")}, shape=Text("none"),
    ),
    Case(
        "invoke in a namespace where it is not", "POST /function/stream.staging-fn", 404, headers=CALL,
        body=b"hi", replied=IN_TEXT, shape=Text("stream"),
    ),
    *(
        Case(
            f"invoke hello --method {method}", f"{method} /function/hello.openfaas-fn", 200,
            given=(deployed("hello"),), headers=CALL, body=b"hi", replied=_CALLED,
            shape=among({"method": method, "body": "hi"}),
        )
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS")
    ),
    Case(
        "invoke hello --method HEAD", "HEAD /function/hello.openfaas-fn", 200, given=(deployed("hello"),),
        headers=CALL, replied={"x-call-id": Text(".")}, shape=lambda body: body == "",
    ),
    Case(
        "invoke --method TRACE, which no provider takes", "TRACE /function/hello", 405,
        given=(deployed("hello"),), headers=CALL, shape=str,
    ),
    Case(
        "invoke hello --async", "POST /async-function/hello.openfaas-fn", 202, given=(deployed("hello"),),
        headers=CALL, body=b"hi", replied=_TAKEN, shape=lambda body: body == "",
    ),
    Case(
        "invoke hello --async -H 'X-Callback-Url: ...'", "POST /async-function/hello.openfaas-fn", 202,
        given=(deployed("hello"),), headers={**CALL, "X-Callback-Url": "http://example.invalid/cb"},
        body=b"hi", replied=_TAKEN, shape=lambda body: body == "",
    ),
    Case(
        "invoke --async of what is not there is never accepted", "POST /async-function/none.openfaas-fn", 404,
        headers=CALL, body=b"hi", replied=IN_TEXT, shape=str,
    ),
    Case(
        "invoke --async --method GET", "GET /async-function/hello.openfaas-fn", 405,
        given=(deployed("hello"),), headers=CALL, shape=str,
    ),
)  # fmt: skip

_LOG = (
    Case(
        "logs hello, which follows", f"{_LOGS}?follow=true&name=hello&tail=-1", 200, given=_WAS_CALLED,
        headers=CLI, replied={**IN_LINES, "content-length": None}, shape=[_LINE], until=b"called POST",
    ),
    Case(
        "logs hello --tail=false", f"{_LOGS}?follow=false&name=hello&tail=-1", 200, given=_WAS_CALLED,
        headers=CLI, replied=IN_LINES,
        shape=lambda lines: any(line["text"] == "called POST\n" for line in lines),
    ),
    Case(
        "logs hello --tail=false --lines 5 --since 10m --instance --name",
        f"{_LOGS}?follow=false&name=hello&since=2026-11-22T13%3A46%3A06Z&tail=5", 200, given=_WAS_CALLED,
        headers=CLI, replied=IN_LINES, shape=lambda lines: 1 <= len(lines) <= 5,
    ),
    Case(
        "logs hello --tail=false --lines 1", f"{_LOGS}?follow=false&name=hello&tail=1", 200,
        given=_WAS_CALLED, headers=CLI, replied=IN_LINES, shape=lambda lines: len(lines) == 1,
    ),
    Case(
        "logs hello --since-time of the future",
        f"{_LOGS}?follow=false&name=hello&since=2999-01-01T00%3A00%3A00Z", 200,
        given=_WAS_CALLED, headers=CLI, replied=IN_LINES, shape=lambda lines: lines == [],
    ),
    Case(
        "logs hello --since-time 2026-01-01T00:00:00Z -n staging-fn --json",
        f"{_LOGS}?follow=false&name=hello&namespace=staging-fn&since=2026-01-01T00%3A00%3A00Z&tail=-1", 200,
        given=(deployed("hello", STAGING), called("hello", STAGING)), headers=CLI, replied=IN_LINES,
        shape=[{**_LINE, "namespace": STAGING}],
    ),
    Case(
        "logs of one instance that is no more", f"{_LOGS}?follow=false&name=hello&instance=none", 200,
        given=_WAS_CALLED, headers=CLI, replied=IN_LINES, shape=lambda lines: lines == [],
    ),
    Case(
        "logs of what is not there", f"{_LOGS}?follow=true&name=none&tail=-1", 404, headers=CLI,
        replied=IN_TEXT, shape=Text("none"),
    ),
    Case(
        "logs since a time that is none", f"{_LOGS}?name=hello&since=yesterday", 400,
        given=(deployed("hello"),), headers=CLI, replied=IN_TEXT, shape=Text("yesterday"),
    ),
)  # fmt: skip

CASES = _CALLS + _LOG
