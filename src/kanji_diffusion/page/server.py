"""From a finished model to a page that is served."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from transformers import ResNetForImageClassification

from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.page.app import create_app
from kanji_diffusion.page.evaluators import Evaluators
from kanji_diffusion.page.model import PageModel
from kanji_diffusion.page.neighbours import Neighbours, known_characters
from kanji_diffusion.page.settings import PageSettings
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.scoring.components import ComponentRecogniser

# Seconds that drawings may take to end when the server is stopped.
_GRACE = 2


class ModelSettings(Settings):
    """What a model is drawn with, and which fonts show its neighbours."""

    captions: CaptionSettings
    sampling: SamplingSettings
    fonts: FontSettings


@dataclass(frozen=True)
class Host:
    """A model with all that the page of it needs.

    Attributes:
        model: What plans and draws.
        name: What the page calls it.
        settings: Captions, sampling and faces.
        fonts: The font folder; need not be there.
        recogniser: Reads what the model draws.
        components: Finds the parts of a plan.
    """

    model: TextToKanji
    name: str
    settings: ModelSettings
    fonts: Path
    recogniser: ResNetForImageClassification | None = None
    components: ComponentRecogniser | None = None

    def serve(self, page: PageSettings, address: str, port: int, threads: int | None = None) -> None:
        """Serve the page until the process is told to stop.

        Args:
            page: Limits.
            address: On which it listens.
            port: Where it listens; 0 for any that is free.
            threads: CPU threads; None for all cores.
        """
        set_threads(threads)
        app = create_app(self._page_model(page), page)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE)
        with socket.create_server((address, port)) as listener:
            print(f"The page is at http://{address}:{listener.getsockname()[1]} (Ctrl-C stops it).", flush=True)
            uvicorn.Server(config).run([listener])

    def _page_model(self, page: PageSettings) -> PageModel:
        planner = self.model.planner
        known = known_characters(planner.tables["dictionary"]) if planner else None
        neighbours = None if known is None else Neighbours(known, self.fonts, self.settings.fonts)
        evaluators = Evaluators(self.recogniser, self.components, neighbours)
        captions, sampling = self.settings.captions, self.settings.sampling
        return PageModel(self.model, self.name, captions, sampling, evaluators, page.plans)
