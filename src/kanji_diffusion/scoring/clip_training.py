"""Training of the CLIP model on glyphs and captions (Radford et al., 2021); its text tower is frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.glyphs.captions import caption_rows, meaning_captions
from kanji_diffusion.imaging.pictures import Images, blocks, open_images
from kanji_diffusion.imaging.resize import resize_all, to_model_range
from kanji_diffusion.imaging.warp import WarpSettings, warp_pictures
from kanji_diffusion.scoring.clip import TRAINED, ClipScorer, ClipSettings, Towers, build_scorer, towers
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.protocols import Batch, LossOutput
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import Tracker


def train_clip(
    glyphs: pd.DataFrame,
    captions: pd.DataFrame,
    settings: ClipSettings,
    text_encoder: TextEncoderSettings,
    warp: WarpSettings,
    training: TrainingSettings,
    tracker: Tracker,
    checkpoints: Path,
) -> ClipScorer:
    """A CLIP model of the glyphs and of the captions without parts; a pretrained one is returned untrained.

    Args:
        glyphs: Rows with `character`, `style`, `split` and `image`; those of the split "train" are trained on.
        captions: What `write_captions` returned.
        settings: The model.
        text_encoder: The frozen text tower.
        warp: Augmentation of the pictures.
        training: Steps, batch size and optimizer.
        tracker: Receives the metrics.
        checkpoints: Folder for checkpoints.
    """
    torch.manual_seed(training.seed)
    scorer = build_scorer(settings, text_encoder)
    if settings.source != TRAINED:
        return scorer
    seen, captions = glyphs[glyphs["split"] == "train"], meaning_captions(captions)
    texts = captions["text"].tolist()
    images = resize_all(open_images(seen), settings.image_size)
    dataset = PairDataset(images, caption_rows(seen, captions), texts, pooled_texts(scorer, texts), warp)
    train(towers(scorer.model), ClipLoss(), dataset, training, name="clip", checkpoints=checkpoints, tracker=tracker)
    # Only the trained towers were moved to the device; the frozen text tower follows.
    scorer.model.to(scorer.device)
    return scorer


@torch.no_grad()
def pooled_texts(scorer: ClipScorer, texts: Sequence[str], batch_size: int = 256) -> torch.Tensor:
    """Features of `texts` from the frozen text tower before its projection, float32 `[N, D]`."""
    tower = scorer.model.text
    tokens = scorer.tokenizer(list(texts))
    mask = (tokens != tower.config.pad_token_id).long()
    lengths = mask.sum(dim=1)
    pooled = torch.empty(len(tokens), tower.config.hidden_size)
    # Texts of about one length are encoded together: captions fill less than half of the context.
    for rows in lengths.argsort(stable=True).split(batch_size):
        read, known = (part[rows, : int(lengths[rows].max())].to(scorer.device) for part in (tokens, mask))
        pooled[rows] = tower.pooler(tower.transformer(input_ids=read, attention_mask=known), known).cpu()
    return pooled


class PairDataset:
    """Glyph pictures, randomly warped at every read, with one of their captions.

    Args:
        images: uint8 `[N, H, W]`.
        captions: int64 `[N, K]`, rows of `pooled`, padded by -1.
        texts: The M captions themselves; two characters may share one (一 and 壱 are both "one").
        pooled: Frozen text features `[M, D]`.
        settings: How strongly to warp the pictures.
    """

    def __init__(
        self,
        images: Images,
        captions: np.ndarray,
        texts: Sequence[str],
        pooled: torch.Tensor,
        settings: WarpSettings,
    ) -> None:
        self.images, self.captions = images, torch.as_tensor(captions)
        self.pooled, self.settings = pooled, settings
        self.choices = (self.captions >= 0).sum(dim=1)
        number: dict[str, int] = {}
        codes = torch.tensor([number.setdefault(text, len(number)) for text in texts])
        self.codes = torch.where(self.captions >= 0, codes[self.captions], -1)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    def fingerprint(self) -> str:
        """Changes whenever pictures, captions or settings change."""
        digest = hashlib.sha256(self.settings.model_dump_json().encode())
        for block in blocks(self.images):
            digest.update(block.tobytes())
        for tensor in (self.captions, self.codes, self.pooled):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def batch(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """`pixels` `[B, 3, H, W]`, `text` `[B, D]`, its number `drawn` `[B]` and all that the picture has `[B, K]`."""
        choice = random.integers("caption", self.choices[index])
        pixels = warp_pictures(to_model_range(self.images[index.numpy()]), random, self.settings)
        return {
            "pixels": pixels.expand(-1, 3, -1, -1),
            "text": self.pooled[self.captions[index, choice]],
            "drawn": self.codes[index, choice],
            "captions": self.codes[index],
        }


class ClipLoss:
    """Contrastive loss with every caption of a picture as its positive, whoever in the batch drew it.

    With one positive each (Radford et al., 2021), a character that is twice in a batch would be pushed away from
    its own caption.
    """

    whole_batch = True

    def fingerprint(self) -> str:
        """The loss has no settings."""
        return "multi-positive"

    def __call__(self, module: Towers, batch: Batch, random: SampleRandom) -> LossOutput:
        """Loss of one batch of `PairDataset`."""
        images = F.normalize(module.visual(batch["pixels"]), dim=1)
        texts = F.normalize(module.projection(batch["text"]), dim=1)
        logits = module.logit_scale.clamp(max=4.6).exp() * images @ texts.T
        same = (batch["captions"][:, :, None] == batch["drawn"]).any(dim=1).float()
        loss = 0.5 * (
            F.cross_entropy(logits, same / same.sum(dim=1, keepdim=True))
            + F.cross_entropy(logits.T, same.T / same.sum(dim=0)[:, None])
        )
        found = same.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0]
        return LossOutput(loss, {"retrieved": found})
