"""The OpenAPI 3.1 description, made from the endpoints and the schemas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from sealwright import __version__
from sealwright.policy.permissions import is_public
from sealwright.web.routes import Answer, Endpoint, Face
from sealwright.web.schemas.problems import ProblemOut

_REFERENCE = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_BINARY = {"type": "string", "format": "binary"}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same content gives the same signing request.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def describe(endpoints: Iterable[Endpoint], url: str) -> dict[str, Any]:
    """The description of the project's own API, as a JSON object.

    Args:
        url: the server's address, without a trailing slash.
    """
    described = [one for one in endpoints if one.face is Face.API]
    inputs, outputs = _models(described)
    names, definitions = models_json_schema(
        [(model, "validation") for model in inputs]
        + [(model, "serialization") for model in outputs],
        ref_template=_REFERENCE,
    )
    schemas = {(model, mode): schema for (model, mode), schema in names.items()}
    paths: dict[str, Any] = {}
    for one in described:
        path = _PARAMETER.sub(r"{\1}", one.path)
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sealwright",
            "version": __version__,
            "description": "Code signing: submit artifacts, follow them, fetch what was signed.",
        },
        "servers": [{"url": url}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _models(
    endpoints: Iterable[Endpoint],
) -> tuple[list[type[BaseModel]], list[type[BaseModel]]]:
    inputs: dict[type[BaseModel], None] = {}
    outputs: dict[type[BaseModel], None] = {ProblemOut: None}
    for one in endpoints:
        inputs |= {model: None for model in (one.bodies or {}).values() if model}
        outputs |= {answer.model: None for answer in one.answers if answer.model}
    return list(inputs), list(outputs)


def _operation(one: Endpoint, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "tags": [one.name.partition(".")[0]],
        "parameters": _parameters(one),
        "responses": {str(answer.status): _answer(answer, schemas) for answer in one.answers}
        | {
            "default": {
                "description": "A problem",
                "content": {
                    "application/problem+json": {"schema": schemas[ProblemOut, "serialization"]}
                },
            }
        },
    }
    if is_public(one.name):
        operation["security"] = []
    if one.bodies:
        operation["requestBody"] = {
            "content": {
                kind: {"schema": schemas[model, "validation"] if model else _BINARY}
                for kind, model in one.bodies.items()
            }
        }
    return operation


def _answer(answer: Answer, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    if answer.model:
        schema = schemas[answer.model, "serialization"]
    elif answer.status == 204:
        return {"description": answer.description}
    else:
        schema = {"type": "string"} if answer.media_type.startswith("text/") else _BINARY
    return {
        "description": answer.description,
        "content": {answer.media_type: {"schema": schema}},
    }


def _parameters(one: Endpoint) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(one.path)
    ]
    if one.query:
        schema = one.query.model_json_schema(ref_template=_REFERENCE)
        enums = schema.get("$defs", {})
        for name, field in schema["properties"].items():
            parameters.append(
                {
                    "name": name,
                    "in": "query",
                    "required": name in schema.get("required", ()),
                    "description": field.pop("description", ""),
                    "schema": _inlined(field, enums),
                }
            )
    if one.idempotent_by_key:
        parameters.append(_IDEMPOTENCY_KEY)
    return parameters


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A query's schema without references: its enumerations may be in no body."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return definitions[schema["$ref"].rpartition("/")[2]]
        return {name: _inlined(value, definitions) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_inlined(value, definitions) for value in schema]
    return schema
