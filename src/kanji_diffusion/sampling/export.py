"""The finished model as a plain diffusers folder, loadable without this project."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.fingerprint import fingerprint, tensors_fingerprint
from kanji_diffusion.diffusion.lora import FILE as ADAPTER
from kanji_diffusion.diffusion.lora import Adapter, require_peft
from kanji_diffusion.diffusion.pretrained import weights_variant
from kanji_diffusion.diffusion.schedule import PROCESS, ScheduleSettings, sampler, training_schedule
from kanji_diffusion.diffusion.text import BUNDLED, TextEncoder, TextEncoderSettings, load_text_encoder
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.sampling.sampler import is_distilled

# Which text encoder a released model is loaded with.
_TEXT = "text_encoder.json"
_PLANNER = "planner"
# Styles that were learnt after the training.
_STYLES = "styles.json"
_CARD = "README.md"
_FEW_STEPS = """---
library_name: diffusers
pipeline_tag: text-to-image
---
# Kanji in one or two steps

A `StableDiffusionPipeline` whose UNet was distilled: it draws in one step or in two, and without guidance, whose
effect it has learnt. A guidance scale above 1 spoils its pictures.

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("this folder", safety_checker=None)
pipeline("sea: left water, right every (brush kanji)", num_inference_steps=2, guidance_scale=1).images[0]
```
"""


@dataclass(frozen=True)
class TextToKanji:
    """The finished model: what draws, and what turns a prompt into the composition that is drawn.

    Attributes:
        pipeline: A stock pipeline, which takes full prompts.
        planner: None for a model that was trained without compositions, and draws the prompt as it is.
        adapter: What is to be added to the pipeline's UNet; None if it is there already, or never was.
        styles: Those that it learnt by adaptation; each is its own word in captions.
    """

    pipeline: StableDiffusionPipeline
    planner: Planner | None = None
    adapter: Adapter | None = None
    styles: tuple[str, ...] = ()

    def captions(self, settings: CaptionSettings) -> CaptionSettings:
        """`settings` with the styles of this model beside those that they name."""
        return settings.model_copy(update={"styles": settings.styles | {style: style for style in self.styles}})

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that diffusers loads as a pipeline.

        The planner, if there is one, goes to `planner/`; an adapter to `pytorch_lora_weights.safetensors`, which
        `load_lora_weights` of that pipeline reads. A distilled model has a `README.md` that says how to call it.
        """
        self.pipeline.save_pretrained(folder)
        self._save_beside(Path(folder))

    def _save_beside(self, folder: Path) -> None:
        if self.adapter:
            self.adapter.save_pretrained(folder)
        if self.planner:
            self.planner.save_pretrained(folder / _PLANNER)
        if is_distilled(self.pipeline):
            (folder / _CARD).write_text(_FEW_STEPS, encoding="utf-8")
        if self.styles:
            (folder / _STYLES).write_text(json.dumps(self.styles), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> TextToKanji:
        """What `save_pretrained` or `save_released` wrote, or any other folder of a `StableDiffusionPipeline`.

        Only safetensors weights are read, full ones if there are, else those in half precision (`*.fp16.safetensors`);
        so that a safety checker or weights in other formats may lie beside them. An adapter is merged into the UNet.

        Raises:
            KanjiDiffusionError: If it holds another pipeline, or none that is whole.
        """
        source = Path(folder)
        try:
            kind = StableDiffusionPipeline.load_config(source).get("_class_name")
            if kind != StableDiffusionPipeline.__name__:
                raise KanjiDiffusionError(
                    f"{source} holds a {kind}: name the folder of a StableDiffusionPipeline, such as `text_to_kanji`."
                )
            pipeline = StableDiffusionPipeline.from_pretrained(
                source,
                torch_dtype=torch.float32,
                use_safetensors=True,
                variant=weights_variant(source),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
                **_bundled_text(source),
            )
            if (source / ADAPTER).is_file():
                require_peft()
                pipeline.load_lora_weights(source, weight_name=ADAPTER, local_files_only=True)
                pipeline.fuse_lora()
                pipeline.unload_lora_weights()
            taken, made = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
            if taken != made:
                raise ValueError(f"its UNet takes latents of {taken} channels, but its autoencoder makes {made}")
        except (OSError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise KanjiDiffusionError(
                f"The model in {source} cannot be read ({reason}): bring its files back, or name the folder of another "
                "StableDiffusionPipeline with safetensors weights."
            ) from error
        planner = Planner.from_pretrained(source / _PLANNER) if (source / _PLANNER).is_dir() else None
        return cls(pipeline, planner, styles=_styles(source))


def planner_of(model: TextToKanji) -> Planner:
    """The planner of a model.

    Raises:
        KanjiDiffusionError: If it has none, and so does not tell its characters.
    """
    if model.planner is None:
        raise KanjiDiffusionError(
            "This model was trained without compositions and does not tell which characters it knows: name one that "
            "has a folder `planner` in the parameter `model`."
        )
    return model.planner


def assemble(
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text: TextEncoder,
    schedule: ScheduleSettings,
    sampler_name: str,
) -> StableDiffusionPipeline:
    """Put the parts together as a `StableDiffusionPipeline`.

    Args:
        vae: With folded latent statistics.
        unet: The last stage's averaged weights.
        text: Tokenizer and text model that the UNet was trained with.
        schedule: The diffusion process of training.
        sampler_name: The sampler that the folder is saved with; any other can be set after loading.

    Raises:
        KanjiDiffusionError: If the sampler is unknown or does not suit the schedule.
    """
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text.model,
        tokenizer=text.tokenizer,
        unet=unet,
        scheduler=sampler(sampler_name, training_schedule(schedule)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def model_fingerprint(model: StableDiffusionPipeline) -> str:
    """Sixteen hexadecimal digits that change whenever a weight or the diffusion process of `model` changes."""
    weights = {name: tensors_fingerprint(getattr(model, name).state_dict()) for name in ("text_encoder", "unet", "vae")}
    process = {key: model.scheduler.config.get(key) for key in (*PROCESS, "rescale_betas_zero_snr")}
    return fingerprint(weights | process)


def save_released(model: TextToKanji, folder: Path) -> None:
    """Save a model to be shipped, in half precision.

    The bundled text encoder, the one BERT that the project knows, is left out: its own package ships it.

    Args:
        model: A finished model.
        folder: Where `TextToKanji.from_pretrained` will find it.
    """
    pipeline = model.pipeline
    bundled = pipeline.text_encoder.config.model_type == "bert"
    for name in ("unet", "vae") if bundled else ("unet", "vae", "text_encoder"):
        copy.deepcopy(getattr(pipeline, name)).half().save_pretrained(folder / name)
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    pipeline.save_config(folder)
    model._save_beside(folder)
    if bundled:
        text = TextEncoderSettings(source=BUNDLED, max_length=pipeline.tokenizer.model_max_length)
        (folder / _TEXT).write_text(text.model_dump_json())
    else:
        pipeline.tokenizer.save_pretrained(folder / "tokenizer")
    for path in folder.rglob("*.json"):
        # Where the parts were loaded from is nobody's business.
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            content.pop("_name_or_path", None)
        path.write_text(json.dumps(content, indent=2) + "\n")


def lacks_text_encoder(folder: Path) -> bool:
    """Whether `save_released` left the bundled text encoder out of this folder."""
    return (folder / _TEXT).is_file()


def _styles(folder: Path) -> tuple[str, ...]:
    path = folder / _STYLES
    styles = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    if not isinstance(styles, list) or not all(isinstance(style, str) for style in styles):
        raise KanjiDiffusionError(f"{path} is no list of styles: bring the file back, or adapt the model anew.")
    return tuple(styles)


def _bundled_text(folder: Path) -> dict[str, Any]:
    """The parts of a pipeline that `save_released` left out of this folder."""
    if not lacks_text_encoder(folder):
        return {}
    text = load_text_encoder(TextEncoderSettings(**json.loads((folder / _TEXT).read_text())))
    return {"text_encoder": text.model, "tokenizer": text.tokenizer}
