"""The OpenAPI document of the API, made from the table by which calls are checked."""

from __future__ import annotations

from collections.abc import Mapping

from service import __version__
from service.api.spec import Method, Schema, object_schema

_ERROR: Schema = {
    "type": "object",
    "properties": {
        "code": {"type": "integer", "description": "As in the client protocol."},
        "message": {"type": "string"},
        "temporary": {"type": "boolean", "description": "The same call may work later."},
        "retry_after": {"type": "number", "description": "Seconds after which it may."},
    },
    "required": ["code", "message"],
    "additionalProperties": False,
}

_FAILED: Schema = {
    "type": "object",
    "properties": {"error": {"$ref": "#/components/schemas/Error"}},
    "required": ["error"],
    "additionalProperties": False,
}

#: Why a call is not even looked at, or cannot be carried out now.
_STATUSES = {
    "400": "The body is not a JSON object.",
    "401": "X-API-Key is missing or unknown.",
    "404": "There is no such method.",
    "405": "The HTTP method is not POST.",
    "413": "The body is too large.",
    "415": "Content-Type is not application/json.",
    "503": "Redis does not answer; what was asked may have been done or not.",
}


def document(methods: Mapping[str, Method]) -> Schema:
    """OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Streamgate server API",
            "version": __version__,
            "description": "For the application's back end. A call that is refused for what it asks has "
            "status 200, too, and an error.",
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": {f"/api/{name}": {"post": _operation(name, method)} for name, method in methods.items()},
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
            "schemas": {"Error": _ERROR, "Failed": _FAILED},
        },
    }


def _operation(name: str, method: Method) -> Schema:
    failed = {"$ref": "#/components/schemas/Failed"}
    result = method.result_schema()
    if not method.bare:
        result = {
            "type": "object",
            "properties": {"result": result},
            "required": ["result"],
            "additionalProperties": False,
        }
    responses = {"200": _response("The result, or why there is none.", {"anyOf": [result, failed]})}
    return {
        "operationId": name,
        "tags": ["chat" if name.startswith("chat.") else "api"],
        "summary": method.about,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": object_schema(method.parameters)}},
        },
        "responses": responses | {status: _response(about, failed) for status, about in _STATUSES.items()},
    }


def _response(about: str, schema: Schema) -> Schema:
    return {"description": about, "content": {"application/json": {"schema": schema}}}
