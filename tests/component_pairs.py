"""Characters of two parts side by side, their glyphs, and a component recogniser trained on them."""

from pathlib import Path

import numpy as np
import pandas as pd

from kanji_diffusion.glyphs import dictionary, fonts, render
from kanji_diffusion.glyphs.compositions import Compositions, composition_table
from kanji_diffusion.glyphs.kanjivg import Composition
from kanji_diffusion.glyphs.naming import name_components
from kanji_diffusion.scoring.component_training import train_component_recogniser
from kanji_diffusion.scoring.components import ComponentRecogniser, ComponentSettings
from kanji_diffusion.training.settings import TrainingSettings

LEFT, RIGHT = "水木言人", "毎寺工主可由"
PAIRS = {
    "海": "水毎", "江": "水工", "注": "水主", "河": "水可", "油": "水由",
    "梅": "木毎", "杠": "木工", "柱": "木主", "柯": "木可", "柚": "木由",
    "誨": "言毎", "詩": "言寺", "訌": "言工", "註": "言主", "訶": "言可",
    "侮": "人毎", "侍": "人寺", "住": "人主", "何": "人可",
}  # fmt: skip
UNSEEN = "柱訌何"
WHOLES = "水木言人工主由"
TRAINING_FACES = {
    "NotoSansCJK-Regular.ttc": "gothic",
    "ipaexg.ttf": "gothic",
    "ipaexm.ttf": "mincho",
    "NotoSerifCJK-Regular.ttc": "mincho",
}
HELD_OUT = {"BIZUDGothic-Regular.ttf": "gothic", "BIZUDMincho-Regular.ttf": "mincho"}
SETTINGS = ComponentSettings(
    side=32, channels=(16, 32, 48), depths=(1, 1, 1), fewest=2, fewest_in_slot=4, checked=100, unseen_share=0
)


def pair(left: str, right: str) -> Composition:
    return Composition(None, None, "⿰", (Composition(left, left), Composition(right, right)))


def tables(raw_data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compositions and component names; each part is the left one of some characters or the right one of others."""
    drawn = {
        character: Composition(character, character, "⿰", pair(*parts).parts) for character, parts in PAIRS.items()
    } | {character: Composition(character, character) for character in WHOLES}
    return composition_table(drawn), name_components(drawn, dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz"))


def draw(raw_data: Path, built: Compositions) -> pd.DataFrame:
    """Every character in every face, those of `UNSEEN` as the part "test" of the split."""
    rules = [fonts.FaceRule(pattern=pattern, style=style) for pattern, style in TRAINING_FACES.items()]
    rules += [fonts.FaceRule(pattern=pattern, style=style, held_out=True) for pattern, style in HELD_OUT.items()]
    settings = fonts.FontSettings(faces=tuple(rules))
    entries = dictionary.read_kanjidic2(raw_data / "kanjidic2.xml.gz")
    chosen = entries[[character in built for character in entries["character"]]]
    folder = raw_data / "fonts"
    faces = fonts.list_faces(folder, settings, chosen)
    audit = fonts.audit_glyphs(faces, chosen, folder, settings)
    table = render.render_glyphs(faces, chosen, audit, folder, render.RenderSettings(size=SETTINGS.side))
    unseen = table["character"].isin(list(UNSEEN))
    return table.assign(split=np.where(unseen, "test", np.where(table["held_out"], "validation", "train")))


def train(glyphs: pd.DataFrame, images: np.ndarray, built: Compositions) -> ComponentRecogniser:
    """A recogniser that is good enough to be checked."""
    training = TrainingSettings(
        steps=140, batch_size=32, learning_rate=0.005, warmup_steps=10, decay="cosine", ema_decay=0.95, device="cpu"
    )
    return train_component_recogniser(glyphs, images, built, SETTINGS, training)
