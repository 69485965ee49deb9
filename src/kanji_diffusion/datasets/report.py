"""Reports: nested figures and words, readable by people and machines."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from kedro.io.core import DatasetError
from kedro_datasets._typing import JSONPreview

from kanji_diffusion.datasets.local import LocalDataset


class ReportDataset(LocalDataset[dict[str, Any]]):
    """A JSON report. Figures that are not finite become null, because JSON has no other word for them."""

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DatasetError(f"{path} is not a JSON report ({error}).") from error

    def _write(self, data: dict[str, Any], path: Path) -> None:
        text = json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")

    def preview(self) -> JSONPreview:
        """Give the report to Kedro-Viz."""
        return JSONPreview(Path(self._get_load_path()).read_text(encoding="utf-8"))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
