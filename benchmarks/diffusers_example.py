"""A training loop that works as diffusers' `train_text_to_image` example does, for `training_throughput`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kanji_diffusion.training.settings import TrainingSettings


class Pictures(Dataset[dict[str, torch.Tensor]]):
    """PNG files of glyphs, each with a random one of its captions, through the example's transforms.

    Args:
        images: uint8 `[N, H, W]`.
        texts: All captions.
        rows: int64 `[N, K]`, the captions of each glyph as rows of `texts`, padded by -1.
        tokenizer: Of the text encoder.
        resolution: Side of the pictures that are trained on, in pixels.
    """

    def __init__(
        self,
        images: np.ndarray,
        texts: Sequence[str],
        rows: np.ndarray,
        tokenizer: PreTrainedTokenizerBase,
        resolution: int,
    ) -> None:
        self.files: list[bytes] = []
        self.texts, self.rows, self.tokenizer = texts, rows, tokenizer
        for image in images:
            file = io.BytesIO()
            Image.fromarray(image).save(file, format="PNG")
            self.files.append(file.getvalue())
        self.transform = transforms.Compose(
            [
                transforms.Resize(resolution, interpolation=transforms.InterpolationMode.BILINEAR),
                transforms.CenterCrop(resolution),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        known = self.rows[index][self.rows[index] >= 0]
        text = self.texts[known[torch.randint(len(known), ())]]
        tokens = self.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt")
        pixels = self.transform(Image.open(io.BytesIO(self.files[index])).convert("L"))
        return {"pixel_values": pixels, "input_ids": tokens.input_ids[0], "attention_mask": tokens.attention_mask[0]}


def example_loop(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text_encoder: PreTrainedModel,
    trains_text: bool,
    schedule: DDPMScheduler,
    pictures: Pictures,
    settings: TrainingSettings,
    device: torch.device,
) -> Iterator[None]:
    """Train as diffusers' example does, one step for each item, with its optimizer, EMA and order of calls."""
    trained = [*unet.parameters(), *(text_encoder.requires_grad_(True).parameters() if trains_text else ())]
    masked = getattr(text_encoder.config, "use_attention_mask", False)
    precision = "bf16" if device.type == "cuda" else "no"
    accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu")
    unet.train()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    vae.to(accelerator.device, dtype)
    text_encoder.to(accelerator.device, torch.float32 if trains_text else dtype)
    ema = EMAModel(trained, model_cls=type(unet), model_config=unet.config)
    ema.to(accelerator.device)
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, betas=(0.9, 0.999), weight_decay=1e-2)
    loader = DataLoader(pictures, shuffle=True, batch_size=settings.batch_size, drop_last=True)
    rates = get_scheduler("constant", optimizer=optimizer)
    unet, optimizer, loader, rates = accelerator.prepare(unet, optimizer, loader, rates)
    if trains_text:
        text_encoder = accelerator.prepare(text_encoder)
    while True:
        train_loss = 0.0
        for batch in loader:
            with accelerator.accumulate(unet):
                latents = vae.encode(batch["pixel_values"].to(dtype)).latent_dist.sample() * vae.config.scaling_factor
                noise = torch.randn_like(latents)
                timesteps = torch.randint(
                    0, schedule.config.num_train_timesteps, (len(latents),), device=latents.device
                )
                noisy = schedule.add_noise(latents.float(), noise.float(), timesteps).to(dtype)
                mask = batch["attention_mask"] if masked else None
                states = text_encoder(batch["input_ids"], mask, return_dict=False)[0]
                target = schedule.get_velocity(latents, noise, timesteps)
                predicted = unet(noisy, timesteps, states, return_dict=False)[0]
                loss = F.mse_loss(predicted.float(), target.float(), reduction="mean")
                train_loss += accelerator.gather(loss.repeat(settings.batch_size)).mean().item()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(trained, settings.clip_norm)
                optimizer.step()
                rates.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                ema.step(trained)
            yield
