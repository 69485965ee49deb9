"""Real glyphs in one face, and a comparison of recipes at toy size."""

import pandas as pd
import pytest

from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.loss import DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.diffusion.unet import UNetSettings
from kanji_diffusion.diffusion.vae_loss import VAELossSettings
from kanji_diffusion.glyphs import captioning, captions, dictionary, fonts, render, split
from kanji_diffusion.recipes.glyphs import choose_glyphs, plan_texts, today_texts
from kanji_diffusion.recipes.settings import RecipeSettings
from kanji_diffusion.recipes.training import Today
from kanji_diffusion.recipes.trials import Trials

PARTS = {
    "一": "whole one",
    "人": "whole person",
    "木": "whole tree",
    "火": "whole fire",
    "水": "whole water",
    "山": "whole mountain",
    "休": "whole person tree",
    "林": "whole tree tree",
    "雨": "whole rain",
}
STEPS = {"steps": 4, "batch_size": 8, "learning_rate": 0.003, "warmup_steps": 1, "device": "cpu"}
SAMPLING = {"sampler": "ddim", "steps": 2, "guidance_scale": 1, "batch_size": 32}


@pytest.fixture(scope="session")
def settings():
    return RecipeSettings.model_validate(
        {
            "practices": ["sampling", "renaming"],
            "seeds": 1,
            "glyphs": {"characters": 7, "zero_shot": 2},
            "autoencoder": {"channels": [8, 16], "training": STEPS},
            "unet": {"channels": [8, 16], "training": STEPS},
            "sampling": {
                "original": SAMPLING,
                "improved": SAMPLING | {"guidance_scale": 7.5},
                "today": SAMPLING | {"steps": 1},
                "timed": [],
            },
            "ladder": {"rates": [0.003, 1e9], "steps": 6, "falls_to": 0.999999},
            "today": {"channels": [16, 32], "text_width": 32, "training": STEPS},
        }
    )


@pytest.fixture(scope="session")
def characters(raw_data):
    entries = dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    return dictionary.select_characters(entries, dictionary.CharacterSelection(characters="一人木火水山休林雨"))


@pytest.fixture(scope="session")
def glyphs(raw_data, characters):
    rules = (fonts.FaceRule(pattern="NotoSansCJK-Regular.ttc", style="gothic"),)
    found = fonts.FontSettings(faces=rules)
    faces = fonts.list_faces(raw_data / "fonts", found, characters)
    audit = fonts.audit_glyphs(faces, characters, raw_data / "fonts", found)
    drawn = render.render_glyphs(faces, characters, audit, raw_data / "fonts", render.RenderSettings(size=32))
    return split.split_glyphs(drawn, characters, split.SplitSettings())


@pytest.fixture(scope="session")
def caption_table(characters):
    """Meanings and parts; those of the last three are the parts of others, two of which are told."""
    meanings = captioning.write_captions(characters, ["gothic"], captions.CaptionSettings(short_forms=0))
    parts = [
        {"character": character, "style": "gothic", "form": "parts", "position": 0, "subject": told}
        | {"text": f"{told} (gothic kanji)", "share": 0.5}
        for character, told in PARTS.items()
    ]
    return pd.concat([meanings.assign(share=0.5), pd.DataFrame(parts)], ignore_index=True)


@pytest.fixture(scope="session")
def chosen(glyphs, characters, caption_table, settings):
    return choose_glyphs(glyphs, characters, caption_table, settings.glyphs)


@pytest.fixture
def trials(chosen, caption_table, settings, today):
    """Makes the trials of a folder."""
    texts = {
        False: plan_texts(chosen, "{subject}"),
        True: plan_texts(chosen, settings.values.prompt),
        None: today_texts(chosen, caption_table, captions.CaptionSettings()),
    }
    return lambda folder, settings=settings: Trials(chosen, texts, settings, today, folder)


@pytest.fixture(scope="session")
def today():
    return Today(
        UNetSettings(groups=16),
        TextEncoderSettings(),
        ScheduleSettings(),
        DiffusionLossSettings(),
        0.1,
        vaes.VAESettings(channels=(8, 16), groups=8),
        VAELossSettings(),
        None,
    )
