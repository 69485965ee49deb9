"""The CLIP model that scores how well a glyph matches its caption (Radford et al., 2021), by open_clip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import HFTokenizer
from pydantic import Field
from torch import nn

from kanji_diffusion.diffusion.text import TextEncoderSettings, text_encoder_folder
from kanji_diffusion.diffusion.vae import to_model_range
from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.scoring.recogniser import RecogniserSettings, bend
from kanji_diffusion.settings_model import Settings
from kanji_diffusion.training.loop import Batch, LossOutput
from kanji_diffusion.training.randomness import SampleRandom

TRAINED = "trained"


class ClipSettings(Settings):
    """Which CLIP model scores the glyphs."""

    source: str = Field(TRAINED, description="`trained` here, or an open_clip model name such as ViT-L-14.")
    pretrained: str | None = Field(
        None, description="For a named model: open_clip's weight tag or a local weights file."
    )
    image_size: int = Field(64, ge=32, description="Of the model trained here, in pixels.")
    embed_dim: int = Field(128, ge=8, description="Of the model trained here.")
    width: int = Field(32, ge=8, description="Channels of the vision tower's first stage.")
    layers: tuple[int, int, int, int] = Field((1, 1, 1, 1), description="Blocks of the vision tower's stages.")
    context_length: int = Field(24, ge=8, description="Tokens that a caption may have.")


class ClipScorer:
    """A CLIP model with its tokenizer; pictures are uint8 arrays.

    Args:
        model: An open_clip model.
        tokenizer: Maps texts to token ids.
        image_size: Side of the pictures that the model takes.
        config: What `save_pretrained` writes to build the model again.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        image_size: int,
        config: dict[str, Any],
    ) -> None:
        self.model, self.tokenizer, self.image_size, self.config = model.eval(), tokenizer, image_size, config

    @torch.no_grad()
    def image_features(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """Unit features float32 `[N, E]` of pictures uint8 `[N, H, W]`."""
        parts = []
        for first in range(0, len(images), batch_size):
            pixels = self._pixels(images[first : first + batch_size])
            parts.append(self.model.encode_image(pixels, normalize=True).cpu().numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Unit features float32 `[N, E]` of texts."""
        parts = []
        for first in range(0, len(texts), batch_size):
            tokens = self.tokenizer(list(texts[first : first + batch_size]))
            parts.append(self.model.encode_text(tokens, normalize=True).cpu().numpy())
        return np.concatenate(parts)

    def scores(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Cosine similarity of each picture with its text, float32 `[N]` in [-1, 1]."""
        distinct = sorted(set(texts))
        where = {text: number for number, text in enumerate(distinct)}
        rows = self.text_features(distinct)[[where[text] for text in texts]]
        return (self.image_features(images) * rows).sum(axis=1)

    @torch.no_grad()
    def stage_statistics(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """Mean and deviation of every channel after each stage of the trained vision tower, float32 `[N, F]`.

        Early stages see edges and grain that the final embedding is trained to ignore.
        """
        visual, parts = self.model.visual, []
        for first in range(0, len(images), batch_size):
            hidden = visual.stem(self._pixels(images[first : first + batch_size]))
            found = []
            for stage in (visual.layer1, visual.layer2, visual.layer3):
                found += [hidden.mean(dim=(2, 3)), hidden.std(dim=(2, 3))]
                hidden = stage(hidden)
            parts.append(torch.cat(found, dim=1).cpu().numpy())
        return np.concatenate(parts)

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        pixels = to_model_range(images)
        if pixels.shape[-1] != self.image_size:
            side = (self.image_size, self.image_size)
            pixels = F.interpolate(pixels, side, mode="bilinear", antialias=True, align_corners=False)
        return pixels.expand(-1, 3, -1, -1)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write configuration and trained weights; the frozen text tower stays where it came from."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2))
        if self.config["clip"]["source"] == TRAINED:
            state = {name: value.contiguous() for name, value in towers(self.model).state_dict().items()}
            safetensors.torch.save_file(state, folder / "model.safetensors")

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> ClipScorer:
        """Load what `save_pretrained` wrote.

        Raises:
            KanjiDiffusionError: If the folder is not whole.
        """
        try:
            config = json.loads((Path(folder) / "config.json").read_text())
            scorer = build_scorer(ClipSettings(**config["clip"]), TextEncoderSettings(**config["text_encoder"]))
            if config["clip"]["source"] == TRAINED:
                state = safetensors.torch.load_file(Path(folder) / "model.safetensors")
                towers(scorer.model).load_state_dict(state)
        except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
            raise KanjiDiffusionError(
                f"The CLIP model in {folder} cannot be read ({str(error).splitlines()[0]}): "
                "run `kedro run --pipeline=filter_glyphs` to make a new one."
            ) from error
        return scorer


def build_scorer(settings: ClipSettings, text: TextEncoderSettings) -> ClipScorer:
    """A CLIP model by its settings: a pretrained one, or one to be trained with random vision weights.

    Raises:
        KanjiDiffusionError: If a named model or its weights cannot be had.
    """
    config = {"clip": settings.model_dump(), "text_encoder": text.model_dump()}
    if settings.source != TRAINED:
        return _pretrained(settings, config)
    folder = str(text_encoder_folder(text))
    vision = {"image_size": settings.image_size, "layers": list(settings.layers), "width": settings.width}
    text_tower = {
        "hf_model_name": folder,
        "hf_tokenizer_name": folder,
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "linear",
    }
    vision["head_width"] = settings.width
    model = CustomTextCLIP(settings.embed_dim, vision, text_tower)
    model.lock_text_tower(0)
    tokenizer = HFTokenizer(folder, context_length=settings.context_length)
    return ClipScorer(model, tokenizer, settings.image_size, config)


def _pretrained(settings: ClipSettings, config: dict[str, Any]) -> ClipScorer:
    try:
        model, _, _ = open_clip.create_model_and_transforms(
            settings.source, pretrained=settings.pretrained, weights_only=True
        )
        size = model.visual.image_size
        tokenizer = open_clip.get_tokenizer(settings.source)
    except (OSError, RuntimeError, ValueError) as error:
        raise KanjiDiffusionError(
            f"The CLIP model '{settings.source}' with weights '{settings.pretrained}' cannot be loaded "
            f"({str(error).splitlines()[0]}): set `clip.model.source` to trained, or name weights that are here."
        ) from error
    return ClipScorer(model, tokenizer, size if isinstance(size, int) else size[0], config)


class Towers(nn.Module):
    """The parts of a CLIP model that are trained: vision tower, text projection, logit scale."""

    def __init__(self, visual: nn.Module, projection: nn.Module, logit_scale: nn.Parameter) -> None:
        super().__init__()
        self.visual, self.projection, self.logit_scale = visual, projection, logit_scale


def towers(model: Any) -> Towers:
    """The trained parts of `model`, sharing its weights."""
    return Towers(model.visual, model.text.proj, model.logit_scale)


@torch.no_grad()
def pooled_texts(scorer: ClipScorer, texts: Sequence[str], batch_size: int = 256) -> torch.Tensor:
    """What the frozen text tower gives for `texts` before its projection, float32 `[N, D]`."""
    tower, parts = scorer.model.text, []
    for first in range(0, len(texts), batch_size):
        tokens = scorer.tokenizer(list(texts[first : first + batch_size]))
        mask = (tokens != tower.config.pad_token_id).long()
        parts.append(tower.pooler(tower.transformer(input_ids=tokens, attention_mask=mask), mask))
    return torch.cat(parts)


class PairStore:
    """Glyph pictures, bent anew at every read, with one of their captions.

    Args:
        images: uint8 `[N, H, W]`.
        captions: int64 `[N, K]`, rows of `pooled`, padded by -1.
        groups: int64 `[N]`; pictures of one group (character and style) match each other's captions.
        pooled: Frozen text features `[M, D]`.
        settings: How hard to bend the pictures.
    """

    def __init__(
        self,
        images: np.ndarray,
        captions: np.ndarray,
        groups: np.ndarray,
        pooled: torch.Tensor,
        settings: RecogniserSettings,
    ) -> None:
        self.images, self.captions, self.groups = (torch.as_tensor(part) for part in (images, captions, groups))
        self.pooled, self.settings = pooled, settings
        self.choices = (self.captions >= 0).sum(dim=1)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    def fingerprint(self) -> str:
        """Changes whenever pictures, captions, groups or settings change."""
        digest = hashlib.sha256(self.settings.model_dump_json().encode())
        for tensor in (self.images, self.captions, self.groups, self.pooled):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def gather(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """`pixels` `[B, 3, H, W]`, `text` `[B, D]` and `groups` `[B]`."""
        choice = random.integers("caption", self.choices[index])
        pixels = bend(to_model_range(self.images[index]), random, self.settings)
        return {
            "pixels": pixels.expand(-1, 3, -1, -1),
            "text": self.pooled[self.captions[index, choice]],
            "groups": self.groups[index],
        }


class ClipLoss:
    """Contrastive loss in which every picture and caption of one group is a positive of the others."""

    whole_batch = True

    def fingerprint(self) -> str:
        """The loss has no settings."""
        return "multi-positive"

    def __call__(self, module: Towers, batch: Batch, random: SampleRandom) -> LossOutput:
        """Loss of one batch of `pixels`, `text` and `groups`."""
        images = F.normalize(module.visual(batch["pixels"]), dim=1)
        texts = F.normalize(module.projection(batch["text"]), dim=1)
        logits = module.logit_scale.clamp(max=4.6).exp() * images @ texts.T
        same = (batch["groups"][:, None] == batch["groups"][None]).float()
        targets = same / same.sum(dim=1, keepdim=True)
        loss = 0.5 * (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets))
        found = same.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0]
        return LossOutput(loss, {"retrieved": found})
