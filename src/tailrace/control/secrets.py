"""``/system/secrets``: create, replace, remove and list by name. Values go in and never come out."""

from __future__ import annotations

import base64

from starlette.requests import Request
from starlette.responses import Response

from tailrace.control.parts import JSON_LIMIT, Parts, json_reply, namespace_of, parts, read_json
from tailrace.errors import AlreadyExists, InvalidRequest, NotFound
from tailrace.names import is_secret_name
from tailrace.provider.contract import SECRET_LIMIT
from tailrace.wire import openfaas

# JSON around a value of 1 MiB: faas-cli sends it twice, as base64 (4/3) and as text, in which a byte that is
# no UTF-8, or a control character, takes six.
_ENVELOPE_LIMIT = 8 * SECRET_LIMIT


async def get_all(request: Request) -> Response:
    namespace = namespace_of(request)
    here = parts(request)
    names = await here.provider.list_secrets(namespace)
    return json_reply(
        [openfaas.Secret(name, namespace, functions=_users(here, namespace, name) or None) for name in names]
    )


def _users(here: Parts, namespace: str, secret: str) -> list[str]:
    """The functions that refer to a secret."""
    return [f.name.name for f in here.table if f.name.namespace == namespace and secret in f.spec.secrets]


async def post(request: Request) -> Response:
    secret, namespace = await _read(request, limit_bytes=_ENVELOPE_LIMIT)
    provider = parts(request).provider
    if not await provider.set_secret(namespace, secret.name, _value(secret), is_there=False):
        raise AlreadyExists(f"secret '{secret.name}' exists already in namespace '{namespace}'")
    return Response(status_code=202)


async def put(request: Request) -> Response:
    secret, namespace = await _read(request, limit_bytes=_ENVELOPE_LIMIT)
    provider = parts(request).provider
    if not await provider.set_secret(namespace, secret.name, _value(secret), is_there=True):
        raise NotFound(f"secret '{secret.name}' does not exist in namespace '{namespace}'")
    return Response(status_code=202)


async def delete(request: Request) -> Response:
    secret, namespace = await _read(request)
    here = parts(request)
    users = _users(here, namespace, secret.name)
    if users:
        raise InvalidRequest(
            f"secret '{secret.name}' is used by {', '.join(users)}",
            hint="Remove those functions, or the secret from them, first.",
        )
    if not await here.provider.remove_secret(namespace, secret.name):
        raise NotFound(f"secret '{secret.name}' does not exist in namespace '{namespace}'")
    return Response(status_code=202)


async def _read(request: Request, *, limit_bytes: int = JSON_LIMIT) -> tuple[openfaas.Secret, str]:
    secret = await read_json(request, openfaas.Secret, limit_bytes=limit_bytes)
    if not is_secret_name(secret.name):
        raise InvalidRequest(f"secret name '{secret.name[:80]}' is not legal: use a-z, 0-9, '-' and '.'")
    return secret, namespace_of(request, secret.namespace)


def _value(secret: openfaas.Secret) -> bytes:
    if not secret.raw_value:
        return secret.value.encode()
    try:
        return base64.b64decode(secret.raw_value, validate=True)
    except ValueError:  # binascii.Error is one; so is a character that is not ASCII
        raise InvalidRequest(f"rawValue of secret '{secret.name}' is not base64") from None
