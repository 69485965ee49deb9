"""Toy models of Stable Diffusion's kinds, trained for a few steps and saved as the hub has them."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.sampling.sampler import DrawingSettings
from kanji_diffusion.scoring.aesthetics import LaionMLP

WIDTH = 32
# What `unet` is to be for the UNet that is made here.
UNET = {
    "channels": [16, 32],
    "cross_attention": [False, True],
    "layers": 1,
    "heads": 4,
    "groups": 8,
    "global_text": False,
    "time_modulation": "default",
}
SCHEDULE = ScheduleSettings(prediction="epsilon", spacing="leading")
CLIP_FEATURES = 24
_COMMIT = "0123456789abcdef0123456789abcdef01234567"


@functools.cache
def pipeline() -> StableDiffusionPipeline:
    """A pipeline of Stable Diffusion 1's kind: eight pixels a latent, CLIP's tokenizer, PLMS, noise predicted."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        sample_size=64,
    )
    tokenizer = clip_tokenizer()
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
    )
    process = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    _train(vae, unet, text, tokenizer, DDPMScheduler(**process))
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=PNDMScheduler(**process, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="session")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("hub") / "stable-diffusion"
    pipeline().save_pretrained(folder)
    return folder


def stock_picture(stock: StableDiffusionPipeline, prompt: str, seed: int, settings: DrawingSettings) -> np.ndarray:
    """What the stock pipeline draws, as our pictures are: the mean of its channels, `[H, W]` of whole numbers."""
    stock.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": settings.steps, "guidance_scale": settings.guidance_scale, "output_type": "np"}
    drawn = stock(prompt, generator=torch.Generator().manual_seed(seed), **options).images[0]
    return (drawn.mean(axis=2) * 255).round()


def _train(vae, unet, text, tokenizer, schedule, steps: int = 8) -> None:
    """Train everything for a few steps, so that no weight is what it was drawn as."""
    parameters = [value for module in (vae, unet, text) for value in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.003)
    tokens = tokenizer(["water", "fire"], padding="max_length", return_tensors="pt").input_ids
    for step in range(steps):
        pixels = torch.rand(2, 1, 64, 64).round().expand(-1, 3, -1, -1) * 2 - 1
        latents = vae.encode(pixels).latent_dist.sample()
        drawn = (vae.decode(latents).sample - pixels).square().mean()
        clean, times = latents.detach() * vae.config.scaling_factor, torch.tensor([100 * step, 50])
        noise = torch.randn_like(clean)
        predicted = unet(schedule.add_noise(clean, noise, times), times, text(tokens)[0]).sample
        (drawn + (predicted - noise).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's own tokenizer, of the vocabulary that open_clip has with it."""
    known = SimpleTokenizer()
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {special.get(token, token): number for token, number in known.encoder.items()}
    merges = sorted(known.bpe_ranks, key=known.bpe_ranks.__getitem__)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def clip_scorer(folder: Path) -> Path:
    """A small CLIP model with a vision transformer, as open_clip reads it from `local-dir:` and `hf-hub:`."""
    config = {
        "embed_dim": CLIP_FEATURES,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        "quick_gelu": True,
    }
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    return folder


def laion_head(path: Path) -> Path:
    """A file in the format of `sac+logos+ava1-l14-linearMSE.pth`, for the features of `clip_scorer`."""
    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(LaionMLP(CLIP_FEATURES).state_dict(), path)
    return path


def put_on_hub(home: Path, name: str, folder: Path) -> None:
    """Put the files of `folder` where the hub's client keeps those of the repository `name`, with HF_HOME at `home`."""
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / _COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(_COMMIT)
