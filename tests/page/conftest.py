from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import uvicorn
from tests.conftest import PROJECT_ROOT

from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.font_files import FaceRule
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.page.app import create_app
from kanji_diffusion.page.evaluators import Evaluators
from kanji_diffusion.page.model import PageModel
from kanji_diffusion.page.neighbours import Neighbours
from kanji_diffusion.page.queue import Tell
from kanji_diffusion.page.settings import PageRequest, PageSettings
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.sampler import SamplingSettings

RELEASED = PROJECT_ROOT / "data/06_models/released/kanji-small"
SAMPLING = SamplingSettings(sampler="ddim", steps=3, guidance_scale=3.0)


class WatchedModel(PageModel):
    """The page's model, held back while `gate` is closed; it notes the steps that it computes."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.gate, self.steps = threading.Event(), []
        self.gate.set()

    def prepare(self) -> None:
        """Nothing: a test that needs a plan for a meaning waits for it."""

    def answer(self, request: PageRequest, tell: Tell) -> None:
        while not self.gate.wait(0.02):
            tell({})

        def noting(event: dict) -> None:
            self.steps += [event["step"]] if "step" in event else []
            tell(event)

        super().answer(request, noting)


@pytest.fixture(scope="package")
def released() -> TextToKanji:
    return TextToKanji.from_pretrained(RELEASED)


@pytest.fixture(scope="package")
def neighbours(raw_data: Path, released: TextToKanji) -> Neighbours:
    """Twenty characters in a gothic face."""
    table = released.planner.tables["dictionary"]
    few: pd.DataFrame = table[table["character"].isin(list("海川山水火木林森日月明石岩魚雷雨雪電車語"))]
    rules = FontSettings(faces=(FaceRule(pattern="ipaexg.ttf", style="gothic"),))
    drawn = Neighbours(few, raw_data / "fonts", rules)
    drawn.wait()
    return drawn


@pytest.fixture
def watched(released: TextToKanji, neighbours: Neighbours) -> Iterator[WatchedModel]:
    model = WatchedModel(
        released, "The released model", CaptionSettings(), SAMPLING, Evaluators(neighbours=neighbours), 6
    )
    yield model
    model.gate.set()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """The page on a port of its own, in a thread."""

    def __init__(self, model: PageModel, settings: PageSettings) -> None:
        self.model, self.settings, self.port = model, settings, free_port()
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        config = uvicorn.Config(
            create_app(self.model, self.settings), port=self.port, log_level="error", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive())

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.fixture
def served(watched: WatchedModel) -> Iterator[Callable[..., Server]]:
    """Serves the page with the given settings."""
    servers: list[Server] = []

    def serve(**settings: object) -> Server:
        servers.append(Server(watched, PageSettings(**settings)))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")  # while it is open, no other event loop runs in this thread
def chromium(raw_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Debian's Chromium without a window, with the fonts of the raw data."""
    ours = PROJECT_ROOT / ".tools/chromium/chromium"
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium") or (ours.is_file() and str(ours))
    if not path:
        pytest.skip("Chromium is not here: `make chromium` brings it on Debian.")
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("chromium")
    fonts = folder / "fonts.conf"
    fonts.write_text(
        f"<fontconfig><dir>{(raw_data / 'fonts').resolve()}</dir><cachedir>{folder}/cache</cachedir></fontconfig>"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, env=os.environ | {"FONTCONFIG_FILE": str(fonts)})
        yield browser
        browser.close()
