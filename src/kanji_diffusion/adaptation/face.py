"""The glyphs of a face: of a font file, or of a folder of scans; which are learnt, and which are kept back."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from kanji_diffusion.adaptation import scans
from kanji_diffusion.adaptation.settings import AdaptationSettings
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.augment import Ranges, augment_views
from kanji_diffusion.glyphs.font_files import FaceRule
from kanji_diffusion.glyphs.fonts import FontSettings, audit_glyphs, face_reasons, inspect_faces
from kanji_diffusion.glyphs.likeness import picture_unlikeness
from kanji_diffusion.glyphs.render import RenderSettings, render_glyphs
from kanji_diffusion.imaging.pictures import decode_images, encode_images
from kanji_diffusion.imaging.png import named_character, read_on_white

_LOGGER = logging.getLogger(__name__)
_FONTS = (".ttf", ".otf", ".ttc", ".otc", ".woff", ".woff2")
_FEWEST = 10  # glyphs that are learnt
_TOLD = 20
_LARGEST = 1.35  # of typical glyphs, as `AuditSettings.max_overflow`
_GIVE = "name a folder of PNG scans or a font file with 20 glyphs or more"
_COLUMNS = ["glyph_id", "character", "code_point", "style", "held_out", "view", "stroke_count", "image"]


def read_face(
    path: Path, style: str, characters: pd.DataFrame, size: int, settings: AdaptationSettings, fonts: FontSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw the glyphs of a face, and choose which of them are kept back.

    Args:
        path: A font file, or a folder of PNG scans.
        style: What the face is called.
        characters: Those that the model knows: character, code_point, frequency, grade, stroke_count, trained.
        size: Side of the pictures.
        settings: How many are learnt, and their views.
        fonts: Limits of what reading a font may use, and its audit.

    Returns:
        The glyphs: glyph_id, character, code_point, style, held_out (kept back), view, stroke_count, image; of one that
        is kept back the view that is not augmented alone. And the audit: source, character, verdict ("kept" or
        "rejected") and reason (the end of a sentence about the source).

    Raises:
        KanjiDiffusionError: If there is no such face, or too few of its glyphs can be learnt.
    """
    if not path.exists():
        raise KanjiDiffusionError(f"Parameter `face` is {path}, where there is nothing: {_GIVE}.")
    if path.is_dir():
        glyphs, audit = _scanned(path, characters, size, settings)
    elif path.suffix.lower() in _FONTS:
        glyphs, audit = _rendered(path, characters, size, settings, fonts)
    else:
        raise KanjiDiffusionError(f"Parameter `face` is {path}, which is neither a folder nor a font: {_GIVE}.")
    glyphs = glyphs.assign(
        style=style, glyph_id=[f"{style}.{c:04x}.{v}" for c, v in glyphs[["code_point", "view"]].values]
    )
    return glyphs[_COLUMNS], audit


def keep_back(count: int, settings: AdaptationSettings) -> tuple[np.ndarray, np.ndarray]:
    """Which of `count` glyphs are learnt, and which of the others are drawn for the report, each ascending."""
    order = np.random.default_rng(settings.seed).permutation(count)
    kept = max(round(settings.kept_back * count), count - settings.glyphs)
    return np.sort(order[kept:]), np.sort(order[:kept][: settings.checked])


