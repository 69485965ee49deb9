"""One trial of each recipe and seed: trained, drawn from, scored, and kept, so that a stopped comparison goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL

from kanji_diffusion.core.files import written_whole
from kanji_diffusion.core.fingerprint import fingerprint
from kanji_diffusion.core.hardware import autocast_dtype, choose_device
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.schedule import training_schedule
from kanji_diffusion.evaluation.distance import polynomial_kernel, squared_mmd
from kanji_diffusion.evaluation.reading import score_ocr
from kanji_diffusion.imaging.ink import hole_counts, stroke_overlap
from kanji_diffusion.imaging.shapes import shape_vectors
from kanji_diffusion.recipes.arms import IMPROVED, ORIGINAL, TODAY, Arm
from kanji_diffusion.recipes.curves import quiet
from kanji_diffusion.recipes.glyphs import SYNONYM, TRAINED, ZERO_SHOT, RealGlyphs, Texts
from kanji_diffusion.recipes.models import ConvolutionalVAE
from kanji_diffusion.recipes.settings import RecipeSettings
from kanji_diffusion.recipes.training import Today, Trained, train_recipe, train_vae
from kanji_diffusion.sampling.sampler import DrawingSettings, sample
from kanji_diffusion.training.identity import CODE_VERSION, library_versions

# So that the noise of a picture does not depend on how many there are of another kind.
_FIRST_SEED = {TRAINED: 0, SYNONYM: 1000, ZERO_SHOT: 2000}
_SAMPLING = "sampling"


class TrialFolder:
    """Finished trials, each in one file of arrays with a report in it.

    Args:
        folder: Where they lie.
        shared: All that every trial depends on besides its own key.
    """

    def __init__(self, folder: Path, shared: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._shared = folder, dict(shared)

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self._folder / f"{fingerprint({**self._shared, 'trial': dict(key)})}.npz"

    def load(self, key: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """Report and arrays of a finished trial, or None."""
        path = self._path(key)
        if not path.exists():
            return None
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        return json.loads(str(arrays.pop("report"))), arrays

    def save(self, key: Mapping[str, Any], report: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a trial; a file is there as a whole or not at all."""
        with written_whole(self._path(key)) as path:
            np.savez(path, allow_pickle=False, **{**arrays, "report": np.array(json.dumps(report))})


@dataclass(frozen=True)
class Trial:
    """What one recipe reached with one seed.

    Attributes:
        arm: Of the recipe.
        seed: Of the trial.
        report: Figures and curves of its training, and `autoencoder` with those of its autoencoder.
        scores: A row for each picture: kind, character, style, and what was measured of it.
        pictures: Drawn from the trained captions, uint8 `[N, H, W]`.
    """

    arm: Arm
    seed: int
    report: dict[str, Any]
    scores: pd.DataFrame
    pictures: np.ndarray


