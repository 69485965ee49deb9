"""All trials of a comparison, and what is made of them: figures of each recipe and gains of each practice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from kanji_diffusion.core.progress import Progress
from kanji_diffusion.evaluation.intervals import crossed_interval
from kanji_diffusion.recipes.arms import OPERATIONS, STEPS, Arm, arms
from kanji_diffusion.recipes.glyphs import SYNONYM, TRAINED, ZERO_SHOT
from kanji_diffusion.recipes.settings import RecipeSettings
from kanji_diffusion.recipes.trials import Trial, Trials


@dataclass(frozen=True)
class Measure:
    """One figure of a recipe.

    Attributes:
        title: What is measured, for people.
        of: Its value for each picture, from the scores of a trial, or for the trial, from its report.
        kind: Of the pictures; None for a figure of the trial.
        lower: Whether less is better.
        share: Whether it is a share, told in percent.
        ratio: Whether gains are ratios, of a figure that is never 0 or less.
    """

    title: str
    of: Callable[[Any], Any]
    kind: str | None = None
    lower: bool = False
    share: bool = False
    ratio: bool = False


def _column(name: str) -> Callable[[pd.DataFrame], Any]:
    return lambda scores: scores[name].to_numpy(dtype=float)


def _figure(*path: str) -> Callable[[dict[str, Any]], float]:
    def value(report: dict[str, Any]) -> float:
        for name in path:
            report = report[name]
        return float(report)  # type: ignore[arg-type]

    return value


MEASURES = {
    "read": Measure("read by the OCR engine", _column("read"), TRAINED, share=True),
    "nearest": Measure("nearest to the real glyph asked for", _column("nearest"), TRAINED, share=True),
    "overlap": Measure("stroke overlap with it", _column("overlap"), TRAINED, share=True),
    "holes": Measure("its number of holes", _column("holes"), TRAINED, share=True),
    "style": Measure("its style", _column("style_right"), TRAINED, share=True),
    "distance": Measure("distance of shapes to real glyphs", _figure("distance"), lower=True),
    "understood": Measure(
        "nearest to the glyph asked for, less with shuffled captions",
        lambda scores: (scores["nearest"] - scores["shuffled"]).to_numpy(dtype=float),
        TRAINED,
        share=True,
    ),
    "synonym": Measure("nearest, by a meaning that no caption used", _column("nearest"), SYNONYM, share=True),
    "zero_shot": Measure("nearest, of untrained characters", _column("nearest"), ZERO_SHOT, share=True),
    "gradient_roughness": Measure(
        "roughness of the gradient norm", _figure("gradient_roughness"), lower=True, ratio=True
    ),
    "loss_roughness": Measure("roughness of the loss", _figure("loss_roughness"), lower=True, ratio=True),
    "skipped": Measure("steps that were not finite", _figure("skipped"), lower=True),
    "ceiling": Measure("largest learning rate that trains", _figure("ceiling")),
    "vae_gradient_roughness": Measure(
        "roughness of the autoencoder's gradient norm",
        _figure("autoencoder", "gradient_roughness"),
        lower=True,
        ratio=True,
    ),
    "vae_loss_roughness": Measure(
        "roughness of the autoencoder's loss", _figure("autoencoder", "loss_roughness"), lower=True, ratio=True
    ),
    "vae_overlap": Measure("stroke overlap of reconstructions", _figure("autoencoder", "overlap"), share=True),
    "vae_holes": Measure("holes of reconstructions", _figure("autoencoder", "holes"), share=True),
    "vae_read": Measure("reconstructions read", _figure("autoencoder", "read"), share=True),
    "parameters": Measure("parameters of the UNet", _figure("parameters"), lower=True, ratio=True),
    "operations": Measure("operations an image and step", _figure("operations"), lower=True, ratio=True),
}
"""What is measured of each recipe, by name."""


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table by the names of its columns."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def run_trials(trials: Trials, settings: RecipeSettings) -> list[Trial]:
    """Every recipe with every seed, at equal steps, and at equal operations where these differ."""
    every = arms(settings.practices)
    done: list[Trial] = []
    dearer: list[Arm] = []
    with Progress("comparing recipes", settings.seeds * len(every), unit="trial") as progress:
        for seed in range(settings.seeds):
            trials.forget()
            here: dict[str, Trial] = {}
            for arm in every:
                here[arm.name] = trials.run(arm, seed)
                progress.advance(note=f"({arm.name}, seed {seed})")
            costs = {name: trial.report["operations"] for name, trial in here.items()}
            if seed == 0:
                dearer = [arm for arm in every if arm.base and _differs(costs, arm, settings.tolerance)]
                progress.expect(settings.seeds * len(dearer))
            done += here.values()
            for arm in dearer:
                assert arm.base is not None
                equal = replace(arm, compute=OPERATIONS)
                done.append(trials.run(equal, seed, costs[arm.base] / costs[arm.name]))
                progress.advance(note=f"({equal.key}, seed {seed})")
    return done


def _differs(costs: dict[str, float], arm: Arm, tolerance: float) -> bool:
    assert arm.base is not None
    return abs(costs[arm.base] / costs[arm.name] - 1) > tolerance


def trial_values(trial: Trial) -> dict[str, np.ndarray]:
    """The values of each measure in one trial: one for each picture, or a single one."""
    found = {}
    for name, measure in MEASURES.items():
        if measure.kind is None:
            found[name] = np.array([measure.of(trial.report)], dtype=float)
        else:
            found[name] = measure.of(trial.scores[trial.scores["kind"] == measure.kind])
    return found


def recipe_figures(done: Iterable[Trial]) -> pd.DataFrame:
    """What each recipe reaches.

    Returns:
        A row for each arm and measure: arm, compute, measure, value, low, high (95 % over seeds and pictures), and
        `spread`, the standard deviation over seeds of their means.
    """
    rows = []
    for key, found in _values(done).items():
        for measure, values in found.items():
            estimate = crossed_interval(values)
            means = values.mean(axis=1)
            row = {"arm": key[0], "compute": key[1], "measure": measure, "value": estimate.value}
            spread = float(means.std(ddof=1)) if len(means) > 1 else float("nan")
            rows.append(row | {"low": estimate.low, "high": estimate.high, "spread": spread})
    return pd.DataFrame(rows)


def recipe_gains(done: Iterable[Trial], settings: RecipeSettings) -> pd.DataFrame:
    """What each practice brings, and the improved and today's recipe as wholes, paired by seed and picture.

    Returns:
        A row for each comparison and measure: arm, base, practice (null for wholes), change ("added", "taken",
        "whole"), compute, measure, `without`, `with`, and `gain` with `low` and `high` (95 %): how much better it is
        with the practice, or in the arm than in the original. It is a difference or, of measures that are ratios, a
        logarithm. `percent` with its bounds is the gain as a share of what there is without; of ratios of which less is
        better, it is that of their reciprocals.
    """
    found, rows = _values(done), []
    for arm in arms(settings.practices):
        for compute in (STEPS, OPERATIONS):
            if arm.base is None or (arm.name, compute) not in found:
                continue
            pair = found[arm.name, compute], found[arm.base, STEPS]
            taken = arm.practice is not None and arm.name == f"{arm.base} - {arm.practice}"
            has, lacks = pair[::-1] if taken else pair
            change = "taken" if taken else "added" if arm.practice else "whole"
            names = {"arm": arm.name, "base": arm.base, "practice": arm.practice, "change": change, "compute": compute}
            rows += [names | _gain(name, lacks[name], has[name]) for name in MEASURES]
    return pd.DataFrame(rows)


def _gain(name: str, lacks: np.ndarray, has: np.ndarray) -> dict[str, Any]:
    measure = MEASURES[name]
    without, within = (float(values.mean()) if values.size else float("nan") for values in (lacks, has))
    ratio = measure.ratio and min(lacks.min(), has.min()) > 0
    found = crossed_interval(np.log(has / lacks) if ratio else has - lacks)
    bounds = [-found.value, -found.high, -found.low] if measure.lower else [found.value, found.low, found.high]
    if ratio:
        percents = [100 * float(np.expm1(bound)) for bound in bounds]
    else:
        percents = [100 * bound / without if without > 0 and not measure.lower else float("nan") for bound in bounds]
    return (
        {"measure": name, "without": without, "with": within}
        | dict(zip(("gain", "low", "high"), bounds, strict=True))
        | dict(zip(("percent", "percent_low", "percent_high"), percents, strict=True))
    )


def timed_figures(done: Iterable[Trial]) -> pd.DataFrame:
    """Time and reading of each way of sampling, mean over the seeds.

    Returns:
        arm, sampler, steps, guidance_scale, pictures_per_second, read, nearest, overlap; and `speed` with `low` and
        `high`, the pictures a second as a multiple of those of the original's sampling of the same model.
    """
    rows = []
    for trial in done:
        found = trial.report.get("timed", [])
        # The first is the original's.
        rows += [
            {"arm": trial.arm.name, "place": place, **row, "log_speed": np.log(found[0]["seconds"] / row["seconds"])}
            for place, row in enumerate(found)
        ]
    figures = []
    for (arm, _), part in pd.DataFrame(rows).groupby(["arm", "place"], sort=False):
        speed = crossed_interval(part["log_speed"].to_numpy()[:, None])
        setting = part.iloc[0][["sampler", "steps", "guidance_scale"]].to_dict()
        means = part[["read", "nearest", "overlap"]].mean().to_dict()
        figures.append(
            {"arm": arm, **setting, **means, "pictures_per_second": float((1 / part["seconds"]).mean())}
            | {name: float(np.exp(getattr(speed, bound))) for name, bound in _BOUNDS.items()}
        )
    return pd.DataFrame(figures)


_BOUNDS = {"speed": "value", "low": "low", "high": "high"}


def _values(done: Iterable[Trial]) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """By arm and what is equal, the values of each measure, `[seeds, pictures]`."""
    collected: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}
    for trial in done:
        collected.setdefault((trial.arm.name, trial.arm.compute), []).append(trial_values(trial))
    return {
        key: {name: np.stack([each[name] for each in found]) for name in MEASURES} for key, found in collected.items()
    }


def learning_curves(done: Iterable[Trial]) -> pd.DataFrame:
    """Loss and gradient norm of each arm, mean over its seeds: arm, compute, step, loss, gradient_norm."""
    parts = []
    for trial in done:
        curves = {name: trial.report[name] for name in ("loss", "gradient_norm")}
        names = {"arm": trial.arm.name, "compute": trial.arm.compute}
        parts.append(pd.DataFrame(curves).assign(**names, step=lambda rows: rows.index + 1))
    return pd.concat(parts).groupby(["arm", "compute", "step"], sort=False, as_index=False).mean()


def first_pictures(done: Iterable[Trial]) -> dict[str, np.ndarray]:
    """Pictures of each arm with the first seed, uint8 `[N, H, W]`, by its key."""
    return {trial.arm.key: trial.pictures for trial in done if trial.seed == 0}
