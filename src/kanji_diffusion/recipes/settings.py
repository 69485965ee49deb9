"""Settings of the comparison of recipes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from kanji_diffusion.core.settings import Settings
from kanji_diffusion.diffusion.loss import EmphasisSettings
from kanji_diffusion.recipes.arms import PRACTICES
from kanji_diffusion.sampling.sampler import DrawingSettings
from kanji_diffusion.training.settings import TrainingSettings

_LONG_PROMPT = (
    "kanji character representing {subject}, traditional calligraphy style, black ink on white paper, high contrast, "
    "detailed strokes, clear lines, professional quality, artistic interpretation"
)


class ComparedGlyphs(Settings):
    """What all recipes are trained and scored on: real glyphs of one training face of each style."""

    characters: int = Field(20, ge=4, description="Characters that are trained, spread evenly.")
    grades: tuple[int, ...] = Field((1,), description="School grades that they are of; none for all characters.")
    styles: tuple[str, ...] = Field(("gothic",), min_length=1, description="Styles, in one face each.")
    size: int = Field(32, ge=16, le=64, multiple_of=16, description="Side of the pictures, in pixels.")
    zero_shot: int = Field(12, ge=0, description="Characters of trained components that are drawn untrained, at most.")


class ComparedAutoencoder(Settings):
    """The autoencoder of the original and of the improved recipe."""

    channels: tuple[int, ...] = Field((16, 32, 64), min_length=1, description="Channels of each level.")
    latent_channels: int = Field(4, ge=1, description="Channels of a latent.")
    kl: float = Field(0.0001, ge=0, description="Weight of the Kullback-Leibler divergence.")
    crop: int = Field(16, ge=8, description="Side of the crops that every recipe's autoencoder is trained on.")
    training: TrainingSettings = Field(description="How every recipe's autoencoder is trained.")


class ComparedUNet(Settings):
    """The UNet of the original and of the improved recipe."""

    channels: tuple[int, ...] = Field((32, 64), min_length=1, description="Channels of each level.")
    depth: int = Field(2, ge=2, description="Residual blocks of a level with the practice `depth`; one without.")
    heads: int = Field(4, ge=1, description="Heads of the cross-attention.")
    training: TrainingSettings = Field(
        description="How it is trained; averaging and precision are those of the practices `ema` and `autocast`."
    )


class ComparedPractices(Settings):
    """What the practices of training and sampling set."""

    prompt: str = Field(_LONG_PROMPT, description="The long prompt, with {subject} for the bare one.")
    dropout: float = Field(0.1, gt=0, lt=1, description="Share of reads that see the empty caption.")
    ema_decay: float = Field(0.99, gt=0, lt=1, description="Decay of the averaged weights.")
    low_resolution: int = Field(16, ge=8, le=64, description="Side of the pictures of the first stage, in pixels.")
    low_share: float = Field(0.5, gt=0, lt=1, description="Share of the steps that the first stage takes.")

    @field_validator("prompt")
    @classmethod
    def _has_subject(cls, prompt: str) -> str:
        if "{subject}" not in prompt:
            raise ValueError("it must hold {subject}")
        return prompt


class ComparedSampling(Settings):
    """How pictures are drawn."""

    original: DrawingSettings = Field(
        DrawingSettings(sampler="ddpm", steps=100, guidance_scale=1.0, batch_size=20),
        description="Without the practice `sampling`.",
    )
    improved: DrawingSettings = Field(
        DrawingSettings(sampler="plms", steps=50, guidance_scale=7.5, batch_size=20),
        description="With the practice `sampling`.",
    )
    today: DrawingSettings = Field(
        DrawingSettings(sampler="ddim", steps=8, guidance_scale=3.0, batch_size=20),
        description="Of the recipe of today.",
    )
    timed: tuple[DrawingSettings, ...] = Field(
        (
            DrawingSettings(sampler="ddpm", steps=1000, guidance_scale=1.0, batch_size=20),
            DrawingSettings(sampler="plms", steps=50, guidance_scale=1.0, batch_size=20),
            DrawingSettings(sampler="plms", steps=50, guidance_scale=3.0, batch_size=20),
            DrawingSettings(sampler="ddim", steps=8, guidance_scale=1.0, batch_size=20),
        ),
        description="Further settings by which the original, the improved and today's model are drawn to compare time.",
    )


class LadderSettings(Settings):
    """The learning rates that are tried for a few steps each, to find the largest that still trains."""

    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.003, 0.01, 0.03, 0.1), description="Learning rates, ascending; none for no ladder."
    )
    steps: int = Field(25, ge=6, description="Steps at each rate.")
    falls_to: float = Field(
        0.9, gt=0, lt=1, description="The loss, 1 for a prediction of nothing, that the last third must fall to."
    )


class TodaySettings(Settings):
    """The size at which today's recipe takes part; what is not here is that of the project's own parameters."""

    channels: tuple[int, ...] = Field((32, 64), min_length=1, description="Channels of each level of its UNet.")
    text_width: int = Field(64, ge=32, multiple_of=32, description="Width of its text encoder, if that is trained.")
    emphasis: EmphasisSettings | None = Field(
        EmphasisSettings(log_snr=-3, spread=2), description="Noise that is trained on most; null for all alike."
    )
    training: TrainingSettings = Field(description="How it is trained.")


class RecipeSettings(Settings):
    """Which recipes are compared, on what, and at which size."""

    practices: tuple[str, ...] = Field(
        tuple(PRACTICES),
        min_length=1,
        description="Practices that are added to the original and taken from the improved.",
    )
    seeds: int = Field(3, ge=1, description="Times that each recipe is trained, from other weights.")
    tolerance: float = Field(
        0.03, ge=0, description="Difference in operations a step below which equal steps count as equal operations."
    )
    glyphs: ComparedGlyphs = Field(ComparedGlyphs(), description="What is trained on.")
    autoencoder: ComparedAutoencoder = Field(description="The autoencoder.")
    unet: ComparedUNet = Field(description="The UNet.")
    values: ComparedPractices = Field(ComparedPractices(), description="What practices set.")
    sampling: ComparedSampling = Field(ComparedSampling(), description="How pictures are drawn.")
    ladder: LadderSettings = Field(LadderSettings(), description="The ladder of learning rates.")
    today: TodaySettings = Field(description="Today's recipe.")

    @field_validator("practices")
    @classmethod
    def _known(cls, practices: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in practices if name not in PRACTICES]:
            raise ValueError(f"there is no practice '{unknown[0]}': choose among {', '.join(PRACTICES)}")
        return practices

    @model_validator(mode="after")
    def _consistent(self) -> RecipeSettings:
        if self.glyphs.size % self.values.low_resolution or self.values.low_resolution >= self.glyphs.size:
            raise ValueError("`values.low_resolution` must be a proper divisor of `glyphs.size`")
        return self
