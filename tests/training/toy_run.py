"""A whole training at toy size (autoencoder, two UNet stages, real glyphs) in child processes that may be killed."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from kanji_diffusion.core import files
from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.errors import TrainingInterrupted
from kanji_diffusion.core.fingerprint import tensors_fingerprint
from kanji_diffusion.core.hardware import set_threads
from kanji_diffusion.datasets.model_source import ModelResolver
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.latents import CaptionDropoutSettings, StyleRepeats
from kanji_diffusion.diffusion.loss import DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings, new_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings
from kanji_diffusion.glyphs import captioning, captions, dictionary, fonts, render, split
from kanji_diffusion.pipelines.train_unet import nodes as unet_nodes
from kanji_diffusion.pipelines.train_vae import nodes as vae_nodes
from kanji_diffusion.training.checkpoint import load_checkpoint
from kanji_diffusion.training.muon import Muon

INTERRUPTED = 75
MODELS = ("vae", "unet_16", "unet_32")
# Reports, sheets and checkpoints fall on different steps, so that stops divide what is averaged.
_TRAINING = {"batch_size": 8, "learning_rate": 1e-3, "report_every": 3, "checkpoint_every": 2}
_TIMINGS = ("images_per_second", "input_wait", "checkpoint_seconds")


@dataclass(frozen=True)
class Stop:
    """A signal that the child sends itself: at its `count`-th `step` or `write` (fsync of a checkpoint's file)."""

    number: signal.Signals
    event: str
    count: int

    def arm(self) -> None:
        left = self.count

        def pass_by(*given: object) -> None:
            nonlocal left
            # With Muon, a step is AdamW's and then Muon's.
            if given and isinstance(given[0], Muon):
                return
            left -= 1
            if left == 0:
                os.kill(os.getpid(), self.number)

        if self.event == "step":
            register_optimizer_step_pre_hook(pass_by)
        else:
            sync = files.sync
            files.sync = lambda path: (pass_by(), sync(path))


class LogFile:
    """A tracker that outlives its process: one line for each metric."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def metrics(self, values, step):
        with self.path.open("a") as file:
            file.writelines(f"{json.dumps([name, step, value])}\n" for name, value in values.items())

    def image(self, name, image, step):
        pixels = torch.from_numpy(np.array(image))
        self.metrics({name: tensors_fingerprint({"pixels": pixels})}, step)


def write_inputs(raw: Path, folder: Path) -> None:
    """Real glyphs of four characters in two faces, their captions and caption states."""
    rules = tuple(
        fonts.FaceRule(pattern=pattern, style=style)
        for pattern, style in {"NotoSansCJK-Regular.ttc": "gothic", "kouzan-mouhitsu.ttf": "brush"}.items()
    )
    settings = fonts.FontSettings(faces=rules)
    entries = dictionary.read_kanjidic2(raw / "kanjidic2.xml.gz")
    characters = dictionary.select_characters(entries, dictionary.CharacterSelection(characters="口日水火"))
    faces = fonts.list_faces(raw / "fonts", settings, characters)
    audit = fonts.audit_glyphs(faces, characters, raw / "fonts", settings)
    glyphs = render.render_glyphs(faces, characters, audit, raw / "fonts", render.RenderSettings(size=32, views=3))
    texts = captioning.write_captions(characters, ["brush", "gothic"], captions.CaptionSettings())
    folder.mkdir(parents=True, exist_ok=True)
    split.split_glyphs(glyphs, characters, split.SplitSettings()).to_parquet(folder / "glyphs.parquet")
    texts.to_parquet(folder / "captions.parquet")


def train_all(inputs: Path, folder: Path, steps: int) -> None:
    """Train what `kedro run --pipelines=train_vae,train_unet` trains, by the same nodes, each model for `steps`."""
    glyphs, texts = pd.read_parquet(inputs / "glyphs.parquet"), pd.read_parquet(inputs / "captions.parquet")
    text_settings = TextEncoderSettings(source="trained", max_length=12, width=32, layers=1)
    nothing, unbuilt = glyphs.head(0), texts.head(0)
    text_encoder = new_text_encoder(text_settings, texts["text"], [])
    tokens = unet_nodes.tokenise_captions(texts, unbuilt, text_encoder)
    training = vae_nodes.TrainingSettings.model_validate(_TRAINING | {"steps": steps})
    tracker, checkpoints = LogFile(folder / "log.jsonl"), folder / "checkpoints"
    vae = vae_nodes.train_vae(
        glyphs,
        glyphs,
        None,
        vaes.VAESettings(channels=(8, 16), groups=8),
        vae_nodes.VAELossSettings(),
        training,
        None,
        vae_nodes.Crop(16),
        ClusterSettings(),
        tracker,
        checkpoints,
    )
    gate = {"vae": tensors_fingerprint(vae.state_dict())}
    schedule = ScheduleSettings()
    architecture = UNetSettings(channels=(16, 32), cross_attention=(False, True), groups=8, heads=2)
    unet = unet_nodes.initialise_unet(vae, tokens, text_settings, architecture, ModelResolver(folder, folder))
    for resolution in (16, 32):
        stage = unet_nodes.StageSettings(
            resolution=resolution,
            grow=resolution > 16,
            grow_layers=0,
            views=None if resolution == 16 else 1,
            training=training.model_copy(update={"sheet_every": 5, "optimizer": "muon"}),
            live_prompts=2,
            sampling=unet_nodes.SamplingSettings(steps=2),
        )
        repeats = StyleRepeats({"brush": 2})
        latents = unet_nodes.encode_latents(vae, gate, glyphs, glyphs, nothing, texts, unbuilt, stage, repeats)
        unet, text_encoder = unet_nodes.train_stage(
            latents=latents,
            caption_states=tokens,
            captions=texts,
            start=unet,
            vae=vae,
            stage=stage,
            schedule=schedule,
            loss=DiffusionLossSettings(),
            dropout=CaptionDropoutSettings(),
            settings=architecture,
            cluster=ClusterSettings(),
            tracker=tracker,
            checkpoints=checkpoints,
            name=str(resolution),
            text_encoder=text_encoder,
        )


def _child(inputs: Path, folder: Path, steps: int, stop: Stop | None) -> None:
    set_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    logging.basicConfig(level=logging.INFO)
    if stop is not None:
        stop.arm()
    try:
        train_all(inputs, folder, steps)
    except TrainingInterrupted as told:
        print(told, file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)


def processes() -> ForkServerContext:
    """Makes child processes that need not import torch again: they are forked from one that did."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def start(context: ForkServerContext, inputs: Path, folder: Path, steps: int, stop: Stop | None = None) -> BaseProcess:
    """Train in a child process; what it prints goes to `output.txt`."""
    child = context.Process(target=_child, args=(inputs, folder, steps, stop), daemon=True)
    child.start()
    return child


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    """Weights, averages, moments and the open report of every model of a finished run."""
    found = {}
    for model in MODELS:
        (last,) = folder.glob(f"checkpoints/{model}/*/step_*")
        state = load_checkpoint(last)
        found[f"{model}/step"] = torch.tensor(state.step)
        for group, tensors in state.tensors.items():
            found |= {f"{model}/{group}/{name}": tensor for name, tensor in tensors.items()}
    return found


def logged(folder: Path) -> dict[tuple[str, int], float | str]:
    """What was logged at each step, but for timings."""
    return union(json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())


def union(lines: Iterable[tuple[str, int, float | str]]) -> dict[tuple[str, int], float | str]:
    """The value of each metric at each step, but for timings.

    Raises:
        AssertionError: If a step was logged twice with different values.
    """
    values: dict[tuple[str, int], float | str] = {}
    for name, step, value in lines:
        if not name.endswith(_TIMINGS):
            assert values.setdefault((name, step), value) == value, (
                f"{name} at step {step}: {values[name, step]}, {value}"
            )
    return values


def largest_difference(
    ours: dict[str, torch.Tensor], our_log: dict, theirs: dict[str, torch.Tensor], their_log: dict
) -> float:
    """The largest difference between two finished runs in any tensor or logged value; infinite if one lacks some."""
    if ours.keys() != theirs.keys() or our_log.keys() != their_log.keys():
        return float("inf")
    tensors = [(ours[name].double() - theirs[name].double()).abs().max().item() for name in ours if ours[name].numel()]
    values = [
        abs(value - their_log[key]) if isinstance(value, float) else float(value != their_log[key])
        for key, value in our_log.items()
    ]
    same_bits = all(torch.equal(ours[name], theirs[name]) for name in ours)
    return max(*tensors, *values, 0.0 if same_bits else 5e-324)
