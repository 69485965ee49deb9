from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.datasets import TableDataset
from kanji_diffusion.glyphs.render import AugmentSettings, RenderSettings, glyph_sheet, render_glyphs
from kanji_diffusion.imaging.pictures import decode_images, encode_images

SETTINGS = RenderSettings(
    size=32,
    views=3,
    workers=1,
    augment=AugmentSettings(
        rotation=4,
        shift=0.04,
        scale=(0.92, 1.04),
        shear=3,
        weight=(-0.003, 0.006),
        elastic=0.01,
        ink_texture=0.2,
        paper_texture=0.1,
    ),
)
COLUMNS = [
    "glyph_id",
    "character",
    "code_point",
    "face_id",
    "style",
    "held_out",
    "view",
    "stroke_count",
    "grade",
    "frequency",
    "image",
]


@pytest.fixture(scope="module")
def glyphs(faces: pd.DataFrame, grade_one: pd.DataFrame, audit: pd.DataFrame, font_folder: Path) -> pd.DataFrame:
    return render_glyphs(faces, grade_one, audit, font_folder, SETTINGS)


def test_every_glyph_that_passed_the_audit_has_a_row_for_each_view(glyphs: pd.DataFrame, audit: pd.DataFrame) -> None:
    assert glyphs.columns.tolist() == COLUMNS
    assert len(glyphs) == (audit["verdict"] == "kept").sum() * 3 > 1150
    assert glyphs["glyph_id"].is_unique
    order = glyphs[["face_id", "code_point", "view"]]
    pd.testing.assert_frame_equal(order, order.sort_values(order.columns.tolist(), ignore_index=True))


def test_pictures_hold_ink_inside_the_square(glyphs: pd.DataFrame) -> None:
    pixels = decode_images(glyphs)
    assert pixels.shape == (len(glyphs), 32, 32)
    assert pixels.min(axis=(1, 2)).max() < 100
    assert (pixels < 128).mean() < 0.4
    edges = np.concatenate([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], axis=1)
    assert edges.min() > 128


def test_pillow_reads_the_same_pixels(glyphs: pd.DataFrame) -> None:
    picture = Image.open(io.BytesIO(glyphs["image"].iloc[7]["bytes"]))
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), decode_images(glyphs.iloc[[7]])[0])


def test_encoding_undoes_decoding(glyphs: pd.DataFrame) -> None:
    few = glyphs.head(5)
    assert encode_images(decode_images(few)).tolist() == few["image"].tolist()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_processes_changes_no_byte_of_the_file(
    glyphs: pd.DataFrame,
    faces: pd.DataFrame,
    grade_one: pd.DataFrame,
    audit: pd.DataFrame,
    font_folder: Path,
    tmp_path: Path,
    workers: int,
) -> None:
    calls: list[int] = []
    settings = SETTINGS.model_copy(update={"workers": workers})
    again = render_glyphs(faces, grade_one, audit, font_folder, settings, calls.append)
    for name, table in {"once": glyphs, "again": again}.items():
        TableDataset(filepath=str(tmp_path / f"{name}.arrow")).save(table)
    once, twice = (hashlib.sha256((tmp_path / f"{name}.arrow").read_bytes()) for name in ("once", "again"))
    assert once.hexdigest() == twice.hexdigest()
    assert len(calls) > 1
    assert sum(calls) == len(glyphs)


def test_a_picture_depends_on_its_own_glyph_and_seed_alone(
    glyphs: pd.DataFrame, faces: pd.DataFrame, grade_one: pd.DataFrame, audit: pd.DataFrame, font_folder: Path
) -> None:
    few = grade_one[grade_one["character"].isin(list("水森"))]
    again = render_glyphs(faces.iloc[1:3], few, audit, font_folder, SETTINGS)
    expected = glyphs[glyphs["glyph_id"].isin(again["glyph_id"])]
    np.testing.assert_array_equal(decode_images(again), decode_images(expected))
    reseeded = render_glyphs(faces.iloc[1:3], few, audit, font_folder, SETTINGS.model_copy(update={"seed": 1}))
    same = (decode_images(reseeded) == decode_images(again)).all(axis=(1, 2))
    assert same.tolist() == (again["view"] == 0).tolist()


def test_rejected_glyphs_are_not_drawn(
    faces: pd.DataFrame, grade_one: pd.DataFrame, audit: pd.DataFrame, font_folder: Path
) -> None:
    rejected = audit.assign(verdict=audit["character"].isin(list("水火")).map({True: "kept", False: "rejected"}))
    drawn = render_glyphs(faces, grade_one, rejected, font_folder, SETTINGS)
    assert set(drawn["character"]) == {"水", "火"}
    with pytest.raises(KanjiDiffusionError, match="No glyph passed the audit"):
        render_glyphs(faces, grade_one, audit.assign(verdict="rejected"), font_folder, SETTINGS)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_font_that_vanished_is_one_sentence(
    faces: pd.DataFrame, grade_one: pd.DataFrame, audit: pd.DataFrame, tmp_path: Path, workers: int
) -> None:
    with pytest.raises(KanjiDiffusionError, match="can no longer be drawn"):
        render_glyphs(faces, grade_one, audit, tmp_path, SETTINGS.model_copy(update={"workers": workers}))


def test_the_sheet_has_a_row_per_face(glyphs: pd.DataFrame, faces: pd.DataFrame) -> None:
    sheet = glyph_sheet(glyphs, columns=10)
    assert sheet.height == 36 * len(faces)
    assert 360 < sheet.width < 800
    without = glyphs[(glyphs["face_id"] != "kiloji") | (glyphs["character"] != "一")]
    grey = np.asarray(glyph_sheet(without, columns=10)) == 208
    assert grey.all(axis=2).sum() >= 32 * 32


@pytest.mark.parametrize("wrong", [{"size": 513}, {"size": "big"}, {"fill": 1.0}, {"views": 0}, {"flip": True}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RenderSettings.model_validate(wrong)
