"""An adapter is trained in place of the UNet's weights, and what it exports is what stock diffusers reads."""

import signal
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline
from tests.hub_models import SCHEDULE, UNET, WIDTH, hub_folder, stock_picture
from tests.training.conftest import Points, run_name

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.errors import KanjiDiffusionError, TrainingInterrupted
from kanji_diffusion.diffusion.latents import CaptionDropoutSettings
from kanji_diffusion.diffusion.lora import FILE, Adapter, LoraSettings, attach, detach, require_peft
from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.diffusion.unet import UNetSettings, earlier_unet, text_unet
from kanji_diffusion.diffusion.vae import pretrained_autoencoder
from kanji_diffusion.pipelines.train_unet import nodes
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.sampler import DrawingSettings, SamplingSettings, draw
from kanji_diffusion.training.checkpoint import load_checkpoint
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import NullTracker

__all__ = ["hub_folder"]

LORA = LoraSettings(rank=4, alpha=6, target_modules=("to_q", "to_v", "conv1"))
SETTINGS = DrawingSettings(sampler="plms", steps=4, guidance_scale=3.0, batch_size=1, device="cpu")
TEXTS = ["water (brush kanji)", "fire (brush kanji)"]


def base(folder):
    return earlier_unet(folder, text_unet(UNetSettings(**UNET), 4, 8, WIDTH))


def weights(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def train_stage(hub_folder, tmp_path):
    """Trains a stage of four steps on noise, with or without an adapter."""
    numbers = np.random.default_rng(0)
    latents = {name: numbers.random((2, 4, 8, 8), dtype=np.float32) for name in ("mean", "std")}
    latents |= {"captions": np.array([[1], [2]]), "shares": np.ones((2, 1), np.float32)}
    states = {"states": numbers.random((3, 7, WIDTH), dtype=np.float32)}
    captions = pd.DataFrame(
        {"character": ["水", "火"], "style": "brush", "form": "long", "text": TEXTS, "position": 0, "share": 1.0}
    )
    vae = pretrained_autoencoder(str(hub_folder), published_scale=True)

    def run(lora=LORA, adapter=None, name="one", start=None, loss=None, **training):
        settings = {"steps": 4, "batch_size": 2, "learning_rate": 0.02, "checkpoint_every": 2, "device": "cpu"}
        # With it checkpointed activations are computed again in other kernels, if the loop does not see to it.
        settings["precision"] = "bfloat16"
        return nodes.train_stage(
            latents=latents | {"repeats": np.ones(2, np.int64)},
            caption_states=states,
            captions=captions,
            start=start or base(hub_folder),
            vae=vae,
            stage=nodes.StageSettings(
                resolution=64,
                gradient_checkpointing=True,
                training=TrainingSettings(**settings | training),
                live_prompts=1,
                sampling=SamplingSettings(steps=1),
            ),
            schedule=SCHEDULE,
            loss=DiffusionLossSettings(),
            dropout=CaptionDropoutSettings(),
            cluster=ClusterSettings(),
            tracker=NullTracker(),
            checkpoints=tmp_path / "checkpoints",
            name=name,
            settings=UNetSettings(**UNET, start=str(hub_folder), lora=lora),
            adapter=adapter,
        )

    return run


def test_a_checkpoint_holds_the_adapter_and_nothing_else(train_stage, hub_folder, tmp_path):
    unet, adapter = train_stage(sheet_every=2)
    (folder,) = (tmp_path / "checkpoints").glob("unet_one/*/step_00000004")
    found = load_checkpoint(folder).tensors
    for group in ("module", "ema"):
        assert {name.replace(".default", "") for name in found[group]} == set(adapter.tensors)
    assert {name.partition("/")[2].replace(".default", "") for name in found["optimizer"]} == set(adapter.tensors)
    averaged = {name.replace(".default", ""): value for name, value in found["ema"].items()}
    assert same(averaged, adapter.tensors) and not same(found["ema"], found["module"])
    # A plain UNet, of which the targets alone have changed.
    before, after = weights(base(hub_folder)), weights(unet)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.removesuffix(".weight").endswith(("to_q", "to_v", "conv1"))}


def test_a_training_that_was_stopped_ends_with_the_same_adapter(train_stage, monkeypatch):
    straight = train_stage(name="straight")[1]
    call, calls = DiffusionLoss.__call__, []

    def stopping(self, *given):
        calls.append(given)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return call(self, *given)

    monkeypatch.setattr(DiffusionLoss, "__call__", stopping)
    with pytest.raises(TrainingInterrupted, match="stopped at step 3 of 4"):
        train_stage(name="stopped")
    assert same(train_stage(name="stopped")[1].tensors, straight.tensors)
    assert len(calls) == 4


