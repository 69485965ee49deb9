from __future__ import annotations

from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def raw_data() -> Path:
    folder = PROJECT_ROOT / "data" / "01_raw"
    if not (folder / "fonts").is_dir() or not (folder / "kanjidic2.xml.gz").is_file():
        pytest.fail(f"The fonts and the dictionary are not in {folder}: run `make data` first.")
    return folder
