"""The project's pipelines by name."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from kanji_diffusion.hooks import (
    configured_parameters,
    configured_stages,
    has_trained_model,
    tells_compositions,
    trains_adapter,
    trains_text_encoder,
)
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


def register_pipelines() -> dict[str, Pipeline]:
    """All pipelines; `kedro run` is the sum of those that make a model and evaluate it.

    Each has its name as namespace, so that Kedro-Viz opens on one box a pipeline. A node `initialise_unet` is therefore
    called `train_unet.initialise_unet`; datasets and parameters keep their names.
    """
    composed = tells_compositions()
    making = {
        "render_glyphs": render_glyphs.create_pipeline(composed=composed),
        "filter_glyphs": filter_glyphs.create_pipeline(composed=composed),
        "train_vae": train_vae.create_pipeline(),
        "train_unet": train_unet.create_pipeline(
            configured_stages(), trains_text=trains_text_encoder(), composed=composed, lora=trains_adapter()
        ),
        "evaluate": evaluate.create_pipeline(composed=composed),
    }
    given = configured_parameters(), has_trained_model()
    further = {
        "compare_recipes": compare_recipes.create_pipeline(),
        "adapt": adapt.create_pipeline(**adapt.variant(*given)),
        "distill": distill.create_pipeline(**distill.variant(*given)),
    }
    drawing = {
        "generate": generate.create_pipeline(**generate.variant(*given)),
        "build_font": build_font.create_pipeline(**build_font.variant(*given)),
        "score": score.create_pipeline(**score.variant(*given)),
    }
    named = {
        name: Pipeline(pipeline, namespace=name, prefix_datasets_with_namespace=False)
        for name, pipeline in (making | drawing | further).items()
    }
    return named | {"__default__": sum((named[name] for name in making), Pipeline([]))}
