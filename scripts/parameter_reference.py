"""Writes docs/parameters.md: `.venv/bin/python scripts/parameter_reference.py`, from the root.

Names, ranges and descriptions are those of the models that the nodes' type hints name, defaults those of conf/base.
"""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from kedro.pipeline import Pipeline
from kedro.validation.type_extractor import TypeExtractor
from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo

from kanji_diffusion.core.settings import model_of
from kanji_diffusion.parameters import READ_BY_CONSTRUCTION, READ_BY_HOOKS
from kanji_diffusion.pipelines import (
    adapt,
    build_font,
    compare_recipes,
    distill,
    evaluate,
    filter_glyphs,
    generate,
    render_glyphs,
    score,
    train_unet,
    train_vae,
)
from kanji_diffusion.sampling.sampler import DrawingSettings
from kanji_diffusion.scoring.filtering import Limit
from kanji_diffusion.training.settings import TrainingSettings

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "parameters.md"
PIPELINES = {
    "render_glyphs": [render_glyphs.create_pipeline()],
    "filter_glyphs": [filter_glyphs.create_pipeline()],
    "train_vae": [train_vae.create_pipeline()],
    "train_unet": [train_unet.create_pipeline(["stage"])],
    "evaluate": [evaluate.create_pipeline()],
    "compare_recipes": [compare_recipes.create_pipeline()],
    "generate": [generate.create_pipeline(named=True), generate.create_pipeline(replay=True)],
    "build_font": [build_font.create_pipeline(named=True)],
    "score": [score.create_pipeline(pictures=True), score.create_pipeline(named=True)],
    "adapt": [adapt.create_pipeline(named=True)],
    "distill": [distill.create_pipeline(named=True)],
}
READ_BY_NO_NODE = READ_BY_HOOKS | READ_BY_CONSTRUCTION
# Models of several groups: a group lists what conf/base sets of them, and a table of their own lists the rest.
SHARED: dict[type[BaseModel], str] = {
    TrainingSettings: "Training",
    DrawingSettings: "Sampling",
    Limit: "Limits of a score",
}
HEAD = """# Parameters

Written by `.venv/bin/python scripts/parameter_reference.py`; do not edit.

Each section is one file of `conf/base`, and has a table for each group of parameters in it. The default is the value of
`conf/base`, or of the parameter's model where `conf/base` has none. To set a parameter, write it to
`conf/local/parameters.yml` or to the files of another environment, or give it on the command line:
`kedro run --params="vae.model.latent_channels=8"`. A name in angle brackets is free to choose.
"""
COLUMNS = "| parameter | default | allowed | what it does |\n|---|---|---|---|"
WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}
PLURALS = {"whole number": "whole numbers", "number": "numbers", "text": "texts"} | {
    "mapping of parameters": "mappings of parameters"
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One parameter."""

    path: str
    default: str
    allowed: str
    meaning: str

    def __str__(self) -> str:
        cells = (f"`{self.path}`", self.default, self.allowed, self.meaning)
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def reference() -> str:
    """The text of docs/parameters.md."""
    models = _models()
    parts = [HEAD]
    for name in ("", *PIPELINES):
        file = f"parameters{name and '_'}{name}.yml"
        parts.append(f"## {file}\n")
        groups = yaml.safe_load((ROOT / "conf" / "base" / file).read_text(encoding="utf-8"))
        single = {group: value for group, value in groups.items() if _is_single(group, models)}
        if single:
            parts.append(f"{_readers(*single)}\n")
            parts.append(_table([_single(group, models.get(group), value) for group, value in single.items()]))
        for group in [each for each in groups if each not in single]:
            parts.append(f"### {group}\n\n{_readers(group)}\n")
            parts += _tables(group, groups[group], models)
    parts.append("## Parameters of several groups\n\nDefaults of what a group of `conf/base` does not set.\n")
    for model, title in SHARED.items():
        rows = [Row(name, *_cells(field, {})) for name, field in model.model_fields.items()]
        parts.append(f"### {title}\n\n{_summary(model)}\n\n{_table(rows)}")
    return "\n".join(parts)


def _models() -> dict[str, Any]:
    """The model of each parameter that a node reads, by its path."""
    found: dict[str, Any] = {}
    for pipeline in (variant for variants in PIPELINES.values() for variant in variants):
        found |= TypeExtractor({"": pipeline}).extract_types_from_pipelines()
    return found


def _readers(*groups: str) -> str:
    names = [
        name
        for name, variants in PIPELINES.items()
        if any(_reads(variant, group) for variant in variants for group in groups)
    ]
    return f"Read by {', '.join(f'`{name}`' for name in names)}." if names else "Read by every run."


def _reads(pipeline: Pipeline, group: str) -> bool:
    return any(f"{name}.".startswith(f"params:{group}.") for name in pipeline.inputs())


def _tables(group: str, value: Any, models: Mapping[str, Any]) -> Iterator[str]:
    if group == "stages":
        yield from _described("stages.<name>", models["stages.stage"], value)
    elif group in models:
        yield from _described(group, models[group], {"": value})
    else:
        for name, part in value.items():
            yield from _described(f"{group}.{name}", models[f"{group}.{name}"], {"": part})


def _is_single(group: str, models: Mapping[str, Any]) -> bool:
    return group in READ_BY_NO_NODE or (group in models and issubclass(_known(models[group]), RootModel))


def _single(path: str, hint: Any, value: Any) -> Row:
    """The row of a parameter that is no group."""
    if path in READ_BY_NO_NODE:
        return Row(path, _shown(value), *READ_BY_NO_NODE[path])
    model = _known(hint)
    root = model.model_fields["root"]
    # Models of lists also take a single text.
    allowed = ("text, or " if get_origin(root.annotation) is tuple else "") + _allowed(root.annotation, root.metadata)
    null = ", or null" if value is None else ""
    return Row(path, _shown(value), allowed + null, _summary(model))


def _described(path: str, hint: Any, values: Mapping[str, Any]) -> Iterator[str]:
    """The table of one model, for which `values` are those of conf/base, by stage where there are several."""
    model = _known(hint)
    if issubclass(model, RootModel):
        yield _table([_single(path, hint, *values.values())])
        return
    yield f"`{path}`: {_summary(model)}{' It may be null.' if model is not hint else ''}\n"
    rows, shared = [], set()
    for row, owner, is_set in _rows(path, model, values):
        if is_set or owner not in SHARED:
            rows.append(row)
        else:
            shared.add(SHARED[owner])
    yield _table(rows)
    if shared:
        links = ", ".join(f"[{title}](#{title.lower().replace(' ', '-')})" for title in sorted(shared))
        yield f"Further parameters: {links}.\n"


def _rows(path: str, model: type[BaseModel], values: Mapping[str, Any]) -> Iterator[tuple[Row, type, bool]]:
    """For each field, also of nested models: its row, the class that defines it, and whether conf/base sets it."""
    for name, field in model.model_fields.items():
        here = {stage: value[name] for stage, value in values.items() if isinstance(value, Mapping) and name in value}
        owner = next(one for one in reversed(model.__mro__) if name in getattr(one, "model_fields", {}))
        inner = _model(field.annotation)
        if inner is not None and inner is not Limit:
            if inner is not field.annotation:
                yield Row(f"{path}.{name}", *_cells(field, {})), owner, True
            yield from _rows(f"{path}.{name}", inner, here)
            continue
        yield Row(f"{path}.{name}", *_cells(field, here)), owner, bool(here)
        entry = _entry(field.annotation)
        if entry is not None and not issubclass(model, entry):
            yield from ((row, one, True) for row, one, _ in _rows(f"{path}.{name}.<n>", entry, {}))


def _cells(field: FieldInfo, values: Mapping[str, Any]) -> tuple[str, str, str]:
    """Default, what is allowed, and what the parameter does."""
    default = ", ".join(_shown(value) + (stage and f" in `{stage}`") for stage, value in values.items())
    if not default or "" not in values:
        own = "none: must be given" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        default = f"{own}; {default}" if default else own
    allowed = _allowed(field.annotation, field.metadata)
    if not field.description:
        raise ValueError(f"a parameter has no description: {field}")
    return default, allowed, field.description


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and value and isinstance(next(iter(value.values())), Mapping):
        return ", ".join(f"`{name}`" for name in value)
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return f"{len(value)} entries"
    plain = list(value) if isinstance(value, tuple) else value
    return f"`{json.dumps(plain, ensure_ascii=False, default=_json)}`"


def _json(model: BaseModel) -> Any:
    return model.model_dump(mode="json", exclude_defaults=True)


def _allowed(hint: Any, metadata: list[Any] = []) -> str:  # noqa: B006 - never changed
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _allowed(arguments[0], [*_constraints(arguments[1:]), *metadata])
    if origin in (Union, types.UnionType):
        rest = [_allowed(one, metadata) for one in arguments if one is not type(None)]
        return " or ".join(rest) + (", or null" if type(None) in arguments else "")
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        if get_origin(arguments[0]) is Literal:
            return f"list of {count}{_allowed(arguments[0])}"
        kind, comma, limits = _allowed(arguments[0]).partition(",")
        return f"list of {count}{PLURALS.get(kind, kind)}" + (f", each{limits}" if comma else "")
    if origin is dict:
        return f"mapping: name to {_allowed(arguments[1])}"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return "mapping of parameters"
    return WORDS[hint] + _limits(metadata)


def _constraints(metadata: tuple[Any, ...]) -> list[Any]:
    return [one for each in metadata for one in (each.metadata if isinstance(each, FieldInfo) else [each])]


def _limits(metadata: list[Any]) -> str:
    told = []
    for kind, attribute, words in (
        (Ge, "ge", "at least"),
        (Gt, "gt", "more than"),
        (Le, "le", "at most"),
        (Lt, "lt", "less than"),
        (MultipleOf, "multiple_of", "a multiple of"),
    ):
        told += [f"{words} {getattr(one, attribute)}" for one in metadata if isinstance(one, kind)]
    return "".join(f", {each}" for each in told)


def _model(hint: Any) -> type[BaseModel] | None:
    """The model that a type hint names; None for a list or mapping of models."""
    return None if get_origin(hint) in (tuple, dict) else model_of(hint)


def _known(hint: Any) -> type[BaseModel]:
    model = _model(hint)
    assert model is not None, f"{hint} names no model"
    return model


def _entry(hint: Any) -> type[BaseModel] | None:
    """The model of a list's or mapping's entries."""
    return model_of(hint) if get_origin(hint) in (tuple, dict) else None


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _table(rows: list[Row]) -> str:
    return "\n".join([COLUMNS, *map(str, rows)]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
