"""Pages for people."""

from __future__ import annotations

from pathlib import Path

from kanji_diffusion.datasets.local import LocalDataset


class PageDataset(LocalDataset[str]):
    """An HTML page that holds its own pictures."""

    def _read(self, path: Path) -> str:
        return path.read_text(encoding="utf-8")

    def _write(self, data: str, path: Path) -> None:
        path.write_text(data, encoding="utf-8")
