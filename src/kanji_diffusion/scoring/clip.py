"""The CLIP model that scores how well a glyph matches its caption (Radford et al., 2021), by open_clip."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.files import file_sha256
from kanji_diffusion.core.hardware import choose_device
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.diffusion.text import BUNDLED, TextEncoderSettings, text_encoder_folder
from kanji_diffusion.imaging.pictures import Images

TRAINED = "trained"


class ClipSettings(Settings):
    """Which CLIP model scores the glyphs."""

    source: str = Field(
        TRAINED,
        description="`trained` here, or a model of open_clip: ViT-L-14, `hf-hub:<name>` or `local-dir:<folder>`.",
    )
    pretrained: str | None = Field(
        None, description="For a named model: open_clip's weight tag or a local weights file (safetensors, or .pt)."
    )
    image_size: int = Field(
        64, ge=32, multiple_of=32, description="Side of the pictures that a model trained here reads, in pixels."
    )
    embed_dim: int = Field(
        128, ge=8, description="Width of the common space of pictures and captions, of a model trained here."
    )
    width: int = Field(16, ge=8, description="Channels of the vision tower's first stage.")
    layers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = Field(
        (1, 1, 1, 1), description="Blocks of the vision tower's stages."
    )
    context_length: int = Field(24, ge=8, description="Tokens that a caption may have.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source != TRAINED and ":" not in self.source and self.pretrained is None:
            raise ValueError(
                f"`pretrained` must name the weights of {self.source}: a tag of open_clip or a local weights file"
            )
        return self


class ClipScorer:
    """A CLIP model with its tokenizer; pictures are uint8 arrays.

    Args:
        model: An open_clip model. Pictures reach it at the size, mean and deviation of its `visual.preprocess_cfg`.
        tokenizer: Maps texts to token ids.
        config: What `save_pretrained` writes to build the model again.
    """

    def __init__(self, model: Any, tokenizer: Any, config: dict[str, Any]) -> None:
        from open_clip.transform import PreprocessCfg  # open_clip takes half a second, and most commands score nothing

        self.model, self.tokenizer, self.config = model.eval(), tokenizer, config
        self._preprocess = PreprocessCfg(**model.visual.preprocess_cfg)

    def __getstate__(self) -> dict[str, Any]:
        if self.device.type == "cpu":
            return self.__dict__
        # The process that it is sent to may have no device.
        return self.__dict__ | {"model": copy.deepcopy(self.model).to("cpu")}

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @property
    def has_stages(self) -> bool:
        """Whether the vision tower is a residual network, whose stages `stage_statistics` looks into."""
        from open_clip.modified_resnet import ModifiedResNet

        return isinstance(self.model.visual, ModifiedResNet)

    @torch.no_grad()
    def image_features(self, images: Images, batch_size: int = 256) -> np.ndarray:
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
            parts.append(self.model.encode_text(tokens.to(self.device), normalize=True).cpu().numpy())
        return np.concatenate(parts)

    def scores(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Cosine similarity of each picture with its text, float32 `[N]` in [-1, 1]."""
        distinct = sorted(set(texts))
        where = {text: number for number, text in enumerate(distinct)}
        rows = self.text_features(distinct)[[where[text] for text in texts]]
        return (self.image_features(images) * rows).sum(axis=1)

    @torch.no_grad()
    def stage_statistics(self, images: Images, batch_size: int = 256) -> np.ndarray:
        """Mean and deviation of every channel before each of the first stages of the trained tower, float32 `[N, F]`.

        Early stages see edges and grain that the final embedding is trained to ignore.
        """
        return np.concatenate([found for _, found in self._first_stages(images, batch_size)])

    @torch.no_grad()
    def features_and_statistics(self, images: Images, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """`image_features` and `stage_statistics` of pictures, which go through the tower once.

        A tower without stages has no statistics: its embedding stands for them.
        """
        if not self.has_stages:
            embedding = self.image_features(images, batch_size)
            return embedding, embedding
        visual, features, statistics = self.model.visual, [], []
        for hidden, found in self._first_stages(images, batch_size):
            whole = visual.attnpool(visual.layer4(visual.layer3(hidden)))
            features.append(F.normalize(whole, dim=-1).cpu().numpy())
            statistics.append(found)
        return np.concatenate(features), np.concatenate(statistics)

    def _first_stages(self, images: Images, batch_size: int) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        """By batch, what the third stage sees, and statistics of that and of what the stages before it see."""
        visual = self.model.visual
        for first in range(0, len(images), batch_size):
            hidden = visual.stem(self._pixels(images[first : first + batch_size]))
            found = [hidden.mean(dim=(2, 3)), hidden.std(dim=(2, 3))]
            for stage in (visual.layer1, visual.layer2):
                hidden = stage(hidden)
                found += [hidden.mean(dim=(2, 3)), hidden.std(dim=(2, 3))]
            yield hidden, torch.cat(found, dim=1).cpu().numpy()

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        side, how = self._preprocess.size, self._preprocess.interpolation
        size = (side, side) if isinstance(side, int) else tuple(side)
        pixels = torch.as_tensor(images)[:, None].to(self.device).float() / 255
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size, mode=how, antialias=True, align_corners=False).clamp(0, 1)
        mean, std = (
            torch.tensor(value, device=self.device).view(1, 3, 1, 1)
            for value in (self._preprocess.mean, self._preprocess.std)
        )
        return (pixels - mean) / std

    def save_pretrained(self, folder: Path | str) -> None:
        """Write configuration and trained weights; weights that were not trained here stay where they came from."""
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
            settings, text = ClipSettings(**config["clip"]), TextEncoderSettings(**config["text_encoder"])
            if settings.source != TRAINED:
                return _pretrained(settings, text, config["weights_sha256"])
            scorer = build_scorer(settings, text)
            towers(scorer.model).load_state_dict(safetensors.torch.load_file(Path(folder) / "model.safetensors"))
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
    if settings.source != TRAINED:
        return _pretrained(settings, text)
    from open_clip.model import CustomTextCLIP, set_model_preprocess_cfg
    from open_clip.tokenizer import HFTokenizer

    # A text encoder that is trained along with a UNet is not there yet, and knows the words of its captions alone.
    text = TextEncoderSettings(source=BUNDLED, max_length=20) if text.source == TRAINED else text
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
    set_model_preprocess_cfg(
        model, {"size": settings.image_size, "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear"}
    )
    tokenizer = HFTokenizer(folder, context_length=settings.context_length)
    return ClipScorer(model, tokenizer, {"clip": settings.model_dump(), "text_encoder": text.model_dump()})


