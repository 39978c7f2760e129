"""The answers as OpenAPI describes them; they are written by `Answer.as_dict`, and not checked again."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class ModelIdentity(BaseModel):
    """Which version answered."""

    name: str | None
    version: int | None
    uri: str
    digest: str


class ModelDescription(ModelIdentity):
    """What is known about the model that answers."""

    architecture: str
    recipe: str
    test: dict[str, object]
    synthetic: bool
    card: str | None


class SegmentFound(BaseModel):
    """Speech of one gender, in seconds of the recording."""

    start: float
    end: float
    label: Literal["female", "male"]
    probability: float


class FileAnswer(BaseModel):
    """The answer to one file, or why there is none."""

    path: str
    label: Literal["female", "male", "mixed", "no speech", "unsure"] | None = None
    probability: dict[str, float] | None = None
    speech_seconds: float | None = None
    shares: dict[str, float] | None = None
    seconds: dict[str, float] | None = None
    segments: list[SegmentFound] | None = None
    warning: str | None = None
    picture: str | None = None
    error: str | None = None


class Answers(BaseModel):
    """The answers to the files of a request, in their order."""

    model: ModelIdentity
    answers: list[FileAnswer]


class State(BaseModel):
    """Whether the service runs, or answers."""

    status: Literal["ok"]
