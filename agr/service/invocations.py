"""MLflow's own routes, so that the service stands in for `mlflow models serve`: `/invocations` and `/ping`.

A request holds sound files as base64 text in a column `audio`, in any of MLflow's forms in JSON; the answer has a row
with label, female, male and error for each.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from agr.audio.decoder import Source
from agr.inference.answers import Answer
from agr.labels import CLASSES
from agr.registry.uri import COLUMN
from agr.service import uploads
from agr.service.problems import Refused, described
from agr.service.service import of

router = APIRouter()
FORMS = "`dataframe_split`, `dataframe_records`, `inputs` or `instances`"
JSON_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
}


@router.get("/ping", response_class=Response)
async def ping(request: Request) -> Response:
    """As MLflow's servers answer it: 200 if there is a model that answers."""
    of(request).follower.model()
    return Response("\n", media_type="application/json")


@router.post("/invocations", openapi_extra=JSON_BODY, responses=described(400, 401, 408, 413, 421, 429, 503))
async def invocations(request: Request) -> JSONResponse:
    """Answer a table of sound files, as an MLflow server does."""
    service = of(request)
    with service.admitted() as model:
        data = await uploads.body(request, service.settings)
        values = await asyncio.to_thread(column, data)
        if len(values) > service.settings.queue:
            raise Refused(413, f"{len(values)} rows; expected at most {service.settings.queue}")
        sources = await asyncio.to_thread(lambda: [decoded(value) for value in values])
        found = iter(await service.answers([each for each in sources if isinstance(each, Source)], model))
    rows = [row(next(found)[0]) if isinstance(each, Source) else unread(each) for each in sources]
    return JSONResponse({"predictions": rows}, headers=service.headers(model))


def column(body: bytes) -> list[Any]:
    """The column `audio` of a request. Raises: Refused, with 400."""
    try:
        table = json.loads(body)
        if "dataframe_split" in table:
            at = table["dataframe_split"]["columns"].index(COLUMN)
            return [each[at] for each in table["dataframe_split"]["data"]]
        given = next(table[name] for name in ("dataframe_records", "inputs", "instances") if name in table)
        if isinstance(given, dict):
            values = given[COLUMN]
            return values if isinstance(values, list) else [values]
        return [each[COLUMN] for each in given]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, StopIteration):
        raise Refused(400, f"no column `{COLUMN}` in the body; expected {FORMS} in JSON") from None


def decoded(value: Any) -> Source | str:
    """The sound file of a row; the error if it is not base64 text."""
    try:
        return Source(COLUMN, base64.b64decode(value, validate=True))
    except (ValueError, TypeError) as error:
        return str(error)


def row(answer: Answer) -> dict[str, Any]:
    """A row as MLflow's servers give it: without speech only a label, for what cannot be read only an error."""
    if answer.error is not None:
        return unread(answer.error)
    probability = answer.probability or dict.fromkeys(CLASSES)
    return {"label": answer.label, **probability, "error": ""}


def unread(error: str) -> dict[str, Any]:
    """The row for what cannot be read."""
    return {"label": None, **dict.fromkeys(CLASSES), "error": error}