def test_all_weights_are_trained_by_the_same_settings(train_stage, hub_folder):
    before, after = weights(base(hub_folder)), weights(train_stage(lora=None))
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_weights_of_the_base_and_settings_of_the_adapter_make_another_run(hub_folder):
    def run_of(unet, lora=LORA):
        torch.manual_seed(0)
        attach(unet, lora)
        return run_name(unet, Points(), TrainingSettings(steps=1, batch_size=1, learning_rate=1, device="cpu"))

    first, other = run_of(base(hub_folder)), base(hub_folder)
    assert run_of(base(hub_folder)) == first
    with torch.no_grad():
        other.conv_in.bias += 1
    runs = {run_of(other), first}
    changes = {"rank": 2, "alpha": 3.0, "target_modules": ("to_q",), "merge": False}
    assert changes.keys() == LoraSettings.model_fields.keys()
    runs |= {run_of(base(hub_folder), LORA.model_copy(update={name: value})) for name, value in changes.items()}
    # Where the adapter goes afterwards is no matter of training.
    assert len(runs) == 5


def test_a_stage_continues_the_adapter_of_the_one_before(train_stage, hub_folder):
    _, first = train_stage(name="first")
    unet, second = train_stage(name="second", adapter=first, steps=1)
    assert not same(first.tensors, second.tensors)
    # It is of the same base still, and holds what the first had learnt.
    torch.testing.assert_close(second.tensors, first.tensors, rtol=0, atol=0.05)
    again = base(hub_folder)
    attach(again, LORA, second)
    detach(again)
    assert same(weights(again), weights(unet))


def test_stock_diffusers_draws_with_the_exported_adapter_what_we_draw(train_stage, hub_folder, tmp_path):
    unet, adapter = train_stage(learning_rate=0.2)
    adapter.save_pretrained(tmp_path / "adapter")
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == [FILE] == ["pytorch_lora_weights.safetensors"]
    stock = StableDiffusionPipeline.from_pretrained(hub_folder, safety_checker=None)
    bare = stock_picture(stock, TEXTS[0], 5, SETTINGS)
    stock.load_lora_weights(tmp_path / "adapter")
    adapted = stock_picture(stock, TEXTS[0], 5, SETTINGS)
    assert np.abs(adapted - bare).max() > 5

    vae = pretrained_autoencoder(str(hub_folder), published_scale=True)
    text = TextEncoderSettings(source=str(hub_folder), max_length=77)
    for merge in (True, False):
        folder = tmp_path / f"merged_{merge}"
        nodes.assemble_model(
            unet,
            vae,
            text,
            SCHEDULE,
            SamplingSettings(sampler="plms"),
            architecture=UNetSettings(**UNET, start=str(hub_folder), lora=LORA.model_copy(update={"merge": merge})),
            start=base(hub_folder),
            adapter=adapter,
        ).save_pretrained(folder)
        (drawn,) = draw(TextToKanji.from_pretrained(folder).pipeline, TEXTS[:1], [5], SETTINGS)
        assert np.abs(drawn - adapted).max() <= 1
        # To stock diffusers the adapter is in the folder's UNet, or beside it.
        assert (folder / FILE).is_file() == (not merge)
        exported = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
        if not merge:
            assert np.array_equal(bare, stock_picture(exported, TEXTS[0], 5, SETTINGS))
            exported.load_lora_weights(folder)
        assert np.abs(drawn - stock_picture(exported, TEXTS[0], 5, SETTINGS)).max() <= 1


def test_an_adapter_survives_its_folder(hub_folder, tmp_path):
    unet = base(hub_folder)
    attach(unet, LORA)
    adapter = detach(unet)
    adapter.save_pretrained(tmp_path / "one")
    found = Adapter.from_pretrained(tmp_path / "one")
    assert same(found.tensors, adapter.tensors)
    assert found.config["lora_alpha"] == 6 and found.config["target_modules"] == ["conv1", "to_q", "to_v"]
    with pytest.raises(OSError):
        Adapter.from_pretrained(tmp_path)


@pytest.mark.parametrize("changes", [{"rank": 8}, {"alpha": None}, {"target_modules": ("to_q",)}])
def test_another_adapter_is_not_continued(hub_folder, changes):
    unet = base(hub_folder)
    attach(unet, LORA)
    with pytest.raises(KanjiDiffusionError, match="of the stage before has another rank, scale or other targets"):
        attach(base(hub_folder), LORA.model_copy(update=changes), detach(unet))


def test_without_peft_a_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(KanjiDiffusionError, match=r'needs the package peft.*"kanji-diffusion\[lora\]"'):
        require_peft()
