"""A step of each stage of `conf/gpu512` at its real size on a CPU, in small batches and by AdamW.

A step of Muon takes a CPU ten times as long.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.config import OmegaConfigLoader
from tests.conftest import PROJECT_ROOT

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.fingerprint import tensors_fingerprint
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.latents import CaptionDropoutSettings, StyleRepeats
from kanji_diffusion.diffusion.loss import DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings, new_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.imaging.pictures import encode_images
from kanji_diffusion.pipelines.train_unet import nodes
from kanji_diffusion.settings import CONFIG_LOADER_ARGS
from kanji_diffusion.training.tracker import NullTracker

pytestmark = pytest.mark.long

TEXTS = ["sea: left water, right every (brush kanji)", "sea (brush kanji)", "fire (gothic kanji)"]


def test_each_stage_takes_a_step():
    loader = OmegaConfigLoader(str(PROJECT_ROOT / "conf"), env="gpu512", **CONFIG_LOADER_ARGS)
    given = loader["parameters"]
    stages = {name: stage for name, stage in given["stages"].items() if stage}
    size, text_settings = given["render"]["size"], TextEncoderSettings(**given["text_encoder"])
    torch.manual_seed(0)
    vae = vaes.autoencoder(vaes.VAESettings(**given["vae"]["model"]), size).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (2, size, size), dtype=np.uint8)
    glyphs = pd.DataFrame(
        {
            "glyph_id": ["a", "b"],
            "character": ["海", "火"],
            "style": ["brush", "gothic"],
            "view": 0,
            "face_id": ["kouzan", "noto"],
            "split": "train",
            "image": encode_images(pictures),
        }
    )
    captions = pd.DataFrame({"character": list("海海火"), "style": ["brush", "brush", "gothic"], "text": TEXTS})
    captions = captions.assign(form=["composed", "long", "long"], position=0, share=[0.5, 0.5, 1.0])
    text = new_text_encoder(text_settings, TEXTS, [])
    tokens = nodes.tokenise_captions(captions, captions.head(0), text)
    unet = text_unet(UNetSettings(**given["unet"]), vae.config.latent_channels, 16, text.width)
    sides = []
    for name, stage in stages.items():
        few = {"steps": 1, "batch_size": 2, "warmup_steps": 0, "sheet_every": 0, "device": "cpu"}
        few["optimizer"] = "adamw"
        settings = nodes.StageSettings(**stage | {"training": stage["training"] | few, "reads": "all"})
        latents = nodes.encode_latents(
            vae,
            {"vae": tensors_fingerprint(vae.state_dict())},
            glyphs,
            glyphs,
            glyphs.head(0),
            captions,
            captions.head(0),
            settings,
            StyleRepeats({}),
        )
        sides.append(latents["mean"].shape[-1])
        before = text.model.state_dict()["embeddings.word_embeddings.weight"].clone()
        unet, text = nodes.train_stage(
            latents=latents,
            caption_states=tokens,
            captions=captions,
            start=unet,
            vae=vae,
            stage=settings,
            schedule=ScheduleSettings(**given["schedule"]),
            loss=DiffusionLossSettings(**given["diffusion_loss"]),
            dropout=CaptionDropoutSettings(**given["caption_dropout"]),
            settings=UNetSettings(**given["unet"]),
            cluster=ClusterSettings(),
            tracker=NullTracker(),
            checkpoints=None,
            name=name,
            text_encoder=text,
        )
        assert not torch.equal(text.model.state_dict()["embeddings.word_embeddings.weight"], before)
        assert all(value.isfinite().all() for value in unet.state_dict().values())
    assert sides == [16, 16, 32]
    assert tuple(unet.config.block_out_channels) == (192, 192, 384)
