"""`python -m kanji_diffusion.page`: the page of a model in a folder, without Kedro and MLflow."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.page.server import Host, ModelSettings
from kanji_diffusion.page.settings import PageSettings
from kanji_diffusion.sampling.export import TextToKanji


def main() -> None:
    """Serve the page as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m kanji_diffusion.page", description=__doc__)
    parser.add_argument("model", type=Path, help="the folder of a finished model")
    parser.add_argument("--settings", type=Path, required=True, help="JSON with its captions, sampling and fonts")
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"), help="the folder of fonts")
    parser.add_argument("--address", default="127.0.0.1", help="on which the server listens")
    parser.add_argument("--port", type=int, default=5002)
    parser.add_argument("--hosts", default="127.0.0.1,localhost", help="names by which it may be called; * for any")
    parser.add_argument("--frame-ancestors", default="'none'", help="sites that may show the page in a frame")
    parser.add_argument("--threads", type=int, help="CPU threads; all cores by default")
    given = parser.parse_args()
    try:
        settings = ModelSettings.model_validate_json(given.settings.read_text(encoding="utf-8"))
        host = Host(TextToKanji.from_pretrained(given.model), given.model.name, settings, given.fonts)
        page = PageSettings(hosts=tuple(given.hosts.split(",")), frame_ancestors=given.frame_ancestors)
        host.serve(page, given.address, given.port, given.threads)
    except (KanjiDiffusionError, OSError, ValueError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
