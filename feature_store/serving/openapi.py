"""The server's OpenAPI document, and a page that shows it. Schemas come from the types that the routes decode."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import msgspec

from feature_store.catalog import RegisteredGroup
from feature_store.serving import metrics
from feature_store.serving.calls import JSON
from feature_store.serving.feast_contract import FeastFeaturesAnswer, FeastFeaturesRequest, PushRequest, WriteRequest
from feature_store.serving.health import Readiness
from feature_store.serving.listing import Listing
from feature_store.serving.online_features import OnlineFeaturesAnswer, OnlineFeaturesRequest
from feature_store.serving.problems import CONTENT_TYPE, Problem

_REFERENCE = r"^[a-z][a-z0-9_]{0,62}(:v[1-9][0-9]{0,5})?$"
_FEAST_REFERENCE = r"^[a-z][a-z0-9_]*(@(latest|v[1-9][0-9]{0,5}))?:[a-z][a-z0-9_]*$"
_NAME = r"^[a-z][a-z0-9_]{0,62}$"
_PROBLEMS = {
    400: "The body is no JSON.",
    401: "A token is needed, or unknown.",
    403: "The token does not name a feature group that is asked for.",
    404: "A feature, group or feature service is not known; the detail names candidates.",
    408: "The request did not arrive in time.",
    413: "The body is too large, or the request asks for too many values, features or columns.",
    415: "The body is not sent as JSON.",
    422: "The body is not what it should be.",
    431: "The headers are too large, or too many.",
    503: "The online store does not answer, or the server is busy or about to end: try again.",
}
_TYPES = (
    OnlineFeaturesRequest,
    OnlineFeaturesAnswer,
    Listing,
    FeastFeaturesRequest,
    FeastFeaturesAnswer,
    PushRequest,
    WriteRequest,
    Readiness,
    Problem,
)


def document(groups: Iterable[RegisteredGroup], *, tokens: bool) -> dict[str, Any]:
    """Returns the OpenAPI document.

    Args:
        groups: What the caller may read: examples name the first of them, and made-up ones where there is none.
        tokens: Whether requests need a token.
    """
    example = _Example(groups)
    paths: dict[str, Any] = {
        "/v1/online-features": {
            "post": _operation(
                "Read online features",
                "The values that are visible now: one row per entity, one column per feature. A feature is `name` (its "
                "current version), `name:v2`, or the name of a feature group or of a group of on-demand features.",
                "OnlineFeaturesRequest",
                example.request,
                answer=("OnlineFeaturesAnswer", example.answer),
            )
        },
        "/v1/features": {
            "get": _operation(
                "List features", "All that the token may read.", answer=("Listing", None), problems=(401, 503)
            )
        },
        "/get-online-features": {
            "post": _operation(
                "Read online features, for Feast's client",
                "A feature view is a feature group, and its fields are the group's columns.",
                "FeastFeaturesRequest",
                example.feast_request,
                answer=("FeastFeaturesAnswer", None),
            )
        },
        "/push": {
            "post": _operation(
                "Write feature rows, as Feast's client does",
                "Rows are validated and written to the offline and the online store. Needs a token that may write.",
                "PushRequest",
                example.push,
                answer=("object", {}),
            )
        },
        "/write-to-online-store": {
            "post": _operation(
                "Write feature rows, by the name that Feast's remote online store uses",
                "The same as `/push`.",
                "WriteRequest",
                None,
                answer=("object", {}),
            )
        },
        "/health/live": {
            "get": _operation("Does the server live?", "", answer=("object", {"live": True}), problems=())
        },
        "/health/ready": {"get": _ready()},
        "/metrics": {"get": _text("Metrics for Prometheus", metrics.CONTENT_TYPE.partition(";")[0])},
        "/openapi.json": {"get": _operation("This document", "", answer=("object", None), problems=())},
        "/docs": {"get": _text("This document, to be read", "text/html")},
    }
    if tokens:
        for path in ("/v1/online-features", "/v1/features", "/get-online-features", "/push", "/write-to-online-store"):
            for operation in paths[path].values():
                operation["security"] = [{"bearer": []}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Feature server",
            "version": "1",
            "description": "Online features over HTTP. Errors are `application/problem+json`; their `detail` says what "
            "is wrong and the remedy. Floats are exact; infinities are `1e999` and `-1e999`.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def page(openapi: Mapping[str, Any]) -> str:
    """Returns the document as one page of HTML that loads nothing from anywhere."""
    sections = []
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            sections.append(_section(path, method, operation))
    schemas = "".join(
        f"<h3>{escape(name)}</h3><pre>{escape(json.dumps(schema, indent=2))}</pre>"
        for name, schema in openapi["components"]["schemas"].items()
    )
    info = openapi["info"]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Feature server</title><style>"
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "pre{background:#f4f4f4;padding:.75rem;overflow:auto;font-size:14px}"
        "h2 code{background:#e8f0fe;padding:.1rem .4rem;border-radius:.3rem}</style>"
        f"<h1>{escape(info['title'])}</h1><p>{escape(info['description'])}</p>"
        f"<p><a href=openapi.json>openapi.json</a></p>{''.join(sections)}<h2>Schemas</h2>{schemas}</html>"
    )


class _Example:
    """Requests and answers with the names of the first feature group that has features."""

    def __init__(self, groups: Iterable[RegisteredGroup]) -> None:
        group = next((group for group in groups if group.features), None)
        keys: dict[str, type] = dict(group.entity.join_keys) if group else {"user": str}
        values = {column: 42 if kind is int else f"{column}_42" for column, kind in keys.items()}
        name = group.name if group else "user_activity"
        features = [str(feature.ref) for feature in group.features[:2]] if group else ["clicks_7d:v1"]
        columns = [feature.ref.column for feature in group.features] if group else ["clicks_7d"]
        entities = {column: [value] for column, value in values.items()}
        self.request = {"entities": entities, "features": features}
        self.answer = {"features": features, "values": [[None for _ in features]]}
        views = [f"{name}:{column}" for column in columns[:2]]
        self.feast_request = {"entities": entities, "features": views}
        self.push = {
            "push_source_name": name,
            "df": {**entities, "event_timestamp": ["2030-01-31T05:00:00Z"], **{column: [None] for column in columns}},
            "to": "online_and_offline",
        }


def _operation(
    summary: str,
    description: str,
    request: str | None = None,
    example: Any = None,
    *,
    answer: tuple[str, Any] = ("object", None),
    problems: tuple[int, ...] = tuple(_PROBLEMS),
) -> dict[str, Any]:
    name, answer_example = answer
    schema = {"type": "object"} if name == "object" else {"$ref": f"#/components/schemas/{name}"}
    operation: dict[str, Any] = {
        "summary": summary,
        "description": description,
        "responses": {"200": _content("Done.", JSON.decode(), schema, answer_example), **_problems(problems)},
    }
    if request:
        operation["requestBody"] = {
            "required": True,
            "content": _content("", JSON.decode(), {"$ref": f"#/components/schemas/{request}"}, example)["content"],
        }
    return operation


def _ready() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Readiness"}
    return {
        "summary": "Should the server get requests?",
        "description": "Whether the online store and the registry answer, and the server is not about to end.",
        "responses": {
            "200": _content("It should.", JSON.decode(), schema, None),
            "503": _content("It should not.", JSON.decode(), schema, None),
        },
    }


def _text(summary: str, content_type: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _content("Done.", content_type, {"type": "string"}, None)}}


def _content(description: str, content_type: str, schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": schema}
    if example is not None:
        media["examples"] = {"example": {"value": example}}
    return {"description": description, "content": {content_type: media}}


def _problems(statuses: tuple[int, ...]) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {str(status): _content(_PROBLEMS[status], CONTENT_TYPE.decode(), schema, None) for status in statuses}


def _schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        # Attributes are documented for readers of the code; the page has the routes' own words.
        schema["description"] = schema.get("description", "").partition("\n")[0]
    reference = {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": _REFERENCE}}
    online = schemas["OnlineFeaturesRequest"]
    online["properties"]["features"] = reference
    online["properties"]["feature_service"] = {"type": "string", "pattern": _NAME}
    online["allOf"] = [_either("entity_ids", "entities"), _either("features", "feature_service")]
    feast = schemas["FeastFeaturesRequest"]
    feast["properties"]["features"]["items"]["pattern"] = _FEAST_REFERENCE
    feast["anyOf"] = [
        {"required": ["features"], "properties": {"features": {"minItems": 1}}},
        {"required": ["feature_service"], "properties": {"feature_service": {"type": "string"}}},
    ]
    schemas["PushRequest"]["properties"]["to"]["enum"] = ["online", "online_and_offline"]
    return schemas


def _either(first: str, second: str) -> dict[str, Any]:
    return {"oneOf": [{"required": [first]}, {"required": [second]}]}


def _section(path: str, method: str, operation: Mapping[str, Any]) -> str:
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code> {escape(operation['summary'])}</h2>"]
    if operation.get("description"):
        parts.append(f"<p>{escape(operation['description'])}</p>")
    body = operation.get("requestBody", {}).get("content", {}).get(JSON.decode(), {})
    header = " -H 'Authorization: Bearer TOKEN'" if operation.get("security") else ""
    for example in body.get("examples", {}).values():
        data = json.dumps(example["value"]).replace("'", "'\\''")
        command = f"curl -s localhost:6566{path}{header} -H 'Content-Type: application/json' -d '{data}'"
        parts.append(f"<pre>{escape(command)}</pre>")
    if not body:
        parts.append(f"<pre>{escape(f'curl -s localhost:6566{path}{header}')}</pre>")
    rows = "".join(
        f"<tr><td>{status}<td>{escape(answer['description'])}" for status, answer in operation["responses"].items()
    )
    return "".join(parts) + f"<table>{rows}</table>"
