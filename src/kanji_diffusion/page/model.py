"""The model behind the page: plans and pictures as `generate` makes them, and what the evaluators say of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.captions import CaptionSettings, expand_prompt
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.kanjivg import LAYOUTS, Composition
from kanji_diffusion.imaging.png import encode_png
from kanji_diffusion.page.evaluators import Evaluators
from kanji_diffusion.page.queue import Tell
from kanji_diffusion.page.settings import PageRequest
from kanji_diffusion.planning.characters import CharacterMeanings
from kanji_diffusion.planning.plan import Plan
from kanji_diffusion.sampling.export import TextToKanji, model_fingerprint
from kanji_diffusion.sampling.lineage import embed_lineage
from kanji_diffusion.sampling.requests import plan_word, prompt_fault
from kanji_diffusion.sampling.sampler import SamplingSettings, draw, place

_PROMPTS_KEPT = 256


class PageModel:
    """A finished model with its settings and evaluators.

    Args:
        model: What plans and draws.
        name: What the page calls it.
        captions: The settings that expand a prompt.
        sampling: Those of a request that says nothing else.
        evaluators: Of the pictures.
        plans: How many plans of a prompt are proposed.
    """

    def __init__(
        self,
        model: TextToKanji,
        name: str,
        captions: CaptionSettings,
        sampling: SamplingSettings,
        evaluators: Evaluators,
        plans: int,
    ) -> None:
        self._model, self._captions = model, model.captions(captions)
        self._sampling = sampling.for_model(model.pipeline)
        self.name, self.evaluators = name, evaluators
        self.fingerprint = model_fingerprint(model.pipeline)
        self._meanings = CharacterMeanings(model.planner.tables["dictionary"]) if model.planner else None
        self._plans = lru_cache(_PROMPTS_KEPT)(lambda prompt: plan_word(model.planner, prompt, plans))

    def prepare(self) -> None:
        """Read what plans are made from, so that the first visitor need not wait for it."""
        if self._model.planner:
            self._model.planner.propose("vampire")

    def describe(self) -> dict[str, Any]:
        """What the page tells of the model before anything is drawn."""
        return {
            "model": self.name,
            "fingerprint": self.fingerprint,
            "styles": list(self._captions.styles),
            "defaults": {
                "style": self._captions.default_style,
                "steps": self._sampling.steps,
                "guidance": self._sampling.guidance_scale,
            },
            "missing": self.evaluators.missing(),
        }

    def answer(self, request: PageRequest, tell: Tell) -> None:
        """Plan, draw and evaluate one picture.

        Args:
            request: What is asked for.
            tell: Is told, in this order, of the `plans` and which is `chosen` (null for a model without a planner), of
                each `step` [done, of all], of the `picture`, and of what is `said` of it
                and what is `missing` there.

        Raises:
            KanjiDiffusionError: If the prompt cannot be built, or the plan is none of those for it.
            Cancelled: By `tell`, also between two steps.
        """
        if fault := prompt_fault(request.prompt):
            raise KanjiDiffusionError(f"What you typed {fault}: type a meaning, a kanji, or parts of one.")
        word = " ".join(request.prompt.split())
        plans = self._plans(word)
        plan = _choose(plans, request.ids, word)
        style = request.style or self._captions.default_style
        prompt = expand_prompt(plan.subject if plan else word, style, self._captions)
        told = [self._describe_plan(each) for each in plans]
        tell({"plans": told, "chosen": plans.index(plan) if plan else None, "prompt": prompt})
        settings = place(self._model.pipeline, request.sampling(self._sampling), 1)
        pixels = draw(
            self._model.pipeline,
            [prompt],
            [request.seed],
            settings,
            after_step=lambda done, steps: tell({"step": [done, steps]}),
        )
        row = {"word": word, "style": style, "prompt": prompt, "seed": request.seed}
        asked = pd.DataFrame([row | {"plan": plan.to_json() if plan else None}])
        ((name, picture),) = embed_lineage(self._model.pipeline, asked, pixels, settings, "").items()
        png = base64.b64encode(encode_png(picture)).decode()
        tell({"picture": {"name": f"{name}.png", "png": png}})
        tell({"said": self._evaluate(pixels[0], style, plan), "missing": self.evaluators.missing()})

    def _evaluate(self, pixels: np.ndarray, style: str, plan: Plan | None) -> dict[str, Any]:
        said = self.evaluators.evaluate(pixels, style, plan)
        if self._meanings and "nearest" in said:
            said["nearest"] = [(each, like, self._meanings.of(each)[:2]) for each, like in said["nearest"]]
        return said

    def _describe_plan(self, plan: Plan) -> Mapping[str, Any]:
        assert self._model.planner
        tree = _describe(self._model.planner.compositions, plan.composition, outer=True)
        built = plan.label.rpartition(" = ")[2]
        return {"ids": plan.ids, "built": built, "origin": plan.reason.rpartition(built)[2], "tree": tree}


def _choose(plans: list[Plan], ids: str | None, word: str) -> Plan | None:
    if ids is None or not plans:
        return plans[0] if plans else None
    for plan in plans:
        if plan.ids == ids:
            return plan
    raise KanjiDiffusionError(f"The plan {ids} is none of those for '{word}': choose among those that are shown.")


def _describe(compositions: Compositions, part: Composition, outer: bool = False) -> dict[str, Any]:
    """A part with its name, or its layout and its own parts by slot."""
    if part.layout and (outer or not part.base):
        slots = zip(LAYOUTS[part.layout], part.parts, strict=True)
        return {
            "layout": part.layout,
            "parts": [{"slot": slot} | _describe(compositions, each) for slot, each in slots],
        }
    return {"form": part.form or part.base, "name": compositions.names.get(part.base or "", part.base)}
