"""What the page grants its visitors."""

from __future__ import annotations

from pydantic import Field, StrictStr

from kanji_diffusion.core.settings import Settings
from kanji_diffusion.sampling.served import Request


class PageSettings(Settings):
    """Limits of the page, and where it may be shown."""

    waiting: int = Field(8, ge=0, le=1000, description="Drawings that may wait while one is drawn; more are refused.")
    plans: int = Field(6, ge=1, le=100, description="Plans of a prompt that are proposed.")
    collected: int = Field(200, ge=1, le=10_000, description="Pictures that a collection may hold.")
    hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost"), description="Names by which the page may be called; * for any."
    )
    frame_ancestors: str = Field("'none'", description="Sites that may show the page in a frame, as in a CSP.")


class PageRequest(Request):
    """One picture that the page asks for."""

    steps: int | None = Field(None, ge=1, le=100, description="Sampling steps; null for those of the model.")
    ids: StrictStr | None = Field(None, max_length=64, description="The plan that was chosen; null for the best one.")
