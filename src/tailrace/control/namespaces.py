"""``/system/namespaces`` and ``/system/namespace/NS``: make, change, list and remove namespaces.

A namespace exists once it was made, or once a function or a secret is in it.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tailrace.control.parts import Parts, json_reply, parts, read_json
from tailrace.errors import AlreadyExists, InvalidRequest, NotFound
from tailrace.model import Namespace
from tailrace.names import DEFAULT_NAMESPACE, check_pairs, is_function_label
from tailrace.wire import openfaas

# What OpenFaaS marks its namespaces with; faas-cli always sends it. Source: contract 1.3.
_MARK = "openfaas"
_TEXT_LIMIT = 4096


async def get_all(request: Request) -> Response:
    """The names, sorted."""
    return json_reply(sorted(await _there(parts(request))))


async def get_one(request: Request) -> Response:
    """What was written about it."""
    name = _name(request)
    found = (await _there(parts(request))).get(name)
    if found is None:
        raise _missing(name)
    return json_reply(openfaas.FunctionNamespace(name, dict(found.annotations), dict(found.labels)))


async def post(request: Request) -> Response:
    """Make a namespace; the name is the body's."""
    namespace = await _read(request)
    here = parts(request)
    if namespace.name in await _there(here):
        raise AlreadyExists(f"namespace '{namespace.name}' exists already")
    await here.provider.save_namespace(namespace)
    return Response(status_code=201)


async def put(request: Request) -> Response:
    """Replace its labels and annotations."""
    namespace = await _read(request)
    here = parts(request)
    if namespace.name not in await _there(here):
        raise _missing(namespace.name)
    await here.provider.save_namespace(namespace)
    return Response(status_code=202)


async def delete(request: Request) -> Response:
    """Remove a namespace that holds nothing. A body, which faas-cli sends, may only say the same name."""
    name = _name(request)
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        _same(await read_json(request, openfaas.FunctionNamespace), name)
    here = parts(request)
    if name not in await _there(here):
        raise _missing(name)
    if name == DEFAULT_NAMESPACE:
        raise InvalidRequest(f"namespace '{name}' is the default one and stays")
    functions, secrets = here.table.names(name), await here.provider.list_secrets(name)
    kinds = {"functions": list(functions), "secrets": secrets}
    held = [f"{kind} {', '.join(names[:10])}" for kind, names in kinds.items() if names]
    if held:
        raise InvalidRequest(
            f"namespace '{name}' still holds {' and '.join(held)}", hint="Remove what is in it first."
        )
    await here.provider.forget_namespace(name)
    return Response(status_code=202)


async def _there(here: Parts) -> dict[str, Namespace]:
    """Every namespace that exists, by name."""
    made = await here.provider.list_namespaces()
    with_secrets = await here.provider.list_secret_namespaces()
    used = {DEFAULT_NAMESPACE, *with_secrets, *(function.name.namespace for function in here.table)}
    return {name: Namespace(name) for name in used} | {namespace.name: namespace for namespace in made}


async def _read(request: Request) -> Namespace:
    given = await read_json(request, openfaas.FunctionNamespace)
    if "namespace" in request.path_params:
        _same(given, _name(request))
    if not is_function_label(given.name):
        raise _odd(given.name)
    labels, annotations = given.labels or {}, given.annotations or {}
    if labels.get(_MARK) not in ("1", "true"):
        raise InvalidRequest(
            "request does not have openfaas=1 label", hint='Expected: "labels": {"openfaas": "1"}.'
        )
    if any(len(text) > _TEXT_LIMIT for pair in (*labels.items(), *annotations.items()) for text in pair):
        raise InvalidRequest(f"a label or annotation is longer than {_TEXT_LIMIT} characters")
    check_pairs("label", labels)
    check_pairs("annotation", annotations, with_lines=True)
    return Namespace(given.name, labels, annotations)


def _name(request: Request) -> str:
    name: str = request.path_params["namespace"]
    if not is_function_label(name):
        raise _odd(name)
    return name


def _same(given: openfaas.FunctionNamespace, name: str) -> None:
    if given.name not in ("", name):
        raise InvalidRequest(f"the body names '{given.name[:80]}', the path '{name}'")


def _odd(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"namespace '{name[:80]}' is not a legal name",
        hint="Use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.",
    )


def _missing(name: str) -> NotFound:
    return NotFound(f"namespace {name} not found")
