"""Bad glyphs planted among good ones, as a broken font or a bad scan would bring them."""

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from kanji_diffusion.imaging.pictures import decode_images, encode_images

KINDS = ("wrong character", "box", "blank", "heavy noise")


def plant(glyphs: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Replace a share of the training pictures of each style: half of them singly, half in all views of a glyph.

    Args:
        glyphs: What `split_glyphs` returned.
        share: Of the pictures of each style; each kind is planted at least once.
        seed: Which ones, and how.

    Returns:
        `glyphs` with other pictures and the column `planted`: the kind, or "" for the good ones.
    """
    generator = np.random.default_rng(seed)
    glyphs = glyphs.reset_index(drop=True).assign(planted="")
    images = decode_images(glyphs)
    originals = images.copy()
    for _, offered in glyphs[glyphs["split"] == "train"].groupby("style"):
        kind, planted = 0, 0
        wanted = max(len(KINDS), round(share * len(offered)))
        while planted < wanted or kind < len(KINDS):
            whole = planted >= wanted / 2
            first = offered.loc[generator.choice(offered.index)]
            name = KINDS[kind % len(KINDS)]
            rows = offered.index[
                (offered["face_id"] == first["face_id"])
                & (offered["character"] == first["character"])
                & (whole | (offered["view"] == first["view"]))
            ]
            # A box is no bad picture of a mouth (口), of the sun (日) and the like.
            if (glyphs.loc[rows, "planted"] != "").any() or (name == "box" and first["character"] in "口日目田四回国"):
                continue
            images[rows] = _planted(name, originals, glyphs, rows, generator)
            glyphs.loc[rows, "planted"] = name
            kind, planted = kind + 1, planted + len(rows)
    return glyphs.assign(image=pd.Series(encode_images(images), index=glyphs.index))


def _planted(
    kind: str, originals: np.ndarray, glyphs: pd.DataFrame, rows: pd.Index, generator: np.random.Generator
) -> np.ndarray:
    pictures = originals[rows]
    side = pictures.shape[-1]
    if kind == "blank":
        return np.full_like(pictures, 255)
    if kind == "box":
        page = Image.new("L", (side, side), 255)
        edge = (int(0.12 * side), int(0.12 * side), int(0.88 * side), int(0.88 * side))
        ImageDraw.Draw(page).rectangle(edge, outline=0, width=max(1, round(side * generator.uniform(0.02, 0.06))))
        return np.broadcast_to(np.asarray(page), pictures.shape)
    if kind == "heavy noise":
        return np.clip(pictures + generator.normal(0, generator.uniform(70, 130), pictures.shape), 0, 255).astype(
            np.uint8
        )
    first = glyphs.loc[rows[0]]
    same_face = glyphs[(glyphs["face_id"] == first["face_id"]) & (glyphs["character"] != first["character"])]
    other = same_face[same_face["character"] == generator.choice(same_face["character"].unique())]
    return originals[[other.index[other["view"] == view][0] for view in glyphs.loc[rows, "view"]]]


def found_and_lost(planted: pd.DataFrame, kept: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Shares of the planted glyphs that are removed by style and kind, and of the good ones by style.

    Args:
        planted: What `plant` returned.
        kept: `glyph_id` of the glyphs that the filter kept.
    """
    offered = planted[planted["split"] == "train"]
    removed = ~offered["glyph_id"].isin(kept["glyph_id"])
    bad = offered["planted"] != ""
    found = removed[bad].groupby([offered["style"], offered["planted"]]).agg(["mean", "sum", "size"])
    lost = removed[~bad].groupby(offered["style"]).agg(["mean", "sum", "size"])
    return found, lost
