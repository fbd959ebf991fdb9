"""Describe actions, and what their inputs are chosen from, for OpenAPI, from the catalogue by which they are served."""

from collections.abc import Mapping
from typing import Any, Final

from server.core.actions.catalogue import CATALOGUE
from server.core.actions.choices import LIMIT, LIMIT_MAX
from server.core.actions.schemas import RESULT_SCHEMA, input_schema
from server.core.actions.values import ActionType
from server.web.actions import PATH
from server.web.choices import PATHS
from server.web.triggers import PATH as TRIGGER_PATH

_SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"apiKey": []}, {}]
_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_RESULT: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/ActionResult"}}}

_REFUSALS: Final[Mapping[str, str]] = {
    "400": "What was sent is at fault; `errors` has every input.",
    "401": "Nobody knows who is asking.",
    "403": "Whoever asks may not do it there.",
    "404": "There is no such project, environment, flag and so on.",
    "408": "The body did not arrive in time.",
    "409": "The state of things does not allow it, the expected version is another one, automations answer one another "
    "in a loop, or the idempotency key was used for something else.",
    "413": "The body, or something in it, is too large.",
    "415": "The body is no JSON in UTF-8.",
    "429": "Too many requests, or automation changes one flag too often; Retry-After says when to come again.",
    "503": "The database cannot be asked now; Retry-After says when to come again.",
}
_ASKED: Final = ("401", "403", "404", "429", "503")

_RESULT_EXAMPLE: Final = {
    "action_id": "act_5f2d0c9e8b7a46519d3e2f1a0b9c8d7e",
    "status": "applied",
    "version": 42,
    "revision": 42,
    "event_ids": ["evt_9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d"],
    "changes": ["flag new-checkout: turned off"],
    "warnings": [],
    "change_request": "",
    "subject_id": "",
    "items": [],
}


def action_paths() -> dict[str, Any]:
    """The paths, each with what may be answered."""
    listed = {
        "tags": ["Actions"],
        "operationId": "listActions",
        "summary": "List the actions that there are, with their schemas",
        "security": _SECURITY,
        "responses": {"200": _json("Every action.", "ActionList"), **_refusals("401", "403", "429", "503")},
    }
    return {
        PATH: {"get": listed},
        **{f"{PATH}/{type_.name}": {"post": _operation(type_)} for type_ in CATALOGUE.values()},
        **{path.replace(":path}", "}"): {"get": _choice(what, path)} for what, (path, _) in PATHS.items()},
        TRIGGER_PATH: {"post": _TRIGGER},
    }


def action_schemas() -> dict[str, Any]:
    """The components that the paths refer to."""
    return {
        "ActionResult": {**RESULT_SCHEMA, "examples": [{**_RESULT_EXAMPLE, "action": "set_flag_state"}]},
        "ActionList": {
            "type": "object",
            "required": ["items"],
            "properties": {
                "items": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name", "title", "description", "permission", "writes", "schema"],
                        "properties": {
                            "name": {"type": "string"},
                            "title": {"type": "string"},
                            "description": {"type": "string"},
                            "permission": {"type": "string"},
                            "writes": {"type": "boolean"},
                            "schema": {"type": "object", "description": "JSON Schema of the body."},
                        },
                    },
                }
            },
        },
        "Choices": {
            "type": "object",
            "required": ["items", "next_page_token"],
            "properties": {
                "items": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["value", "label"],
                        "properties": {"value": {"type": "string"}, "label": {"type": "string"}},
                    },
                },
                "next_page_token": {"type": "string", "description": "Empty: there are no more."},
            },
            "examples": [{"items": [{"value": "shop", "label": "Shop (shop)"}], "next_page_token": ""}],
        },
        "TriggerResult": {
            "type": "object",
            "required": ["trigger_id", "results", "left_out"],
            "properties": {
                "trigger_id": {"type": "string"},
                "results": {"type": "array", "items": {"$ref": "#/components/schemas/ActionResult"}},
                "left_out": {"type": "integer", "description": "Alerts of the body that were too many."},
            },
        },
        "Problem": {
            "type": "object",
            "description": "What went wrong, by RFC 9457.",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "code": {"type": "string", "description": "The same in the words of gRPC's statuses."},
                "outcome": {"type": "string", "description": "`rejected`: nothing changed."},
                "errors": {"type": "array", "items": {"type": "object"}, "description": "What exactly is at fault."},
            },
        },
    }


