"""The best of several drawings of many glyphs, kept block by block, so that a stopped drawing goes on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from diffusers import StableDiffusionPipeline

from kanji_diffusion.core.cluster import ClusterSettings, mapper
from kanji_diffusion.core.files import written_whole
from kanji_diffusion.core.fingerprint import fingerprint
from kanji_diffusion.core.progress import Progress
from kanji_diffusion.imaging.pictures import encode_images
from kanji_diffusion.sampling.candidates import candidate_seeds
from kanji_diffusion.sampling.export import model_fingerprint
from kanji_diffusion.sampling.readers import Reader
from kanji_diffusion.sampling.sampler import DrawingSettings, draw
from kanji_diffusion.training.identity import library_versions

# Pictures, candidates among them, that are drawn between two savings.
_BLOCK = 64
# What is kept of a block's readings, and its type.
_KEPT = {"seed": np.int64, "merit": np.float64, "read_as": np.str_, "read": np.float64}


def draw_best(
    model: StableDiffusionPipeline,
    glyphs: pd.DataFrame,
    sampling: DrawingSettings,
    candidates: int,
    reader: Reader,
    folder: Path,
    cluster: ClusterSettings,
) -> pd.DataFrame:
    """Draw each glyph as often as there are candidates, and keep the one that is read best.

    Blocks that were drawn before, by this model with these settings and this reader, are not drawn again.

    Args:
        model: The finished model.
        glyphs: Rows with `prompt`, `seed` (of the first candidate), `character` (null for an invention) and `ids`.
        sampling: How they are drawn.
        candidates: How many of each.
        reader: Chooses.
        folder: Where blocks are kept, in a folder of their identity.
        cluster: The workers, each of which draws a block at a time.

    Returns:
        `glyphs` with the `seed` of the best, its `image`, and `merit`, `read_as` and `read` of the reader.
    """
    kept = folder / _identity(model, sampling, candidates, reader)
    size = max(1, _BLOCK // candidates)
    blocks = [glyphs.iloc[first : first + size] for first in range(0, len(glyphs), size)]
    paths = [kept / f"{_block_name(block)}.npz" for block in blocks]
    missing = [(block, path) for block, path in zip(blocks, paths, strict=True) if not path.exists()]
    done = len(glyphs) - sum(len(block) for block, _ in missing)
    drawing = partial(_best_of_block, model, sampling, candidates, reader)
    with Progress("drawing", len(glyphs), done, unit="glyph") as progress:
        drawn = mapper(cluster)(drawing, [block for block, _ in missing]) if missing else iter(())
        for (block, path), content in zip(missing, drawn, strict=True):
            with written_whole(path) as staging:
                staging.write_bytes(content)
            progress.advance(len(block))
    return _joined(glyphs, paths)


def _identity(model: StableDiffusionPipeline, sampling: DrawingSettings, candidates: int, reader: Reader) -> str:
    """Changes with all that pictures and readings depend on besides prompt and seed."""
    return fingerprint(
        {
            "model": model_fingerprint(model),
            "sampling": sampling.model_dump(mode="json", exclude={"device", "preset"}),
            "candidates": candidates,
            "reader": reader.fingerprint(),
            "libraries": library_versions(),
        }
    )


def _block_name(block: pd.DataFrame) -> str:
    return fingerprint({"glyphs": block[["prompt", "seed", "character", "ids"]].astype(str).to_numpy().tolist()})


def _best_of_block(
    model: StableDiffusionPipeline, sampling: DrawingSettings, candidates: int, reader: Reader, block: pd.DataFrame
) -> bytes:
    """The best pictures of a block and what is read of them, as the bytes of a file of arrays."""
    repeated = block.loc[block.index.repeat(candidates)]
    seeds = candidate_seeds(block["seed"].tolist(), candidates)
    pictures = draw(model, repeated["prompt"].tolist(), seeds, sampling)
    told = reader(pictures, repeated.reset_index(drop=True)).assign(seed=seeds)
    # Of what cannot be told, the first is as good as any other.
    merit = told["merit"].fillna(-np.inf).to_numpy(dtype=float).reshape(-1, candidates)
    best = np.arange(len(block)) * candidates + merit.argmax(axis=1)
    file = io.BytesIO()
    columns = {name: told[name].iloc[best].to_numpy().astype(kind) for name, kind in _KEPT.items()}
    np.savez(file, allow_pickle=False, image=pictures[best], **columns)
    return file.getvalue()


def _joined(glyphs: pd.DataFrame, paths: Sequence[Path]) -> pd.DataFrame:
    images, tables = [], []
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            images.append(file["image"])
            tables.append(pd.DataFrame({name: file[name] for name in _KEPT}))
    told = pd.concat(tables).set_index(glyphs.index)
    return glyphs.assign(**told, image=encode_images(np.concatenate(images)))
