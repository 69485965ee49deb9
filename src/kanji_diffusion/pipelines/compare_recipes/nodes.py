"""Nodes of compare_recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.latents import CaptionDropoutSettings
from kanji_diffusion.diffusion.loss import DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.diffusion.unet import UNetSettings
from kanji_diffusion.diffusion.vae_loss import FinishSettings, VAELossSettings
from kanji_diffusion.evaluation.report import figure_image
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.recipes import claims as plan
from kanji_diffusion.recipes import comparison, report
from kanji_diffusion.recipes.arms import PRACTICES, STEPS, arms
from kanji_diffusion.recipes.glyphs import TRAINED, choose_glyphs, plan_texts, today_texts
from kanji_diffusion.recipes.settings import RecipeSettings
from kanji_diffusion.recipes.training import Today
from kanji_diffusion.recipes.trials import Trials
from kanji_diffusion.tracking.nested import NestedRun

_CURVE_POINTS = 50


def choose_recipe_glyphs(
    glyphs: pd.DataFrame, characters: pd.DataFrame, captions: pd.DataFrame, settings: RecipeSettings
) -> pd.DataFrame:
    """The glyphs that every recipe is trained on, and those of zero-shot characters."""
    return choose_glyphs(glyphs, characters, captions, settings.glyphs)


def compare_recipes(
    chosen: pd.DataFrame,
    captions: pd.DataFrame,
    caption_settings: CaptionSettings,
    settings: RecipeSettings,
    unet: UNetSettings,
    text_encoder: TextEncoderSettings,
    schedule: ScheduleSettings,
    loss: DiffusionLossSettings,
    dropout: CaptionDropoutSettings,
    vae: vaes.VAESettings,
    vae_loss: VAELossSettings,
    vae_finish: FinishSettings | None,
    checkpoints: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, Image.Image]:
    """Scores of all pictures, figures of all recipes, gains, time, learning curves, and an image grid.

    Finished trials lie among the checkpoints, so that a stopped comparison goes on.
    """
    today = Today(unet, text_encoder, schedule, loss, dropout.rate, vae, vae_loss, vae_finish)
    texts = {
        False: plan_texts(chosen, "{subject}"),
        True: plan_texts(chosen, settings.values.prompt),
        None: today_texts(chosen, captions, caption_settings),
    }
    trials = Trials(chosen, texts, settings, today, checkpoints / "recipes")
    done = comparison.run_trials(trials, settings)
    names = ["arm", "compute", "seed"]
    scores = pd.concat(
        trial.scores.assign(arm=trial.arm.name, compute=trial.arm.compute, seed=trial.seed) for trial in done
    )
    return (
        scores[[*names, *(name for name in scores if name not in names)]].reset_index(drop=True),
        comparison.recipe_figures(done),
        comparison.recipe_gains(done, settings),
        comparison.timed_figures(done),
        comparison.learning_curves(done),
        report.recipe_sheet(comparison.first_pictures(done), trials.real.images[trials.real.trained]),
    )


def judge_claims(
    gains: pd.DataFrame, timed: pd.DataFrame, figures: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The plan's claims beside what was measured, and the report."""
    table = plan.claim_table(gains, timed, figures)
    return table, plan.summarise(table, gains, timed)


def write_recipe_report(
    claims: pd.DataFrame,
    figures: pd.DataFrame,
    gains: pd.DataFrame,
    timed: pd.DataFrame,
    sheet: Image.Image,
    chosen: pd.DataFrame,
    settings: RecipeSettings,
) -> tuple[Image.Image, str, str]:
    """A plot of the gains, the page, and its tables as Markdown."""
    trained = chosen[chosen["role"] == TRAINED]
    about = [
        f"{figures['arm'].nunique()} recipes, each trained with {settings.seeds} seeds on the same "
        f"{trained['character'].nunique()} characters ({', '.join(settings.glyphs.styles)}) at "
        f"{settings.glyphs.size} px, for {settings.unet.training.steps} steps of "
        f"{settings.unet.training.batch_size} pictures.",
        *report.ABOUT,
    ]
    tables = report.tables(claims, figures, gains, timed)
    plot = report.gain_plot(gains)
    return (
        figure_image(plot),
        report.render_page(tables, plot, sheet, about),
        "\n\n".join([*about, report.markdown(tables)]),
    )


def log_recipes(figures: pd.DataFrame, curves: pd.DataFrame, settings: RecipeSettings) -> dict[str, NestedRun]:
    """One run for each recipe, with its practices, figures and learning curves."""
    practices = {arm.name: arm.practices for arm in arms(settings.practices)}
    runs: dict[str, NestedRun] = {}
    for (arm, compute), found in figures.groupby(["arm", "compute"], sort=False):
        own = curves[(curves["arm"] == arm) & (curves["compute"] == compute)]
        own = own.iloc[:: max(1, len(own) // _CURVE_POINTS)]
        has = practices[str(arm)]
        runs[str(arm) if compute == STEPS else f"{arm} ({compute})"] = NestedRun(
            {"recipe": str(arm), "equal": str(compute)}
            | {name: "today" if has is None else str(name in has).lower() for name in PRACTICES},
            dict(zip(found["measure"], found["value"].astype(float), strict=True)),
            {
                f"curves/{name}": list(zip(own["step"].tolist(), own[name].tolist(), strict=True))
                for name in ("loss", "gradient_norm")
            },
        )
    return runs
