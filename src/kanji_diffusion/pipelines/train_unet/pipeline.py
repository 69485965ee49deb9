"""Wiring of train_unet: one set of nodes for every stage, each in a namespace of the stage's name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.train_unet import nodes


def create_pipeline(
    stages: Sequence[str], *, trains_text: bool = True, composed: bool = True, lora: bool = False
) -> Pipeline:
    """Captions and latents → a UNet for each of `stages`, in order → the finished model.

    Args:
        stages: Names of the stages.
        trains_text: Whether the text encoder is trained along with the UNet; each stage then has one of its own.
        composed: Whether captions tell how characters are built, so that a planner goes with the model.
        lora: Whether an adapter is trained in place of the UNet's weights; all stages then start from the same ones.
    """
    texts = ["initial_text_encoder", *(f"{stage}.text_encoder" for stage in stages)] if trains_text else []
    unets = ["initial_unet", *(f"{stage}.unet" for stage in stages)]
    shared = [*_text(trains_text), _unet()]
    trained = []
    for number, stage in enumerate(stages):
        starts = {"start": unets[0 if lora else number]}
        starts |= {"start_text": texts[number]} if texts else {}
        starts |= {"start_lora": f"{stages[number - 1]}.lora"} if number and lora else {}
        trained.append(_stage(stage, starts, lora))
    finished = Node(
        nodes.assemble_model,
        {
            "unet": unets[-1],
            "vae": "vae",
            "settings": "params:text_encoder",
            "schedule": "params:schedule",
            "sampling": "params:sampling",
            "architecture": "params:unet",
        }
        | ({"text_encoder": texts[-1]} if texts else {})
        | ({"planner": "planner"} if composed else {})
        | ({"start": unets[0], "adapter": f"{stages[-1]}.lora"} if lora else {}),
        "text_to_kanji",
        name="assemble_model",
    )
    return Pipeline([*shared, *trained, finished], tags="train_unet")


def _text(trained: bool) -> list[Node]:
    captions = ["captions", "structure_captions"]
    if not trained:
        return [
            Node(nodes.encode_captions, [*captions, "params:text_encoder"], "caption_states", name="encode_captions")
        ]
    return [
        Node(
            nodes.start_text_encoder,
            [*captions, "component_names", "params:text_encoder", "params:unet", "earlier_models"],
            "initial_text_encoder",
            name="start_text_encoder",
        ),
        Node(nodes.tokenise_captions, [*captions, "initial_text_encoder"], "caption_states", name="tokenise_captions"),
    ]


def _unet() -> Node:
    return Node(
        nodes.initialise_unet,
        ["vae", "caption_states", "params:text_encoder", "params:unet", "earlier_models"],
        "initial_unet",
        name="initialise_unet",
    )


def _stage(name: str, starts: dict[str, str], lora: bool) -> Pipeline:
    shared = {
        "vae",
        "vae_gate",
        "glyphs",
        "selected_glyphs",
        "structure_glyphs",
        "captions",
        "structure_captions",
        "caption_states",
        "recogniser",
        "clip_model",
        "tracker",
        "checkpoints",
    }
    parameters = {
        "params:schedule",
        "params:diffusion_loss",
        "params:caption_dropout",
        "params:style_repeats",
        "params:unet",
        "params:cluster",
    }
    trains_text = "start_text" in starts
    return Pipeline(
        [_encode(), _train(name, trains_text, lora, "start_lora" in starts), _sample(trains_text)],
        inputs={name: name for name in shared} | starts,
        parameters={name: name for name in parameters} | {"params:stage": f"params:stages.{name}"},
        namespace=name,
    )


def _encode() -> Node:
    glyphs = ["glyphs", "selected_glyphs", "structure_glyphs", "captions", "structure_captions"]
    return Node(
        nodes.encode_latents,
        ["vae", "vae_gate", *glyphs, "params:stage", "params:style_repeats"],
        "latents",
        name="encode_latents",
    )


def _train(stage: str, trains_text: bool, lora: bool, continues: bool) -> Node:
    made = ["unet", *(["text_encoder"] if trains_text else []), *(["lora"] if lora else [])]
    return Node(
        update_wrapper(partial(nodes.train_stage, name=stage), nodes.train_stage),
        {
            "latents": "latents",
            "caption_states": "caption_states",
            "captions": "captions",
            "start": "start",
            "vae": "vae",
            "stage": "params:stage",
            "schedule": "params:schedule",
            "loss": "params:diffusion_loss",
            "dropout": "params:caption_dropout",
            "settings": "params:unet",
            "cluster": "params:cluster",
            "tracker": "tracker",
            "checkpoints": "checkpoints",
        }
        | ({"text_encoder": "start_text"} if trains_text else {})
        | ({"adapter": "start_lora"} if continues else {}),
        made if len(made) > 1 else made[0],
        name="train_stage",
    )


def _sample(trains_text: bool) -> Node:
    return Node(
        nodes.sample_stage,
        {
            "unet": "unet",
            "vae": "vae",
            "captions": "captions",
            "caption_states": "caption_states",
            "recogniser": "recogniser",
            "clip_model": "clip_model",
            "stage": "params:stage",
            "schedule": "params:schedule",
        }
        | ({"text_encoder": "text_encoder"} if trains_text else {}),
        ["sample_sheet", "report"],
        name="sample_stage",
    )
