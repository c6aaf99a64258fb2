"""GitHub's own description of its API, applied to every request and every answer of the fake.

`github_openapi.json` is made by `make_github_data`. On top of the schemas, what GitHub would ignore
is refused too (unknown fields and parameters): in our requests it can only be a mistake.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from openapi_schema_validator import OAS30Validator, oas30_format_checker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

_URI = "urn:github"


@dataclass(frozen=True)
class Operation:
    """One method of one path; `path` is GitHub's template."""

    method: str
    path: str
    parameters: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path


class Contract:
    def __init__(self) -> None:
        file = Path(__file__).with_name("github_openapi.json")
        self._document = json.loads(file.read_text(encoding="utf-8"))
        schemas = self._document["components"]["schemas"]
        _allow_null(schemas)
        # A deleted fork is null, although the description does not say so.
        run = schemas["workflow-run"]["properties"]
        run["head_repository"] = {"oneOf": [run["head_repository"], {"enum": [None]}]}
        resource = Resource(contents=self._document, specification=DRAFT4)
        self._registry: Registry[Any] = Registry().with_resource(_URI, resource)
        self._routes = [(_expression(path), path) for path in self._document["paths"]]

    def find(self, method: str, path: str) -> Operation | None:
        """The operation of a concrete path, with its percent signs."""
        for expression, template in self._routes:
            match = expression.fullmatch(path)
            if match and method.lower() in self._document["paths"][template]:
                found = {name: unquote(value) for name, value in match.groupdict().items()}
                return Operation(method.lower(), template, found)
        return None

    def request_errors(
        self, operation: Operation, query: Mapping[str, str], body: object
    ) -> list[str]:
        """What GitHub would refuse in a request: path, query and body."""
        errors: list[str] = []
        declared = [self._resolved(item) for item in self._node(operation).get("parameters", [])]
        queries = {item["name"]: item for item in declared if item["in"] == "query"}
        errors += [f"unknown parameter {name}" for name in query.keys() - queries.keys()]
        for item in declared:
            sent = query if item["in"] == "query" else operation.parameters
            if item["name"] in sent:
                errors += self._parameter_errors(item, sent[item["name"]])
            elif item.get("required"):
                errors.append(f"missing parameter {item['name']}")
        return errors + self._body_errors(operation, body)

    def answer_errors(self, operation: Operation, status: int, body: object) -> list[str]:
        """Where an answer of the fake is not one of GitHub's."""
        answers = self._node(operation)["responses"]
        if str(status) not in answers:
            # Errors that GitHub gives everywhere are not described everywhere.
            return [] if status >= 400 else [f"status {status} is not described"]
        answer = self._resolved(answers[str(status)])
        content = answer.get("content", {}).get("application/json")
        if content is None:
            return [] if body is None or status >= 300 else ["no body is described"]
        return self._errors(content["schema"], body)

    def example(self, name: str) -> Any:
        """A copy of one of GitHub's own examples."""
        return copy.deepcopy(self._document["components"]["examples"][name]["value"])

    def _body_errors(self, operation: Operation, body: object) -> list[str]:
        described = self._node(operation).get("requestBody")
        if described is None:
            return [] if body is None else ["a body is not described"]
        schema = described["content"]["application/json"]["schema"]
        if body is None:
            return ["the body is missing"] if described.get("required") else []
        known = self._properties(schema)
        unknown = body.keys() - known if isinstance(body, dict) else set()
        return [f"unknown field {name}" for name in unknown] + self._errors(schema, body)

    def _parameter_errors(self, item: Mapping[str, Any], value: str) -> list[str]:
        schema = item["schema"]
        typed: object = value
        if schema.get("type") == "integer":
            typed = int(value) if value.isdecimal() else value
        elif schema.get("type") == "boolean":
            typed = {"true": True, "false": False}.get(value, value)
        return [f"{item['name']}: {error}" for error in self._errors(schema, typed)]

    def _errors(self, schema: Mapping[str, Any], instance: object) -> list[str]:
        rooted = _rooted(schema)
        validator = OAS30Validator(
            rooted, registry=self._registry, format_checker=oas30_format_checker
        )
        return [
            f"{'/'.join(map(str, error.absolute_path))}: {error.message[-200:]}"
            for error in validator.iter_errors(instance)
        ]

    def _node(self, operation: Operation) -> dict[str, Any]:
        node: dict[str, Any] = self._document["paths"][operation.path][operation.method]
        return node

    def _properties(self, schema: dict[str, Any]) -> set[str]:
        schema = self._resolved(schema)
        found = set(schema.get("properties", {}))
        for kind in ("oneOf", "anyOf", "allOf"):
            for option in schema.get(kind, []):
                found |= self._properties(option)
        return found

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            _, _, kind, name = node["$ref"].split("/")
            node = self._document["components"][kind][name]
        return node


@functools.cache
def contract() -> Contract:
    return Contract()


def _expression(template: str) -> re.Pattern[str]:
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template))
    # "Get a reference" takes the slashes of a ref as they are.
    return re.compile(pattern.replace("git/ref/(?P<ref>[^/]+)", "git/ref/(?P<ref>.+)"))


def _allow_null(node: Any) -> None:
    """What is nullable may be null although its list of values does not say so, as GitHub does."""
    if isinstance(node, dict):
        if node.get("nullable") is True and isinstance(node.get("enum"), list):
            node["enum"].append(None)
        for value in node.values():
            _allow_null(value)
    elif isinstance(node, list):
        for item in node:
            _allow_null(item)


def _rooted(node: Any) -> Any:
    """References seen from outside the document. What a discriminator names, `oneOf` tells too."""
    if isinstance(node, dict):
        return {
            key: f"{_URI}{value}" if key == "$ref" and isinstance(value, str) else _rooted(value)
            for key, value in node.items()
            if key != "discriminator"
        }
    return [_rooted(item) for item in node] if isinstance(node, list) else node
