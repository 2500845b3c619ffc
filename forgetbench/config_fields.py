"""Kinds of fields that config, suites, policies and waivers share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def check_name(value: str) -> str:
    if not value or len(value) > 100 or any(not (c.isalnum() or c in "._-") for c in value) or value[0] in ".-":
        raise ValueError("use letters, digits, '.', '_' and '-' (names become folder names)")
    return value


def _label(value: str) -> str:
    if not value.strip() or len(value) > 100 or not value.isprintable():
        raise ValueError("use one line of up to 100 printable characters")
    return value


def _sentence(value: str) -> str:
    if not value.strip() or len(value) > 500 or not value.isprintable():
        raise ValueError("use one line of up to 500 printable characters")
    return value


def _task_type(value: str) -> str:
    parts = value.split("/")
    if len(parts) > 2 or not all(parts):
        raise ValueError("a task_type has one or two levels, such as reasoning/arithmetic")
    return value


Name = Annotated[str, AfterValidator(check_name)]
Label = Annotated[str, AfterValidator(_label)]
Sentence = Annotated[str, AfterValidator(_sentence)]
TaskTypePath = Annotated[str, AfterValidator(_task_type)]
# Strict: in YAML `margin: yes` is a truth value, and 1.0 is not what was meant.
Points = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Alpha = Annotated[float, Field(gt=0, le=0.5, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Switch = Annotated[bool, Field(strict=True)]
ViewName = Literal["ability", "chat", "as_used"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