def refuse_unlike(
    glyphs: pd.DataFrame, audit: pd.DataFrame, references: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take out the glyphs that look like another character than the one that they are given as.

    Args:
        glyphs: What `read_face` returned first.
        audit: What it returned second.
        references: Pictures of the same characters in other styles: character, style and image.

    Returns:
        Both without these, or with the reason.

    Raises:
        KanjiDiffusionError: If too few glyphs are left.
    """
    whole = glyphs[glyphs["view"] == 0]
    compared = references[references["character"].isin(whole["character"])]
    both = pd.concat([whole[["character", "style", "image"]], compared], ignore_index=True)
    views = np.zeros(len(both), int)
    excess, other = picture_unlikeness(
        decode_images(both), both["character"].to_numpy(), both["style"].to_numpy(), views
    )
    wrong = dict(
        zip(whole["character"][excess[: len(whole)] > 0], other[: len(whole)][excess[: len(whole)] > 0], strict=True)
    )
    audit = audit.copy()
    for character, seen in wrong.items():
        row = audit["character"].eq(character) & audit["verdict"].eq("kept")
        looks = f"looks like {seen}" if seen else "looks like no character that it could be"
        audit.loc[row, ["verdict", "reason"]] = ["rejected", f"{looks}, not like {character}"]
    _tell(audit[audit["character"].isin(wrong)])
    left = glyphs[~glyphs["character"].isin(wrong)].reset_index(drop=True)
    _require(left, audit)
    return left, audit


def _tell(audit: pd.DataFrame) -> None:
    rejected = audit[audit["verdict"] == "rejected"]
    for line in _sentences(rejected)[:_TOLD]:
        _LOGGER.warning("%s", line)
    if len(rejected) > _TOLD:
        _LOGGER.warning("%d further glyphs are left out: the table `face_audit` says why.", len(rejected) - _TOLD)


def _sentences(rejected: pd.DataFrame) -> list[str]:
    return [f"{source} {reason}." for source, reason in zip(rejected["source"], rejected["reason"], strict=True)]


def _require(glyphs: pd.DataFrame, audit: pd.DataFrame) -> None:
    learnt = glyphs.loc[~glyphs["held_out"], "character"].nunique()
    if learnt < _FEWEST:
        rejected = audit[audit["verdict"] == "rejected"]
        reasons = " ".join(_sentences(rejected)[:3])
        raise KanjiDiffusionError(
            f"The face has {learnt} glyphs to learn from beside those that are kept back, fewer than {_FEWEST}: "
            f"{_GIVE}, or lower `adapt.kept_back`. {reasons}".strip()
        )


def _rendered(
    path: Path, characters: pd.DataFrame, size: int, settings: AdaptationSettings, fonts: FontSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    known = characters[characters["trained"]] if characters["trained"].any() else characters
    rules = (FaceRule(pattern=path.name, style="new"),)
    fonts = fonts.model_copy(update={"faces": rules, "unlisted": "ignore", "min_coverage": 0.0})
    with tempfile.TemporaryDirectory(prefix="kanji_diffusion_") as folder:
        # The rest of its own folder is nobody's business.
        shutil.copy(path, folder)
        faces = inspect_faces(Path(folder), fonts, known)
        if not (faces["verdict"] == "kept").any():
            raise KanjiDiffusionError(f"The font {'; '.join(face_reasons(faces)) or path.name}: {_GIVE}.")
        found = audit_glyphs(faces, known, Path(folder), fonts)
        there = found[found["reason"] != "missing"]
        fit = known[known["character"].isin(there.loc[there["verdict"] == "kept", "character"])]
        parts = []
        for chosen, held_out, views in zip(
            keep_back(len(fit), settings), (False, True), (settings.views, 1), strict=True
        ):
            if len(chosen):
                drawing = RenderSettings(
                    size=size, fill=settings.fill, views=views, seed=settings.seed, augment=settings.augment
                )
                rows = fit.iloc[chosen]
                drawn = render_glyphs(
                    faces, rows, found[found["character"].isin(rows["character"])], Path(folder), drawing
                )
                parts.append(drawn.assign(held_out=held_out))
    reasons = there["reason"].map(lambda reason: reason and f"is {reason}")
    sources = there["character"] + f" of {path.name}"
    audit = pd.DataFrame(
        {"source": sources, "character": there["character"], "verdict": there["verdict"], "reason": reasons}
    )
    _tell(audit)
    glyphs = pd.concat(parts, ignore_index=True)
    _require(glyphs, audit)
    return glyphs, audit.reset_index(drop=True)


def _scanned(
    folder: Path, characters: pd.DataFrame, size: int, settings: AdaptationSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png" and not path.name.startswith("."))
    if not paths:
        raise KanjiDiffusionError(f"Parameter `face` is {folder}, which holds no PNG: {_GIVE}.")
    faults, pictures = _opened(paths, set(characters["character"]))
    inks, faults = _cleaned(pictures, faults, settings)
    audit = pd.DataFrame(
        {
            "source": [path.name for path in paths],
            "character": [named_character(path.stem) or "" for path in paths],
            "verdict": ["rejected" if path in faults else "kept" for path in paths],
            "reason": [faults.get(path, "") for path in paths],
        }
    )
    _tell(audit)
    fit = [path for path in paths if path not in faults]
    if not fit:
        raise KanjiDiffusionError(f"No scan in {folder} can be used: {_GIVE}. {' '.join(_sentences(audit)[:3])}")
    placement = scans.measure([inks[path] for path in fit])
    known = characters.set_index("character")
    parts = []
    for chosen, held_out, views in zip(keep_back(len(fit), settings), (False, True), (settings.views, 1), strict=True):
        for path in (fit[number] for number in chosen):
            character = named_character(path.stem)
            large = scans.place(inks[path], placement, 2 * size, settings.fill)
            rows: dict[str, object] = {"character": character, "code_point": ord(character or ""), "held_out": held_out}
            rows["stroke_count"] = known.at[character, "stroke_count"]
            drawn = _views(large, size, views, character or "", settings)
            parts.append(pd.DataFrame({**rows, "view": range(views)}).assign(image=encode_images(drawn)))
    glyphs = pd.concat(parts, ignore_index=True)
    _require(glyphs, audit)
    return glyphs, audit


def _opened(paths: Sequence[Path], known: set[str]) -> tuple[dict[Path, str], dict[Path, Image.Image]]:
    faults: dict[Path, str] = {}
    pictures: dict[Path, Image.Image] = {}
    taken: dict[str, Path] = {}
    for path in paths:
        character = named_character(path.stem)
        if character is None:
            faults[path] = "is not named by a character: name it as in 海.png, uni6D77.png or U+6D77.png"
        elif character not in known:
            faults[path] = f"is named by {character} (U+{ord(character):04X}), which the model does not know"
        elif character in taken:
            faults[path] = f"is a second scan of {character}, beside {taken[character].name}"
        else:
            taken[character] = path
            try:
                pictures[path] = read_on_white(path)
            except (OSError, ValueError) as error:
                faults[path] = f"cannot be read as a PNG ({' '.join(str(error).split())})"
    return faults, pictures


def _cleaned(
    pictures: dict[Path, Image.Image], faults: dict[Path, str], settings: AdaptationSettings
) -> tuple[dict[Path, np.ndarray], dict[Path, str]]:
    """The scans that can be used, cleaned and straightened, and the faults of all."""
    if not pictures:
        return {}, faults
    scale = scans.working_scale(list(pictures.values()))
    inks = {path: scans.clean_scan(picture, scale) for path, picture in pictures.items()}
    faults = faults | {path: fault for path, ink in inks.items() if (fault := scans.scan_fault(ink))}
    inks = {path: ink for path, ink in inks.items() if path not in faults}
    if settings.straighten and inks and (tilt := scans.common_tilt(list(inks.values()))):
        _LOGGER.info("The scans are rotated by %+.1f degrees, so that they stand upright.", tilt)
        inks = {path: scans.rotate(ink, tilt) for path, ink in inks.items()}
    if inks:
        placement = scans.measure(list(inks.values()))
        sizes = {path: scans.relative_size(ink, placement) for path, ink in inks.items()}
        faults |= {
            path: f"is {times:.1f} times as large as the others: scan all at one resolution"
            for path, times in sizes.items()
            if times > _LARGEST
        }
    return inks, faults


def _views(large: Image.Image, size: int, views: int, character: str, settings: AdaptationSettings) -> np.ndarray:
    """Pictures uint8 `[views, size, size]`, 0 = ink, of a glyph at twice their size, the first not augmented."""
    name = hashlib.sha256(large.tobytes()).hexdigest()
    keys = [f"{settings.seed}/{name}/{ord(character):04x}/{view}" for view in range(1, views)]
    drawn = [large.reduce(2), *augment_views(large, size, Ranges(**settings.augment.model_dump()), keys)]
    return 255 - np.stack([np.asarray(each) for each in drawn])
