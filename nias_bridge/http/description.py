"""What the OpenAPI description says beyond what APIFlask can know."""

from __future__ import annotations

from typing import Any

from nias_bridge.http import repeats, schemas, uploads

SUBMIT_BODY = {
    "required": False,  # what came by tus is named in the query
    "content": {
        "application/zip": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [uploads.FIELD],
                "properties": {uploads.FIELD: {"type": "string", "format": "binary"}},
            }
        },
    },
}
SUBMISSIONS = frozenset(
    f"/api/v1/runs{way}"
    for way in ("", "/{run_id}/again", "/{run_id}/correct", "/{run_id}/failed-again")
)
# As the page shows them: what everybody may ask before what an administrator alone may.
TAGS = ("Runs", "Sweeps", "Datasets", "Site", "Administration")
UNASKED = ("/api/v1/health", "/api/v1/live")  # for which nobody need be signed in
PROBLEM = {
    "description": "What is wrong, in a sentence",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def complete(spec: Any) -> Any:
    """Add the streamed bodies, our problems, the token, and what polling and repeating need."""
    paths, parts = spec["paths"], spec["components"]
    paths["/api/v1/runs"]["post"]["requestBody"] = SUBMIT_BODY
    told = paths["/api/v1/health"]["get"]["responses"]
    told["503"] = {**told["200"], "description": "Something does not work"}
    record = paths["/api/v1/runs/{run_id}/run.json"]["get"]["responses"]["200"]
    record["content"]["application/json"]["schema"] = {"type": "object"}
    parts["schemas"].pop("ValidationError", None)
    parts["schemas"]["Problem"] = schemas.Problem.model_json_schema()
    parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    spec["security"] = [{"token": []}]
    spec["tags"] = [{"name": name} for name in TAGS]
    for path, ways in paths.items():
        for method, way in ways.items():
            answers = {s: a for s, a in way["responses"].items() if not s.startswith("4")}
            way["responses"] = {**answers, "4XX": PROBLEM}
            if method == "get":
                way["responses"]["304"] = {"description": "The client has it: If-None-Match"}
        if path in SUBMISSIONS:
            ways["post"].setdefault("parameters", []).append(repeats.PARAMETER)
    for path in UNASKED:
        paths[path]["get"]["security"] = []
    return spec
