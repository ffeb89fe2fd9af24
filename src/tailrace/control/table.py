"""The control plane's routes: one row each. Who may use them and the OpenAPI document come from here.

A row is behind the admin's password unless it says that it is public.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from tailrace.control import (
    alert,
    async_calls,
    build,
    bundles,
    functions,
    info,
    logs,
    namespaces,
    openapi,
    pages,
    queue,
    runs,
    scale,
    secrets,
    store,
)
from tailrace.control.openapi import Content, Query
from tailrace.wire import openfaas
from tailrace.wire.queue import CallbackKey, DeadCall, QueueListing
from tailrace.wire.runs import RunPage, RunRecord

Answerer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Row:
    """One route.

    Attributes:
        words: What it does, for the document.
        replies: What it answers when all is well: the JSON's type, a media type, or None for no body.
        errors: Statuses it refuses with, as text, beside those that every route has.
        body: What it takes, as in ``replies``.
    """

    method: str
    path: str
    answer: Answerer
    words: str
    replies: Mapping[int, Content]
    errors: tuple[int, ...] = ()
    body: Content = None
    query: tuple[Query, ...] = field(default=())
    is_public: bool = False


_NAMESPACE = Query("namespace", "string", "The namespace; without it the default one.")
_FUNCTIONS = "/system/functions"
_FUNCTION = "/system/function/{name}"
_SECRETS = "/system/secrets"  # a path
_RUN = "/run/{id}"
_DEAD = "/system/queue/{id}"
_ASYNC = "/async-function/{name}"
_ONE_NAMESPACE = "/system/namespace/{namespace}"

ROWS: tuple[Row, ...] = (
    Row(
        "GET", _FUNCTIONS, functions.get_all, "The functions of a namespace.",
        {200: list[openfaas.FunctionStatus]}, query=(_NAMESPACE,),
    ),
    Row(
        "POST", _FUNCTIONS, functions.post, "Deploy a function that is not there yet.", {202: None},
        errors=(409,), body=openfaas.FunctionDeployment,
    ),
    Row(
        "PUT", _FUNCTIONS, functions.put, "Update a function.", {202: None}, errors=(404,),
        body=openfaas.FunctionDeployment,
    ),
    Row(
        "DELETE", _FUNCTIONS, functions.delete, "Remove a function.", {202: None}, errors=(404,),
        body=openfaas.DeleteFunctionRequest, query=(_NAMESPACE,),
    ),
    Row(
        "GET", _FUNCTION, functions.get_one, "One function.", {200: openfaas.FunctionStatus, 404: None},
        query=(
            _NAMESPACE,
            Query("usage", "string", "1 or true: with the CPU and memory its replicas use."),
            Query("wait", "number", "Answer once the revision is ready or has failed, or after so long."),
            Query("revision", "string", "The revision to wait for; without it the present one."),
        ),
    ),
    Row(
        "POST", "/system/scale-function/{name}", scale.post, "Set how many replicas a function has.",
        {202: None}, errors=(404,), body=openfaas.ScaleServiceRequest, query=(_NAMESPACE,),
    ),
    Row(
        "PUT", "/system/bundles/{digest}", bundles.put, "Upload a packed handler folder.",
        {200: None, 201: None}, body="application/octet-stream",
        query=(Query("image", "string", "The tag that means the bundle from now on.", is_required=True),),
    ),
    Row(
        "GET", "/system/bundles", bundles.get, "What an image means here.", {200: bundles.Image},
        errors=(404,), query=(Query("image", "string", "The image.", is_required=True),),
    ),
    Row(
        "GET", _SECRETS, secrets.get_all, "The names of a namespace's secrets.", {200: list[openfaas.Secret]},
        query=(_NAMESPACE,),
    ),
    Row(
        "POST", _SECRETS, secrets.post, "Create a secret.", {202: None}, errors=(409,), body=openfaas.Secret,
        query=(_NAMESPACE,),
    ),
    Row(
        "PUT", _SECRETS, secrets.put, "Replace a secret.", {202: None}, errors=(404,), body=openfaas.Secret,
        query=(_NAMESPACE,),
    ),
    Row(
        "DELETE", _SECRETS, secrets.delete, "Remove a secret that no function uses.", {202: None},
        errors=(404,), body=openfaas.Secret, query=(_NAMESPACE,),
    ),
    Row(
        "GET", "/system/logs", logs.get, "What a function wrote, and on request what it writes.",
        {200: "application/x-ndjson"}, errors=(404,),
        query=(
            Query("name", "string", "The function.", is_required=True),
            _NAMESPACE,
            Query("instance", "string", "Only this replica."),
            Query("since", "string", "Only what was written since, RFC 3339."),
            Query("tail", "integer", "At most so many of the lines that are kept; -1: all."),
            Query("follow", "string", "1 or true: go on with what is written from now on."),
        ),
    ),
    Row("GET", "/system/namespaces", namespaces.get_all, "The namespaces.", {200: list[str]}),
    Row(
        "POST", "/system/namespace/", namespaces.post, "Create a namespace.", {201: None}, errors=(409,),
        body=openfaas.FunctionNamespace,
    ),
    Row(
        "POST", _ONE_NAMESPACE, namespaces.post, "Create a namespace.", {201: None}, errors=(409,),
        body=openfaas.FunctionNamespace,
    ),
    Row(
        "PUT", _ONE_NAMESPACE, namespaces.put, "Replace what is written about a namespace.", {202: None},
        errors=(404,), body=openfaas.FunctionNamespace,
    ),
    Row(
        "DELETE", _ONE_NAMESPACE, namespaces.delete, "Remove a namespace that holds nothing.", {202: None},
        errors=(404,), body=openfaas.FunctionNamespace,
    ),
    Row(
        "GET", _ONE_NAMESPACE, namespaces.get_one, "What is written about a namespace.",
        {200: openfaas.FunctionNamespace}, errors=(404,),
    ),
    Row(
        "GET", "/system/info", info.get_info, "Versions of the gateway and its provider.",
        {200: openfaas.GatewayInfo},
    ),
    Row(
        "POST", "/system/alert", alert.post, "Scale by an alert of Alertmanager.", {200: None},
        body=openfaas.AlertNotice,
    ),
    Row(
        "POST", "/build", build.post, "Build a signed context into what an image's tag means.",
        {200: build.NDJSON}, errors=(401, 404, 408, 429), body="application/octet-stream",
        is_public=True,
    ),
    Row(
        "GET", "/publickey", build.get_key, "The key that build secrets are sealed for.",
        {200: openfaas.PublicKey}, errors=(404,), is_public=True,
    ),
    Row(
        "GET", _RUN, runs.get, "What is known of a run.", {200: RunRecord}, errors=(404, 503), is_public=True,
    ),
    Row("DELETE", _RUN, runs.stop, "Stop a run.", {200: RunRecord}, errors=(404, 503), is_public=True),
    Row(
        "POST", f"{_RUN}/stop", runs.stop, "Stop a run, for sendBeacon.", {200: RunRecord},
        errors=(404, 503), is_public=True,
    ),
    Row(
        "GET", f"{_RUN}/stream", runs.get_stream, "A run's answer, as it comes.", {200: "*/*", 204: None},
        errors=(404, 410, 503), is_public=True,
        query=(
            Query("after", "string", "Begin after this number, or the id of this event."),
            Query("format", "string", "sse, ndjson or raw; without it as the first client has it."),
            Query("wait", "number", "How long to wait for a run that is about to begin."),
        ),
    ),
    Row(
        "GET", "/runs", runs.get_all, "Runs, the one that changed last first.", {200: RunPage},
        errors=(404, 503),
        query=(
            Query("function", "string", "Only this function's."),
            Query("state", "string", "Only in this state."),
            Query("limit", "integer", "How many at most: 1 to 500."),
            Query("cursor", "string", "Where the page before has ended."),
        ),
    ),
    Row(
        "POST", _ASYNC, async_calls.post, "Call a function and do not wait for it.", {202: None},
        errors=(404, 422, 503), body="*/*", is_public=True,
    ),
    Row(
        "POST", f"{_ASYNC}/{{path:path}}", async_calls.post, "The same, with a path for the function.",
        {202: None}, errors=(404, 422, 503), body="*/*", is_public=True,
    ),
    Row(
        "DELETE", _ASYNC, async_calls.delete, "Cancel an asynchronous call by its id.", {202: None},
        errors=(404, 503), is_public=True,
    ),
    Row(
        "GET", "/system/queue", queue.get_all, "Asynchronous calls that wait, and dead letters.",
        {200: QueueListing}, errors=(503,),
    ),
    Row(
        "GET", _DEAD, queue.get_one, "The dead letters of a call.", {200: list[DeadCall]}, errors=(404, 503),
    ),
    Row(
        "DELETE", _DEAD, queue.drop, "Forget the dead letters of a call.", {200: list[DeadCall]},
        errors=(404, 503),
    ),
    Row(
        "POST", f"{_DEAD}/retry", queue.retry, "Have the dead letters of a call tried again.",
        {202: list[DeadCall]}, errors=(404, 503),
    ),
    Row(
        "GET", "/system/queue-key", queue.get_key, "The secret that results are signed with.",
        {200: CallbackKey}, errors=(503,),
    ),
    Row(
        "POST", "/system/queue-calls", queue.make, "Make a call of the queue, for a worker elsewhere.",
        {200: queue.NDJSON}, errors=(503,), body="application/octet-stream",
    ),
    Row(
        "GET", "/store/functions.json", store.get, "The functions that come with the gateway.",
        {200: openfaas.Store}, is_public=True,
    ),
    Row("GET", "/healthz", info.get_health, "Whether the gateway answers.", {200: None}, is_public=True),
    Row("GET", "/openapi.json", openapi.get, "This document.", {200: "application/json"}),
    Row("GET", "/", pages.get_root, "To the page.", {307: None}, is_public=True),
    Row("GET", "/ui/", pages.get_page, "The page.", {200: "text/html"}),
    Row("GET", "/ui/{file}", pages.get_file, "What the page needs.", {200: "*/*"}, errors=(404,)),
)  # fmt: skip
