"""What is adapted to, and how."""

from __future__ import annotations

from pydantic import Field, RootModel

from kanji_diffusion.core.settings import NamedPath, Settings
from kanji_diffusion.glyphs.render import AugmentSettings
from kanji_diffusion.training.settings import TrainingSettings


class FacePath(RootModel[NamedPath]):
    """A folder of PNG scans that are named by their characters, or a font file."""


class LPIPSFiles(Settings):
    """Local weights of LPIPS."""

    trunk: NamedPath = Field(description="Torchvision's weights of VGG16 (vgg16-397923af.pth).")
    heads: NamedPath = Field(description="The linear layers of the lpips project (weights/v0.1/vgg.pth).")


class AdaptationSettings(Settings):
    """How a model learns a face."""

    glyphs: int = Field(
        200, ge=10, description="Glyphs that are learnt, at most; the others of the face are kept back."
    )
    kept_back: float = Field(
        0.2, ge=0, lt=1, description="Share of the glyphs that is kept back at least, to report what the model draws."
    )
    checked: int = Field(200, ge=1, description="Glyphs of those kept back that the report draws, at most.")
    checked_styles: int = Field(
        40,
        ge=1,
        description="Characters that are drawn in each earlier style before and after, to report what was forgotten.",
    )
    straighten: bool = Field(True, description="Rotate all scans by the tilt that their strokes have in common.")
    fill: float = Field(0.88, gt=0.3, le=0.97, description="Share of the square that the face's large glyphs take.")
    views: int = Field(12, ge=1, le=64, description="Pictures of each glyph; the first is not augmented.")
    augment: AugmentSettings = Field(AugmentSettings(), description="How the views after the first are changed.")
    replay: int = Field(
        300,
        ge=0,
        description="Characters that the model draws in each of its styles before it learns, at least. They are read "
        "again, so that it keeps them.",
    )
    share: float = Field(0.5, gt=0, le=1, description="Share of the reads that are of the new face.")
    training: TrainingSettings = Field(description="How it is trained.")
    lpips: LPIPSFiles | None = Field(
        None, description="Report LPIPS too, with weights from local files; null for the autoencoder's features alone."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Chooses the glyphs that are kept back, and draws views.")
