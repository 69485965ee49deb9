"""What an autoencoder loses of a glyph, and the gate before a UNet is trained on its latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from diffusers import AutoencoderKL
from pydantic import Field

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.fingerprint import tensors_fingerprint
from kanji_diffusion.core.settings import Settings

# Name of each bin of stroke counts, and the count that it lies above.
_STROKE_BINS = {"1 to 4": 0, "5 to 8": 4, "9 to 12": 8, "13 to 16": 12, "17 and more": 16}


class GateSettings(Settings):
    """What the autoencoder must reach on held-out faces before a UNet is trained on its latents."""

    stroke_overlap: float = Field(0.95, ge=0, le=1, description="Least mean intersection over union of ink.")
    holes_agree: float = Field(0.96, ge=0, le=1, description="Least share of glyphs that keep their holes.")
    reading_loss: float = Field(
        0.02, ge=0, le=1, description="Largest loss of the reading score against the originals."
    )
    style_tolerance: float | None = Field(
        0.05, ge=0, le=1, description="By how much one style alone may miss each of these; null judges no single style."
    )


def reconstruction_report(measured: pd.DataFrame) -> dict[str, Any]:
    """Means of what was measured, over all glyphs, by style and by bin of stroke counts.

    Args:
        measured: One row for each glyph with `style`, `stroke_count`, `stroke_overlap`, `holes_agree`, `read` and
            `original_read`.
    """
    bins = pd.cut(measured["stroke_count"], [*_STROKE_BINS.values(), np.inf], labels=list(_STROKE_BINS))
    return {
        **_means(measured),
        "style": {str(style): _means(rows) for style, rows in measured.groupby("style")},
        "stroke_count": {str(name): _means(rows) for name, rows in measured.groupby(bins, observed=True)},
    }


def _means(rows: pd.DataFrame) -> dict[str, float]:
    figures = ["stroke_overlap", "holes_agree", "read", "original_read"]
    return {"glyphs": len(rows), **{name: float(rows[name].mean()) for name in figures}}


def require_gate(report: Mapping[str, Any], gate: GateSettings) -> None:
    """Check measured reconstructions against the gate, over all glyphs and in each style.

    Args:
        report: What `reconstruction_report` gave.
        gate: Thresholds.

    Raises:
        KanjiDiffusionError: If one is not reached, naming each that is not.
    """
    failures = _failures(report, gate, 0.0)
    if gate.style_tolerance is not None and not failures:
        for style, figures in report["style"].items():
            failures += [f"in {style} {failure}" for failure in _failures(figures, gate, gate.style_tolerance)]
    if failures:
        raise KanjiDiffusionError(
            f"The autoencoder did not pass its gate: {', '.join(failures)}; look at `reconstruction_sheet` and train "
            "it longer (`vae.training.steps`) or with more channels, or change `vae.gate`."
        )


def require_passed(gate: Mapping[str, Any], vae: AutoencoderKL) -> None:
    """Check that it was `vae` that passed the gate.

    Args:
        gate: What is kept of a passed gate, with the fingerprint `vae` of the weights.
        vae: The autoencoder.

    Raises:
        KanjiDiffusionError: If it was another.
    """
    if gate["vae"] != tensors_fingerprint(vae.state_dict()):
        raise KanjiDiffusionError(
            "This version of `vae` has not passed its gate: run `kedro run --pipeline=train_vae`, "
            "or pin a version of `vae` and `vae_gate` that belong together with --load-versions."
        )


def _failures(figures: Mapping[str, float], gate: GateSettings, tolerance: float) -> list[str]:
    # Written so that what is not a number does not pass.
    failures = []
    for name in ("stroke_overlap", "holes_agree"):
        needed = getattr(gate, name) - tolerance
        if not figures[name] >= needed:
            failures.append(f"{name.replace('_', ' ')} is {figures[name]:.3f} (at least {needed:.3g} is needed)")
    lost, allowed = figures["original_read"] - figures["read"], gate.reading_loss + tolerance
    if not lost <= allowed:
        failures.append(f"the reading score falls by {lost:.3f} (at most {allowed:.3g} is allowed)")
    return failures
