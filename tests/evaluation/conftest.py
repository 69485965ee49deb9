"""Real glyphs in two training faces and one held-out face of each style, and small models trained on them."""

import pandas as pd
import pytest
import torch
from tests.diffusion.conftest import model, text_encoder

from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.evaluation.metrics import SampleMetrics
from kanji_diffusion.evaluation.settings import MetricSettings
from kanji_diffusion.glyphs import captioning, captions, dictionary, fonts, render, split
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring import clip, clip_training
from kanji_diffusion.scoring.recogniser import GlyphDataset, RecogniserLoss, RecogniserSettings, recogniser
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.settings import TrainingSettings

__all__ = ["model", "text_encoder"]

CHARACTERS = "口日木火水山花雨学車糸見"
FACES = {
    "NotoSansCJK-Regular.ttc": ("gothic", False),
    "ipaexg.ttf": ("gothic", False),
    "BIZUDGothic-Regular.ttf": ("gothic", True),
    "kouzan-mouhitsu.ttf": ("brush", False),
    "AoyagiKouzanT.ttf": ("brush", False),
    "aoyagi-soseki.ttf": ("brush", True),
    "kiloji.ttf": ("handwritten", False),
    "setofont.ttf": ("handwritten", False),
    "YOzRS_.ttf": ("handwritten", True),
}
BENT = RecogniserSettings(channels=(16, 32, 48))
SIDE = 32


def _training(steps: int) -> TrainingSettings:
    return TrainingSettings(
        steps=steps, batch_size=32, learning_rate=0.005, warmup_steps=10, ema_decay=0.95, device="cpu"
    )


@pytest.fixture(scope="session")
def entries(raw_data) -> pd.DataFrame:
    return dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")


@pytest.fixture(scope="session")
def chosen(entries) -> pd.DataFrame:
    return dictionary.select_characters(entries, dictionary.CharacterSelection(characters=CHARACTERS))


@pytest.fixture(scope="session")
def font_settings() -> fonts.FontSettings:
    rules = [fonts.FaceRule(pattern=name, style=style, held_out=held) for name, (style, held) in FACES.items()]
    return fonts.FontSettings(faces=tuple(rules))


@pytest.fixture(scope="session")
def faces(raw_data, chosen, font_settings) -> pd.DataFrame:
    return fonts.list_faces(raw_data / "fonts", font_settings, chosen)


@pytest.fixture(scope="session")
def glyphs(raw_data, chosen, faces, font_settings) -> pd.DataFrame:
    folder = raw_data / "fonts"
    audit = fonts.audit_glyphs(faces, chosen, folder, font_settings)
    augment = {"rotation": 4, "shift": 0.03, "scale": (0.93, 1.03), "shear": 3, "weight": (-0.003, 0.005)}
    table = render.render_glyphs(faces, chosen, audit, folder, render.RenderSettings(views=4, augment=augment))
    return split.split_glyphs(table, chosen, split.SplitSettings())


@pytest.fixture(scope="session")
def caption_table(chosen) -> pd.DataFrame:
    return captioning.write_captions(chosen, ["brush", "gothic", "handwritten"], captions.CaptionSettings())


@pytest.fixture(scope="session")
def reader(glyphs):
    seen = glyphs[glyphs["split"] == "train"]
    characters = sorted(CHARACTERS)
    labels = seen["character"].map(characters.index).to_numpy()
    torch.manual_seed(0)
    dataset = GlyphDataset(decode_images(seen), labels, BENT)
    return train(recogniser(BENT, characters), RecogniserLoss(BENT), dataset, _training(120), name="recogniser")


@pytest.fixture(scope="session")
def scorer(glyphs, caption_table):
    seen = glyphs[glyphs["split"] == "train"]
    torch.manual_seed(0)
    settings = clip.ClipSettings(image_size=SIDE, embed_dim=64, width=16)
    model = clip.build_scorer(settings, TextEncoderSettings(source="bundled", max_length=16))
    dataset = clip_training.PairDataset(
        clip_pictures(seen),
        captions.caption_rows(seen, caption_table),
        seen.groupby(["character", "style"]).ngroup().to_numpy(),
        clip_training.pooled_texts(model, caption_table["text"].tolist()),
        BENT,
    )
    train(clip.towers(model.model), clip_training.ClipLoss(), dataset, _training(80), name="clip")
    return model


def clip_pictures(glyphs: pd.DataFrame):
    images = decode_images(glyphs).reshape(-1, SIDE, 64 // SIDE, SIDE, 64 // SIDE)
    return images.mean(axis=(2, 4)).round().astype("uint8")


@pytest.fixture(scope="session")
def sample_metrics(glyphs, caption_table, reader, scorer) -> SampleMetrics:
    return SampleMetrics(glyphs, caption_table, reader, scorer, MetricSettings())


@pytest.fixture(scope="session")
def real_samples(glyphs, caption_table):
    """Augmented views of every glyph of the unseen faces, as if they had been sampled from its caption."""
    held = glyphs[(glyphs["split"] == "validation") & glyphs["view"].isin((1, 2))].reset_index(drop=True)
    long = caption_table.loc[caption_table["form"] == "long", ["character", "style", "text"]]
    rows = held[["character", "style"]].merge(long, on=["character", "style"]).rename(columns={"text": "prompt"})
    return rows, decode_images(held)
