"""Wiring of compare_recipes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.compare_recipes import nodes


def create_pipeline() -> Pipeline:
    """Glyphs → many short trainings → figures, gains, the plan's claims → plot, page and MLflow runs."""
    compared = Node(
        nodes.compare_recipes,
        {
            "chosen": "recipe_glyphs",
            "captions": "captions",
            "caption_settings": "params:captions",
            "settings": "params:recipes",
            "unet": "params:unet",
            "text_encoder": "params:text_encoder",
            "schedule": "params:schedule",
            "loss": "params:diffusion_loss",
            "dropout": "params:caption_dropout",
            "vae": "params:vae.model",
            "vae_loss": "params:vae.loss",
            "vae_finish": "params:vae.finish",
            "checkpoints": "checkpoints",
        },
        ["recipe_scores", "recipe_figures", "recipe_gains", "recipe_timings", "recipe_curves", "recipe_sheet"],
        name="compare_recipes",
    )
    return Pipeline(
        [
            Node(
                nodes.choose_recipe_glyphs,
                ["glyphs", "characters", "captions", "params:recipes"],
                "recipe_glyphs",
                name="choose_recipe_glyphs",
            ),
            compared,
            Node(
                nodes.judge_claims,
                ["recipe_gains", "recipe_timings", "recipe_figures"],
                ["recipe_claims", "recipe_report"],
                name="judge_claims",
            ),
            Node(
                nodes.write_recipe_report,
                {
                    "claims": "recipe_claims",
                    "figures": "recipe_figures",
                    "gains": "recipe_gains",
                    "timed": "recipe_timings",
                    "sheet": "recipe_sheet",
                    "chosen": "recipe_glyphs",
                    "settings": "params:recipes",
                },
                ["recipe_plot", "recipe_page", "recipe_summary"],
                name="write_recipe_report",
            ),
            Node(
                nodes.log_recipes,
                ["recipe_figures", "recipe_curves", "params:recipes"],
                "recipe_runs",
                name="log_recipes",
            ),
        ],
        tags="compare_recipes",
    )
