"""Measures how the memory of rendering, of training the autoencoder and of encoding latents grows with the glyphs.

Run after `make run`, from the project's root:
`.venv/bin/python -m benchmarks.memory [glyphs ...] [--size S] [--env E]`.
For each number of `glyphs` (5000 20000), the pipelines' own nodes draw that many at S (256) pixels from the characters
and faces of the newest run, train a small autoencoder on them for a few steps, and encode their latents, each in a
process of its own, and save what they return. Linux only. Printed are, in MiB and as ratios of the largest number of
glyphs to the smallest:

- imports: `own` memory when all is imported;
- own: the most memory of the process itself (RssAnon and RssShmem of /proc/self/status, read every 5 ms);
- resident: the most resident memory (VmHWM), in which pages of memory-mapped files count, whose memory the system takes
  back when it needs it.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.project import open_catalog
from diffusers import AutoencoderKL

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.fingerprint import tensors_fingerprint
from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.datasets import ArrayFolderDataset, TableDataset
from kanji_diffusion.diffusion.latents import StyleRepeats
from kanji_diffusion.diffusion.vae import VAESettings
from kanji_diffusion.diffusion.vae_loss import VAELossSettings
from kanji_diffusion.glyphs.render import RenderSettings
from kanji_diffusion.glyphs.split import SplitSettings
from kanji_diffusion.pipelines.render_glyphs.nodes import draw_glyphs
from kanji_diffusion.pipelines.train_unet.nodes import StageSettings, encode_latents
from kanji_diffusion.pipelines.train_vae.nodes import Crop, train_vae
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import NullTracker

_SECONDS_BETWEEN_LOOKS = 0.005
# Eight pixels a latent in each direction, as in conf/cluster, and narrow: what is measured does not depend on it.
_VAE = VAESettings(channels=(4, 8, 8, 8), groups=4)
_TRAINING = TrainingSettings(steps=4, batch_size=16, learning_rate=0.001, device="cpu")


def draw(given: dict[str, Any], folder: Path) -> None:
    """Draw glyphs as `draw_glyphs` does; `folder` then holds the table."""
    audit, views = given["audit"], given["views"]
    settings = RenderSettings(size=given["size"], views=views)
    tables = given["fonts"], given["faces"], given["characters"], audit.iloc[evenly(len(audit), given["rows"])]
    glyphs, _ = draw_glyphs(*tables, settings, SplitSettings(), ClusterSettings())
    _table(folder).save(glyphs)


def train(given: dict[str, Any], folder: Path) -> None:
    """Train an autoencoder as `train_vae` does; `folder` then holds it."""
    glyphs = _table(folder).load()
    selected = glyphs.loc[glyphs["split"] == "train", ["glyph_id"]]
    # Without a perceptual term nobody asks for the CLIP model.
    clip_model: Any = None
    vae = train_vae(
        glyphs,
        selected,
        clip_model,
        _VAE,
        VAELossSettings(),
        _TRAINING,
        None,
        Crop(64),
        ClusterSettings(),
        NullTracker(),
        folder / "checkpoints",
    )
    vae.save_pretrained(folder / "vae")


def encode(given: dict[str, Any], folder: Path) -> None:
    """Encode latents as `encode_latents` does for a stage that reads all glyphs at their size."""
    glyphs = _table(folder).load()
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    gate = {"vae": tensors_fingerprint(vae.state_dict())}
    stage = StageSettings(resolution=given["size"], training=_TRAINING)
    nothing, captions = glyphs.head(0), given["captions"]
    latents = encode_latents(vae, gate, glyphs, glyphs, nothing, captions, captions.head(0), stage, StyleRepeats({}))
    ArrayFolderDataset(filepath=str(folder / "latents")).save(latents)


_PARTS = {"draw_glyphs": draw, "train_vae": train, "encode_latents": encode}


def _table(folder: Path) -> TableDataset:
    return TableDataset(filepath=str(folder / "glyphs.arrow"))


def measure(part: Callable[[dict[str, Any], Path], None], given: dict[str, Any], folder: Path) -> dict[str, float]:
    """Call `part` and return what memory this process took, in MiB."""
    set_threads()
    before = _own(status())
    with _watched() as seen:
        part(given, folder)
    return {"imports": before / 1024, "own": max(seen) / 1024, "resident": status()["VmHWM"] / 1024}


@contextmanager
def _watched() -> Iterator[list[int]]:
    """A list that gets the process's own memory, in KiB, again and again."""
    seen, done = [_own(status())], threading.Event()

    def watch() -> None:
        while not done.wait(_SECONDS_BETWEEN_LOOKS):
            seen.append(_own(status()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def status() -> dict[str, int]:
    """The sizes in /proc/self/status, in KiB, by their names."""
    # `getrusage` tells a child, as its own, the most memory that its parent had when it was started.
    text = Path("/proc/self/status").read_text()
    return {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def _own(status: dict[str, int]) -> int:
    return status["RssAnon"] + status["RssShmem"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("glyphs", type=int, nargs="*", default=[5000, 20000])
    parser.add_argument("--size", type=int, default=256, help="side of the pictures, in pixels")
    parser.add_argument("--env")
    asked = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    with open_catalog(asked.env) as catalog:
        names = {"faces": "faces", "characters": "characters", "audit": "glyph_audit", "captions": "captions"}
        given = {name: catalog.load(stored) for name, stored in names.items()} | {"fonts": catalog.load("font_folder")}
    given["audit"] = given["audit"].query("verdict == 'kept'")
    views = -(-max(asked.glyphs) // len(given["audit"]))
    given |= {"size": asked.size, "views": views}
    rows = []
    for count in sorted(asked.glyphs):
        with tempfile.TemporaryDirectory() as folder:
            for label, part in _PARTS.items():
                # A process that has worked keeps what it freed.
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    work = given | {"rows": count // views}
                    found = process.submit(measure, part, work, Path(folder)).result()
                rows.append({"part": label, "glyphs": count // views * views} | found)
    table = pd.DataFrame(rows).round().astype({"imports": int, "own": int, "resident": int})
    print(table.sort_values(["part", "glyphs"]).to_string(index=False))
    for name, counts in table.groupby("part", sort=False):
        first, last = counts.iloc[0], counts.iloc[-1]
        ratios = ", ".join(f"{kind} {last[kind] / first[kind]:.2f}" for kind in ("own", "resident"))
        print(f"{name}: {last['glyphs'] / first['glyphs']:.1f} times the glyphs, memory times {ratios}")


if __name__ == "__main__":
    main()
