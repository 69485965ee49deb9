"""A model that learns a new style word, and keeps the others."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from tokenizers import AddedToken

from kanji_diffusion.adaptation.settings import AdaptationSettings
from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion.latents import CaptionDropoutSettings, LatentDataset, StyleRepeats, encode_glyphs
from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import schedule_settings
from kanji_diffusion.diffusion.text import TextConditionedUNet, TextEncoder
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.styles import STYLE_WORDS
from kanji_diffusion.sampling.characters import captions_of, picture_size
from kanji_diffusion.sampling.export import TextToKanji, assemble, planner_of
from kanji_diffusion.sampling.sampler import is_distilled
from kanji_diffusion.training.launch import train
from kanji_diffusion.training.tracker import Tracker

_READ_AT_MOST = 100.0  # times as often as the rarest, see `StyleRepeats`
_RESERVED = {"all", *STYLE_WORDS}


def check_start(model: TextToKanji, style: str, captions: CaptionSettings) -> None:
    """Refuse a model that cannot be adapted, and a style that cannot be its new one.

    Raises:
        KanjiDiffusionError: If the model has no planner or no text encoder of its own, or was distilled, or the style
            is no word, or one that is taken.
    """
    pipeline = model.pipeline
    planner_of(model)
    if is_distilled(pipeline):
        raise KanjiDiffusionError(
            "The model cannot be adapted, because it was distilled to few steps: name the one that it was distilled "
            "from in the parameter `model`, and distill the adapted one."
        )
    if getattr(pipeline.text_encoder.config, "use_attention_mask", False) or pipeline.vae.config.scaling_factor != 1:
        raise KanjiDiffusionError(
            "The model cannot be adapted, because its text encoder was not trained along with it: name one with "
            "`text_encoder.source: trained` in the parameter `model`, such as `released`."
        )
    if not re.fullmatch(r"\w{1,40}", style) or style != style.lower():
        raise KanjiDiffusionError(
            f"Parameter `style` is '{style}': it must be one word of small letters, digits and underscores, as mine is."
        )
    if style in _RESERVED or style in model.captions(captions).styles:
        raise KanjiDiffusionError(
            f"Parameter `style` is '{style}', a style that there is already: give the new one a name of its own."
        )
    if style in pipeline.tokenizer.get_vocab():
        raise KanjiDiffusionError(
            f"Parameter `style` is '{style}', a word that the model reads as something else: give the new style "
            f"another name, such as my_{style}."
        )


def with_style_word(text: TextEncoder, style: str, others: Sequence[str]) -> TextEncoder:
    """A copy of a text encoder that knows one word more.

    Args:
        text: Tokenizer and model.
        style: The new word, which becomes a token.
        others: Words of styles, of which it starts as the mean.
    """
    tokenizer, model = copy.deepcopy(text.tokenizer), copy.deepcopy(text.model)
    tokenizer.add_tokens([AddedToken(style, single_word=True, normalized=True)])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = model.get_input_embeddings().weight
    known = tokenizer(" ".join(others), add_special_tokens=False).input_ids
    with torch.no_grad():
        table[tokenizer.get_vocab()[style]] = table[known].mean(dim=0)
    return TextEncoder(tokenizer, model)


def learn_style(
    model: TextToKanji,
    style: str,
    glyphs: pd.DataFrame,
    references: pd.DataFrame,
    captions: CaptionSettings,
    dropout: CaptionDropoutSettings,
    settings: AdaptationSettings,
    sampler: str,
    cluster: ClusterSettings,
    checkpoints: Path | None = None,
    tracker: Tracker | None = None,
) -> TextToKanji:
    """Train a model further, on the glyphs of a face and on what it has drawn in its own styles.

    Everything but the autoencoder learns. Without what it has drawn itself (replay) it would forget its styles, and the
    characters that the face does not have with them.

    Args:
        model: What is trained further; it is left as it is.
        style: The new style word.
        glyphs: Character, style, held_out and image; those that are held out are not read.
        references: Character, style and image, of the other styles.
        captions: Those that the model was trained on.
        dropout: How often a caption is left out.
        settings: How it is trained.
        sampler: That the folder is saved with.
        cluster: The workers.
        checkpoints: Folder for checkpoints.
        tracker: Receives the metrics.
    """
    learnt = glyphs.loc[~glyphs["held_out"], ["character", "style", "image"]]
    read = pd.concat([learnt, references[["character", "style", "image"]]], ignore_index=True).assign(split="train")
    old = sorted(references["style"].unique())
    pipeline = model.pipeline
    text = with_style_word(
        TextEncoder(pipeline.tokenizer, pipeline.text_encoder), style, old or [captions.default_style]
    )
    styles = captions.model_copy(update={"styles": model.captions(captions).styles | {style: style}})
    told = captions_of(model, [*old, style], read["character"], styles)
    repeats = _repeats(style, len(learnt), len(references), settings.share)
    encoded = encode_glyphs(pipeline.vae, read, told, picture_size(model), repeats)
    dataset = LatentDataset.of_stage(encoded, text.tokens(["", *told["text"]]).numpy(), dropout.rate)
    unet = copy.deepcopy(pipeline.unet).requires_grad_(True)
    schedule = schedule_settings(pipeline.scheduler)
    train(
        TextConditionedUNet(unet, text.model.requires_grad_(True)),
        DiffusionLoss(schedule, DiffusionLossSettings()),
        dataset,
        settings.training,
        name="unet_adapted",
        cluster=cluster,
        checkpoints=checkpoints,
        tracker=tracker,
    )
    adapted = assemble(pipeline.vae, unet, text, schedule, sampler)
    return TextToKanji(adapted, model.planner, styles=(*model.styles, style))


def _repeats(style: str, learnt: int, others: int, share: float) -> StyleRepeats:
    """How often a glyph of the new style is read, so that `share` of all reads are of these."""
    if not others or share == 1:
        return StyleRepeats({})
    times = share / (1 - share) * others / learnt
    return StyleRepeats({style: min(max(times, 1 / _READ_AT_MOST), _READ_AT_MOST)})