class Trials:
    """Runs trials, or finds them.

    Args:
        chosen: What `choose_glyphs` returned.
        texts: Of the bare prompt (False), the long one (True), and of today's recipe (None).
        settings: Of the comparison.
        today: The project's own parameters.
        folder: Where trials are kept.
    """

    def __init__(
        self,
        chosen: pd.DataFrame,
        texts: Mapping[bool | None, Texts],
        settings: RecipeSettings,
        today: Today,
        folder: Path,
    ) -> None:
        self.settings, self.today, self.texts = settings, today, texts
        self.real = RealGlyphs(chosen, settings.glyphs.size)
        device = choose_device(settings.unet.training.device)
        self._halved = autocast_dtype(device, "auto") is not None
        shared = {
            "settings": settings.model_dump(exclude={"practices", "seeds", "tolerance"}),
            "today": _plain(today),
            "glyphs": fingerprint({"": self.real.images.tolist(), "rows": self.real.rows.astype(str).to_dict()}),
            "texts": {str(kind): [each.captions, each.requests.to_dict()] for kind, each in texts.items()},
            "halved": self._halved,
            "libraries": library_versions(),
            "code": CODE_VERSION,
        }
        self._kept = TrialFolder(folder, shared)
        self._trained: dict[str, Trained] = {}
        self._vaes: dict[tuple[bool | None, int], tuple[AutoencoderKL, dict[str, Any]]] = {}

    def forget(self) -> None:
        """Drop the models that are held for recipes that differ in sampling alone, which are of one seed."""
        self._trained.clear()
        self._vaes.clear()

    def run(self, arm: Arm, seed: int, compute: float = 1.0) -> Trial:
        """The trial of a recipe.

        Args:
            arm: The recipe.
            seed: Of weights, order and noise.
            compute: Factor of its steps.
        """
        key = {"practices": self._effective(arm.practices), "seed": seed, "compute": round(compute, 4)}
        found = self._kept.load(key)
        if found is None:
            with quiet():
                tried = self._try(arm, seed, compute)
            self._kept.save(key, *tried)
            found = self._kept.load(key)
            assert found is not None
        report, arrays = found
        return Trial(arm, seed, report, pd.DataFrame(report.pop("scores")), arrays["pictures"])

    def _effective(self, practices: frozenset[str] | None) -> list[str] | None:
        """Without what changes nothing on this machine."""
        if practices is None:
            return None
        return sorted(practices if self._halved else practices - {"autocast"})

    def _try(self, arm: Arm, seed: int, compute: float) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        practices = arm.practices
        texts = self.texts[None if practices is None else "prompt" in practices]
        vae, autoencoder = self.vae(None if practices is None else "norm" in practices, seed)
        name = json.dumps([[*filter(_SAMPLING.__ne__, self._effective(practices) or [])], practices is None, compute])
        if name not in self._trained:
            images = self.real.images[self.real.of(texts.requests[texts.requests["kind"] == TRAINED])]
            self._trained[name] = train_recipe(practices, vae, images, texts, self.settings, self.today, seed, compute)
        trained = self._trained[name]
        drawing = self._drawing(practices)
        requests = texts.requests
        # Equal places have equal noise in all recipes of a seed.
        places = requests["kind"].map(_FIRST_SEED) + requests.groupby("kind").cumcount()
        states = trained.encoder.states(["", *requests["text"]])
        pictures = _draw(trained, vae, states, (10_000 * seed + places).tolist(), drawing)
        kinds = requests.groupby("kind", sort=False).indices
        parts = [self._scores(requests.iloc[rows], pictures[rows]) for rows in kinds.values()]
        drawn = pictures[kinds[TRAINED]]
        report = trained.report | {"scores": pd.concat(parts).to_dict("list"), "autoencoder": autoencoder}
        report["distance"] = self._distance(drawn)
        if arm.name in (ORIGINAL, IMPROVED, TODAY) and compute == 1:
            report["timed"] = self._timed(trained, vae, texts)
        return report, {"pictures": drawn}

    def vae(self, grouped: bool | None, seed: int) -> tuple[AutoencoderKL, dict[str, Any]]:
        """The autoencoder of recipes with the practice `norm` or without it (None: of today), and its figures."""
        if (grouped, seed) not in self._vaes:
            key = {"autoencoder": grouped, "seed": seed}
            images = self.real.images[self.real.trained]
            if self._kept.load(key) is None:
                vae, report = train_vae(grouped, images, self.settings, self.today, seed)
                report |= self._reconstructions(vae) | {
                    "config": {name: value for name, value in vae.config.items() if name[0] != "_"}
                }
                self._kept.save(key, report, {name: value.numpy() for name, value in vae.state_dict().items()})
            found = self._kept.load(key)
            assert found is not None
            report, weights = found
            kind: Any = AutoencoderKL if grouped is None else ConvolutionalVAE
            vae = kind.from_config(report.pop("config")).eval()
            vae.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
            self._vaes[grouped, seed] = vae, report
        return self._vaes[grouped, seed]

    def _drawing(self, practices: frozenset[str] | None) -> DrawingSettings:
        own = self.settings.sampling
        return own.today if practices is None else own.improved if _SAMPLING in practices else own.original

    def _scores(self, requests: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
        """What is measured of each picture; `shuffled` is what a picture of another caption would be read as."""
        wanted, role = self.real.of(requests), ZERO_SHOT if (requests["kind"] == ZERO_SHOT).all() else TRAINED
        found = self.real.nearest(images, role)
        real, characters = self.real.images[wanted], requests["character"].to_numpy(dtype=object)
        seen = self.real.rows["character"].to_numpy(dtype=object)[found]
        styles = self.real.rows["style"].to_numpy(dtype=object)[found]
        return requests[["kind", "character", "style"]].assign(
            read=score_ocr(characters.tolist(), images)["ocr"].to_numpy(),
            nearest=(seen == characters).astype(float),
            shuffled=(seen == np.roll(characters, 1)).astype(float),
            style_right=(styles == requests["style"]).astype(float) if requests["style"].nunique() > 1 else np.nan,
            overlap=stroke_overlap(images, real),
            holes=(hole_counts(images) == hole_counts(real)).astype(float),
        )

    def _reconstructions(self, vae: AutoencoderKL) -> dict[str, float]:
        """How faithfully the trained glyphs survive."""
        real = self.real.images[self.real.trained]
        decoded = vaes.decode(vae, torch.as_tensor(vaes.encode(vae, real)[0]))
        characters = self.real.rows.loc[self.real.trained, "character"].tolist()
        return {
            "overlap": float(stroke_overlap(decoded, real).mean()),
            "holes": float((hole_counts(decoded) == hole_counts(real)).mean()),
            "read": float(score_ocr(characters, decoded)["ocr"].mean()),
            "distance": self._distance(decoded),
            "parameters": sum(each.numel() for each in vae.parameters()),
        }

    def _distance(self, images: np.ndarray) -> float:
        """Kernel distance of shapes to those of the real glyphs."""
        return squared_mmd(shape_vectors(images), self.real.shapes[self.real.trained], polynomial_kernel)

    def _timed(self, trained: Trained, vae: AutoencoderKL, texts: Texts) -> list[dict[str, Any]]:
        """Seconds a picture, and what is read, for each way of sampling."""
        own = self.settings.sampling
        requests = texts.requests[texts.requests["kind"] == TRAINED]
        states, rows = trained.encoder.states(["", *requests["text"]]), []
        for drawing in dict.fromkeys([own.original, own.improved, own.today, *own.timed]):
            # Today's schedule may end in pure noise, from which PLMS cannot start.
            if trained.schedule.zero_terminal_snr and drawing.sampler == "plms":
                continue
            began = time.perf_counter()
            pictures = _draw(trained, vae, states, range(len(requests)), drawing)
            seconds = (time.perf_counter() - began) / len(pictures)
            scores = self._scores(requests, pictures)
            setting = {name: getattr(drawing, name) for name in ("sampler", "steps", "guidance_scale")}
            means = {name: float(scores[name].mean()) for name in ("read", "nearest", "overlap")}
            rows.append(setting | means | {"seconds": seconds})
        return rows


def _draw(
    trained: Trained, vae: AutoencoderKL, states: torch.Tensor, seeds: Sequence[int], drawing: DrawingSettings
) -> np.ndarray:
    """Pictures uint8 `[N, H, W]` of text states `[N + 1, L, D]`, those of the empty caption first."""
    return sample(trained.unet, vae, training_schedule(trained.schedule), states[1:], states[0], seeds, drawing)


def _plain(today: Today) -> dict[str, Any]:
    values = vars(today)
    return {name: each.model_dump() if hasattr(each, "model_dump") else each for name, each in values.items()}