def _operation(type_: ActionType) -> dict[str, Any]:
    schema = input_schema(type_)
    example = schema.pop("examples")[0]
    if type_.writes:
        answers = {"200": "What became of it.", "202": "It waits: for approvals, or for its time."}
    else:
        answers = {"200": "What was found."}
    return {
        "tags": ["Actions"],
        "operationId": f"run{_pascal(type_.name)}",
        "summary": type_.title,
        "description": f"{type_.says} Needs the permission `{type_.permission.value}` there.",
        "security": _SECURITY,
        "parameters": _HEADERS if type_.writes else [],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        },
        "responses": {
            **{status: {"description": says, "content": _RESULT} for status, says in answers.items()},
            **_refusals(*_REFUSALS),
        },
    }


def _choice(what: str, path: str) -> dict[str, Any]:
    in_path = [part.strip("{}").partition(":")[0] for part in path.split("/") if part.startswith("{")]
    query = {
        "search": ("Is in the value or the label.", {"type": "string"}),
        "limit": (
            f"At most so many; {LIMIT} without it.",
            {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX},
        ),
        "page_token": ("From the page before.", {"type": "string"}),
    }
    if "environment" not in in_path and what not in ("projects", "environments"):
        query["environment"] = ("Only what is in it; for who may not read the whole project.", {"type": "string"})
    return {
        "tags": ["Choices"],
        "operationId": f"list{what.capitalize()}",
        "summary": f"List {what} to choose from",
        "security": _SECURITY,
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
                for name in in_path
            ),
            *(
                {"name": name, "in": "query", "description": says, "schema": schema}
                for name, (says, schema) in query.items()
            ),
        ],
        "responses": {"200": _json("A page of them.", "Choices"), **_refusals("400", *_ASKED)},
    }


def _json(says: str, schema: str) -> dict[str, Any]:
    return {
        "description": says,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _refusals(*statuses: str) -> dict[str, Any]:
    return {status: {"description": _REFUSALS[status], "content": _PROBLEM} for status in statuses}


def _pascal(name: str) -> str:
    return "".join(each.capitalize() for each in name.split("_"))


_HEADERS: Final = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Of this request: for 24 hours the same key gets the first answer again, and nothing is done "
        "twice; with another body it is refused.",
        "schema": {"type": "string", "maxLength": 256},
    },
    {
        "name": "Flagstaff-Causation",
        "in": "header",
        "description": "The id of the event because of which this is asked.",
        "schema": {"type": "string", "maxLength": 100},
    },
    {
        "name": "Flagstaff-Hops",
        "in": "header",
        "description": "The `hops` of that event.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 999},
    },
]

_TRIGGER: Final = {
    "tags": ["Actions"],
    "operationId": "callTrigger",
    "summary": "Have done what an address is for",
    "description": "Needs no token: the address is the secret. `flagstaff trigger create` makes one. With a preset the "
    "body is what that tool sends of its alerts; else it says nothing, or `reason`, `dry_run`, `causation_id`, `hops`.",
    "security": [{}],
    "parameters": [
        {"name": "secret", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
        *_HEADERS,
    ],
    "requestBody": {"required": False, "content": {"application/json": {"schema": {}}}},
    "responses": {
        "200": _json("What became of it.", "TriggerResult"),
        "202": _json("Something of it waits for approvals, or for its time.", "TriggerResult"),
        **_refusals(*_REFUSALS),
    },
}
