"""The service's own routes: answers, pictures, the model, and whether all is well."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from agr.errors import AudioError
from agr.service import metrics, uploads
from agr.service.problems import Refused, described
from agr.service.schemas import Answers, ModelDescription, State
from agr.service.service import of

router = APIRouter()
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {"file": {"type": "array", "minItems": 1, "items": BINARY["schema"]}},
                }
            },
            "application/octet-stream": BINARY,
            "audio/*": BINARY,
        },
    }
}
TROUBLE = described(400, 401, 408, 413, 421, 422, 429, 503)
AbstainBelow = Annotated[
    float, Query(description="`unsure` if neither probability reaches this: 0.5 to 1, 0 for never")
]
Timeline = Annotated[bool, Query(description="who speaks when: `segments` and `seconds`")]
Explain = Annotated[bool, Query(description="with a picture of what led to each answer, as a data URL")]


@router.post("/v1/predict", openapi_extra=UPLOAD, responses={**TROUBLE, 200: {"model": Answers}})
async def predict(
    request: Request, abstain_below: AbstainBelow = 0.0, timeline: Timeline = False, explain: Explain = False
) -> JSONResponse:
    """Tell whether women or men speak in one or more sound files: a form with `file`, or a file as the body."""
    _check_options(request, "abstain_below", "timeline", "explain")
    if abstain_below and not 0.5 <= abstain_below <= 1:
        raise Refused(422, f"abstain_below: {abstain_below}; expected 0.5 to 1, or 0")
    service = of(request)
    with service.admitted() as model:
        sources = await uploads.files(request, service.settings)
        found = await service.answers(sources, model, abstain_below, timeline, explain)
    answers = []
    for answer, picture in found:
        values = answer.as_dict({})
        values.pop("model", None)
        answers.append(values if picture is None else values | {"picture": data_url(picture)})
    return JSONResponse({"model": model.identity, "answers": answers}, headers=service.headers(model))


def _check_options(request: Request, *known: str) -> None:
    for name in request.query_params:
        if name not in known:
            raise Refused(422, f"{name:.80}: no option; expected {' or '.join(known) or 'none'}")


def data_url(png: bytes) -> str:
    """A picture as a page can show it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@router.post(
    "/v1/explain",
    openapi_extra=UPLOAD,
    response_class=Response,
    responses={**TROUBLE, 200: {"content": {"image/png": BINARY}}},
)
async def explain(request: Request) -> Response:
    """Draw what in one sound file led to its answer."""
    _check_options(request)
    service = of(request)
    with service.admitted() as model:
        sources = await uploads.files(request, service.settings)
        if len(sources) != 1:
            raise Refused(422, f"file: {len(sources)} of them; expected one")
        ((answer, picture),) = await service.answers(sources, model, explain=True)
    if answer.error is not None:
        raise AudioError(answer.error)
    if picture is None:
        why = "it is longer than 20 minutes" if answer.probability else "no speech found"
        raise AudioError(f"{answer.path}: {why}, so there is no answer to explain")
    return Response(picture, media_type="image/png", headers=service.headers(model))


@router.get("/v1/model", responses={**described(401, 421, 503), 200: {"model": ModelDescription}})
async def model(request: Request) -> JSONResponse:
    """Which model answers, how it did in its test, and its card in Markdown."""
    service = of(request)
    found = service.follower.model()
    return JSONResponse(found.described, headers=service.headers(found))


@router.get("/health", responses={200: {"model": State}})
async def health() -> JSONResponse:
    """Whether the process runs."""
    return JSONResponse({"status": "ok"})


@router.get("/ready", responses={**described(503), 200: {"model": State}})
async def ready(request: Request) -> JSONResponse:
    """Whether there is a model that answers."""
    service = of(request)
    return JSONResponse({"status": "ok"}, headers=service.headers(service.follower.model()))


@router.get(
    "/metrics", response_class=Response, responses={**described(401, 421), 200: {"content": {"text/plain": {}}}}
)
async def prometheus() -> Response:
    """Requests, latencies, queue, answers by label and the version that answers, for Prometheus."""
    return Response(metrics.text(), media_type=metrics.CONTENT_TYPE)
