"""The base of every parameter model, and what its errors are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

_ERRORS_TOLD = 3
_MUST_BE = {
    "bool": "true or false",
    "dict": "a mapping",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "model": "a mapping",
    "path": "the path of a file",
    "string": "text",
    "tuple": "a list",
}


class Settings(BaseModel):
    """A validated, immutable group of parameters: unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _named(path: Any) -> Any:
    if isinstance(path, str) and (not path.strip() or "\0" in path):
        raise ValueError("it must be the path of a file")
    return path


NamedPath = Annotated[Path, BeforeValidator(_named)]
"""The path of a file; no text at all would be the working directory."""


def model_of(hint: Any) -> type[BaseModel] | None:
    """The model that a type hint names: alone, beside None, or of the entries of a list or mapping."""
    named = (one for one in (hint, *get_args(hint)) if isinstance(one, type) and issubclass(one, BaseModel))
    return next(named, None)


def sentence(error: ValidationError, path: str, model: type[BaseModel] | None = None) -> str:
    """What is wrong with the parameters at `path`: one sentence for each of the first three errors.

    Args:
        error: What the validation raised.
        path: Where the parameters are in the configuration, such as "vae.model".
        model: Their model, for the names of its fields.
    """
    details = error.errors(include_url=False)
    # A tuple also counts as too short by its entries that are wrong.
    wrong = {one["loc"][:-1] for one in details if one["loc"]}
    details = [one for one in details if one["type"] != "too_short" or one["loc"] not in wrong]
    sentences = [_detail_sentence(detail, path, model) for detail in details[:_ERRORS_TOLD]]
    if len(details) > _ERRORS_TOLD:
        sentences.append(f"There are {len(details) - _ERRORS_TOLD} more.")
    return " ".join(sentences)


def _detail_sentence(detail: ErrorDetails, path: str, model: type[BaseModel] | None) -> str:
    name = ".".join([path, *map(str, detail["loc"])])
    kind, message = detail["type"], detail["msg"]
    if kind == "missing":
        return f"Parameter `{name}` is missing."
    if kind == "extra_forbidden":
        fields = _fields(model, detail["loc"][:-1])
        known = f": the parameters here are {', '.join(fields)}." if fields else "."
        matches = get_close_matches(str(detail["loc"][-1]), fields)
        return f"There is no parameter `{name}`" + (f": did you mean `{matches[0]}`?" if matches else known)
    if kind in ("value_error", "assertion_error"):
        reason = message.partition(", ")[2]
    else:
        family = _MUST_BE.get(kind.partition("_")[0])
        typed = kind.endswith(("_type", "_parsing", "_from_float")) and family
        reason = f"it must be {family}" if typed else re.sub("^(Input|Tuple) should", "it should", message)
        reason = reason.replace(" after validation", "")
    value = detail["input"]
    if isinstance(value, Mapping) and kind == "value_error":
        return f"Parameter `{name}` cannot be used: {reason.rstrip('.')}."
    given = "null" if value is None else repr(value) if isinstance(value, str) else f"{value}"
    return f"Parameter `{name}` is {given}: {reason.rstrip('.')}."


def _fields(model: type[BaseModel] | None, location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        # Places in a list and names in a mapping are no fields: all entries are of one model.
        if model and (field := model.model_fields.get(str(part))):
            model = model_of(field.annotation)
    return list(model.model_fields) if model else []