def _pretrained(settings: ClipSettings, text: TextEncoderSettings, expected: str | None = None) -> ClipScorer:
    """The named model; `expected` is the SHA-256 that its local weights file had."""
    import open_clip

    name, weights = settings.source, settings.pretrained
    if weights and Path(weights).is_file():
        weights = str(Path(weights).resolve())
    digest = file_sha256(Path(weights)) if weights and Path(weights).is_file() else None
    if expected and expected != digest:
        state = "has changed" if digest else "is gone"
        raise KanjiDiffusionError(
            f"The weights file {weights} of the CLIP model {name} {state} since the model was saved: "
            "put it back, or run `kedro run --pipeline=filter_glyphs` to score with other weights."
        )
    try:
        # Errors of unpickling, of JSON and of shapes come as they are from deep within open_clip.
        # Where the model's name does not say so, open_clip only warns that its weights want another activation.
        quick = bool(weights and open_clip.get_pretrained_cfg(name, weights).get("quick_gelu"))
        model = open_clip.create_model(
            name, weights, require_pretrained=True, weights_only=True, force_quick_gelu=quick
        )
        tokenizer = open_clip.get_tokenizer(name)
    except (OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise KanjiDiffusionError(
            f"The CLIP model '{name}' with weights '{weights}' cannot be loaded "
            f"({str(error).strip().splitlines()[0].rstrip('.:')}): set `clip.model.source` to trained, "
            "or name weights of this model that are here, in safetensors or as a state dict of tensors alone."
        ) from error
    config = {
        "clip": settings.model_copy(update={"pretrained": weights}).model_dump(),
        "text_encoder": text.model_dump(),
        "weights_sha256": digest,
    }
    return ClipScorer(model.to(choose_device()), tokenizer, config)


class Towers(nn.Module):
    """The parts of a CLIP model that are trained: vision tower, text projection, logit scale."""

    def __init__(self, visual: nn.Module, projection: nn.Module, logit_scale: nn.Parameter) -> None:
        super().__init__()
        self.visual, self.projection, self.logit_scale = visual, projection, logit_scale


def towers(model: Any) -> Towers:
    """The trained parts of `model`, sharing its weights."""
    return Towers(model.visual, model.text.proj, model.logit_scale)
