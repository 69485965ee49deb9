"""Real glyphs: ten characters in one training and one held-out face of each style; and a CLIP model of them."""

import pandas as pd
import pytest
import torch

from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.glyphs import captioning, captions, dictionary, fonts, render, split
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring import clip, clip_training
from kanji_diffusion.scoring.recogniser import RecogniserSettings
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.settings import TrainingSettings

CHARACTERS = "一口日木火水山花雨学"
FACES = {
    "NotoSansCJK-Regular.ttc": "gothic",
    "ipaexm.ttf": "mincho",
    "kouzan-mouhitsu.ttf": "brush",
    "kiloji.ttf": "handwritten",
}
HELD_OUT = {
    "BIZUDGothic-Regular.ttf": "gothic",
    "BIZUDMincho-Regular.ttf": "mincho",
    "YOzRS_.ttf": "handwritten",
}


@pytest.fixture(scope="session")
def glyphs(raw_data) -> pd.DataFrame:
    rules = [fonts.FaceRule(pattern=pattern, style=style) for pattern, style in FACES.items()]
    rules += [fonts.FaceRule(pattern=pattern, style=style, held_out=True) for pattern, style in HELD_OUT.items()]
    settings = fonts.FontSettings(faces=tuple(rules))
    entries = dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    chosen = dictionary.select_characters(entries, dictionary.CharacterSelection(characters=CHARACTERS))
    folder = raw_data / "fonts"
    faces = fonts.list_faces(folder, settings, chosen)
    audit = fonts.audit_glyphs(faces, chosen, folder, settings)
    table = render.render_glyphs(faces, chosen, audit, folder, render.RenderSettings(views=3))
    return split.split_glyphs(table, chosen, split.SplitSettings())


@pytest.fixture(scope="session")
def caption_table(raw_data) -> pd.DataFrame:
    entries = dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    chosen = dictionary.select_characters(entries, dictionary.CharacterSelection(characters=CHARACTERS))
    return captioning.write_captions(chosen, sorted(set(FACES.values())), captions.CaptionSettings())


@pytest.fixture(scope="session")
def scorer(glyphs, caption_table) -> clip.ClipScorer:
    torch.manual_seed(0)
    scorer = clip.build_scorer(clip.ClipSettings(embed_dim=32, width=16), TextEncoderSettings())
    seen = glyphs[glyphs["split"] == "train"]
    texts = caption_table["text"].tolist()
    dataset = clip_training.PairDataset(
        decode_images(seen),
        captions.caption_rows(seen, caption_table),
        texts,
        clip_training.pooled_texts(scorer, texts),
        RecogniserSettings(),
    )
    training = TrainingSettings(
        steps=150, batch_size=48, learning_rate=0.005, warmup_steps=10, ema_decay=0.95, device="cpu"
    )
    train(clip.towers(scorer.model), clip_training.ClipLoss(), dataset, training, name="clip")
    return scorer
