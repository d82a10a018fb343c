"""The OpenAPI document, made from the endpoints themselves."""

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from sojourn.gateway.endpoint import Endpoint

_REFERENCE = "#/components/schemas/{model}"

_TEXT = {"type": "string"}

_ERROR = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string"},
                "details": {"type": "object", "properties": {"error_code": {"type": "string"}}},
            },
        },
        "request_id": {"type": "string"},
    },
}


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    bodies: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (shape, "validation") for each in endpoints if (shape := each.body or each.form)
    ]
    replies: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (each.reply, "serialization") for each in endpoints if each.reply
    ]
    names, schemas = models_json_schema([*bodies, *replies], ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for each in endpoints:
        shape = each.body or each.form
        body = names[shape, "validation"] if shape else None
        reply = names[each.reply, "serialization"] if each.reply else None
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, body, reply)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sojourn", "version": version("sojourn")},
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Error": _ERROR},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{"key": []}, {"bearer": []}],
    }


def _operation(endpoint: Endpoint, body: Any, reply: Any) -> dict[str, Any]:
    other = ("*/*", {"type": "string", "format": "binary"}) if endpoint.binary else ("text/event-stream", _TEXT)
    media_type, schema = ("application/json", reply) if reply else other
    content = {media_type: {"schema": schema}}
    error = {
        "description": "Refused.",
        "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Error")}}},
    }
    operation: dict[str, Any] = {
        "operationId": endpoint.operation,
        "summary": endpoint.summary,
        "tags": [endpoint.operation.partition(".")[0]],
        "parameters": [*_path_parameters(endpoint.path), *_query_parameters(endpoint.query)],
        "responses": {"200": {"description": "Done.", "content": content}, "4XX": error, "5XX": error},
    }
    if body is not None:
        media_type = "multipart/form-data" if endpoint.form else "application/json"
        operation["requestBody"] = {"required": True, "content": {media_type: {"schema": body}}}
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(query: type[BaseModel] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    parameters = []
    for name, field in query.model_fields.items():
        key = field.alias or name
        schema = TypeAdapter(field.rebuild_annotation()).json_schema()
        repeats = get_origin(field.annotation) is tuple
        parameters.append({"name": f"{key}[]" if repeats else key, "in": "query", "required": False, "schema": schema})
    return parameters
