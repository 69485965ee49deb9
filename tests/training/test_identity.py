"""A run is continued by one that would end with the same bits, and by no other."""

import copy
import inspect
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from diffusers.models.attention_processor import AttnProcessor
from tests.training import toy_identity
from tests.training.conftest import Points, SquareLoss, run_name
from torch import nn
from transformers import BertConfig, BertModel, PreTrainedModel

import kanji_diffusion
from kanji_diffusion.core import hardware
from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.fingerprint import tensors_fingerprint
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.diffusion.vae import VAESettings, autoencoder
from kanji_diffusion.scoring.recogniser import RecogniserSettings, recogniser
from kanji_diffusion.training import identity, launch
from kanji_diffusion.training.identity import module_identity
from kanji_diffusion.training.settings import TrainingSettings


def small_unet(**changes):
    torch.manual_seed(0)
    settings = {"channels": (32, 64), "cross_attention": (False, True), "groups": 16}
    return text_unet(UNetSettings(**settings | changes), 4, 8, 64)


def small_bert(**changes):
    torch.manual_seed(0)
    settings = {
        "vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    }  # fmt: skip
    return BertModel(BertConfig(**settings | changes))


def both(unet, text):
    return nn.ModuleDict({"unet": unet, "parts": nn.ModuleList([nn.Linear(2, 2), text])})


class Holder(nn.Module):
    """A module without a configuration, whose settings are what it is given."""

    def __init__(self, **settings):
        super().__init__()
        vars(self).update(settings)


@dataclass(slots=True)
class Slotted:
    rate: float


class Scaled(nn.Module):
    """Has one tensor that a state dict leaves out."""

    def __init__(self, scale):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale), persistent=False)


def frozen(module):
    return module.requires_grad_(False)


def tied(module):
    module[1].weight = module[0].weight
    return module


def linears():
    return nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(2)))


def with_processor(processor):
    unet = small_unet()
    unet.set_attn_processor(processor)
    return unet


def zeroed(module):
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


# Pairs whose tensors have the same names, shapes and, all being 0, values.
ONE_SETTING_APART = {
    "dropout": lambda: (nn.Dropout(0.1), nn.Dropout(0.2)),
    "class": lambda: (nn.SiLU(), nn.GELU()),
    "option of an activation": lambda: (nn.GELU(), nn.GELU(approximate="tanh")),
    "slope": lambda: (nn.LeakyReLU(0.2), nn.LeakyReLU(0.1)),
    "groups": lambda: (nn.GroupNorm(2, 8), nn.GroupNorm(4, 8)),
    "eps": lambda: (nn.GroupNorm(2, 8, eps=1e-5), nn.GroupNorm(2, 8, eps=1e-6)),
    "stride": lambda: (nn.Conv2d(2, 2, 3, stride=1), nn.Conv2d(2, 2, 3, stride=2)),
    "padding": lambda: (nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding="same")),
    "dilation": lambda: (nn.Conv2d(2, 2, 3, dilation=1), nn.Conv2d(2, 2, 3, dilation=2)),
    "heads": lambda: (nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 4)),
    "a part": lambda: (nn.Sequential(nn.Sequential(nn.Dropout(0.1))), nn.Sequential(nn.Sequential(nn.Dropout(0.2)))),
    "order of the parts": lambda: (nn.Sequential(nn.SiLU(), nn.Tanh()), nn.Sequential(nn.Tanh(), nn.SiLU())),
    "frozen": lambda: (nn.Linear(2, 2), frozen(nn.Linear(2, 2))),
    "shared": lambda: (linears(), tied(linears())),
    "a tensor outside of the state": lambda: (Scaled(1.0), Scaled(2.0)),
    "a tensor that is an attribute": lambda: (Holder(scale=torch.ones(2)), Holder(scale=torch.zeros(2))),
    "an array": lambda: (Holder(scale=np.ones(2)), Holder(scale=np.zeros(2))),
    "a private attribute": lambda: (Holder(_scale=1.0), Holder(_scale=2.0)),
    "a function": lambda: (Holder(act=F.silu), Holder(act=F.gelu)),
    "an argument of a function": lambda: (Holder(act=partial(F.gelu, x=1)), Holder(act=partial(F.gelu, x=2))),
    "an object": lambda: (Holder(own=Slotted(0.1)), Holder(own=Slotted(0.2))),
    "parameters": lambda: (Holder(own=UNetSettings(layers=1)), Holder(own=UNetSettings(layers=2))),
    "a module in a list": lambda: (Holder(own=[nn.Dropout(0.1)]), Holder(own=[nn.Dropout(0.2)])),
    "dtype": lambda: (Holder(own=torch.float32), Holder(own=torch.bfloat16)),
    "heads of a UNet": lambda: (small_unet(heads=4), small_unet(heads=8)),
    "attention of a UNet": lambda: (small_unet(), with_processor(AttnProcessor())),
    "heads of a BERT": lambda: (small_bert(), small_bert(num_attention_heads=8)),
    "dropout of a BERT": lambda: (small_bert(), small_bert(hidden_dropout_prob=0.2)),
    "attention of a BERT": lambda: (small_bert(), small_bert(attn_implementation="eager")),
    "heads of a UNet among parts": lambda: (both(small_unet(), small_bert()), both(small_unet(heads=8), small_bert())),
    "dropout of a BERT among parts": lambda: (
        both(small_unet(), small_bert()),
        both(small_unet(), small_bert(attention_probs_dropout_prob=0.2)),
    ),
}


@pytest.mark.parametrize("make", ONE_SETTING_APART.values(), ids=ONE_SETTING_APART)
def test_modules_that_differ_in_a_setting_without_a_tensor_are_two(make):
    first, second = map(zeroed, make())
    assert tensors_fingerprint(first.state_dict()) == tensors_fingerprint(second.state_dict())
    assert module_identity(first) != module_identity(second)
    assert module_identity(first) == module_identity(copy.deepcopy(first))


def test_a_weight_counts():
    module = linears()
    before = module_identity(module)
    with torch.no_grad():
        module[1].weight[0, 0] += 1
    assert module_identity(module) != before


MODELS = {
    "UNet": small_unet,
    "autoencoder": lambda: autoencoder(VAESettings(channels=(8, 16), groups=8), 16),
    "recogniser": lambda: recogniser(RecogniserSettings(channels=(8, 16)), "水火"),
    "BERT": small_bert,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_where_a_model_was_loaded_from_does_not_count(make, tmp_path):
    model = make().eval()
    before = module_identity(model)
    for name in ("here", "there"):
        model.save_pretrained(tmp_path / name)
        loaded = type(model).from_pretrained(tmp_path / name)
        assert module_identity(loaded) == before
    if isinstance(model, PreTrainedModel):
        # What saving notes in the model's own configuration does not count either.
        assert module_identity(model) == before


def test_what_only_saves_memory_or_comes_with_training_does_not_count():
    unet = small_unet()
    before = module_identity(unet)
    unet.enable_gradient_checkpointing()
    unet.train().to(memory_format=torch.channels_last)
    assert module_identity(unet) == before
    unet(torch.randn(1, 4, 8, 8), 3, torch.randn(1, 5, 64)).sample.sum().backward()
    assert module_identity(unet) == before


# A changed value for every field; None for one that has no effect on what a run ends with.
TRAINING = {
    "steps": 70,
    "batch_size": 16,
    "accumulate": 2,
    "learning_rate": 0.06,
    "warmup_steps": 6,
    "decay": "cosine",
    "weight_decay": 0.1,
    "optimizer": "muon",
    "betas": (0.8, 0.99),
    "clip_norm": 2.0,
    "ema_decay": 0.9,
    "seed": 1,
    "precision": "bfloat16",
    "compile": "on",
    "device": None,
    "report_every": None,
    "sheet_every": None,
    "checkpoint_every": None,
    "max_skipped": None,
}


@pytest.mark.parametrize("field", TrainingSettings.model_fields)
def test_every_setting_of_training_counts_or_has_no_effect(line, field):
    module, dataset, settings = line()
    if TRAINING[field] is not None:
        assert run_name(*line(**{field: TRAINING[field]})) != run_name(module, dataset, settings)
    else:
        value = {"device": "auto"}.get(field, 17)
        assert run_name(*line(**{field: value})) == run_name(module, dataset, settings)


def test_data_loss_and_code_count(line, monkeypatch):
    class Other(SquareLoss):
        def fingerprint(self):
            return "others"

    module, dataset, settings = line()
    first = run_name(module, dataset, settings)
    assert first != run_name(module, Points(40), settings)
    assert first != run_name(module, dataset, settings, Other())
    monkeypatch.setattr(identity, "CODE_VERSION", identity.CODE_VERSION + 1)
    assert first != run_name(module, dataset, settings)


def test_the_precision_counts_that_the_device_computes_in(line, monkeypatch):
    names = {}
    for fast in (True, False):
        monkeypatch.setattr(hardware, "_cpu_has_fast_bfloat16", lambda fast=fast: fast)
        for precision in ("auto", "float32", "bfloat16"):
            names[fast, precision] = run_name(*line(precision=precision))
    assert names[True, "auto"] == names[True, "bfloat16"] == names[False, "bfloat16"]
    assert names[False, "auto"] == names[False, "float32"] == names[True, "float32"]
    assert names[True, "auto"] != names[False, "auto"]


@pytest.mark.parametrize("library", ["torch", "diffusers", "transformers", "open_clip_torch"])
def test_the_version_of_a_library_counts(line, monkeypatch, library):
    first, installed = run_name(*line()), identity.version
    if library == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9.9")
    else:
        monkeypatch.setattr(identity, "version", lambda name: "9.9.9" if name == library else installed(name))
    assert run_name(*line()) != first


def test_the_workers_share_one_precision(line, monkeypatch):
    on_cpus, on_gpus = ClusterSettings(workers=2), ClusterSettings(workers=2, gpus_per_worker=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for fast, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(hardware, "_cpu_has_fast_bfloat16", lambda fast=fast: fast)
        for asked, given in (("auto", precision), ("float32", "float32"), ("bfloat16", "bfloat16")):
            shared = launch.for_workers(line(precision=asked)[2], on_cpus)
            assert (shared.device, shared.precision) == ("cpu", given)
    for asked, given in (("auto", "bfloat16"), ("float32", "float32")):
        shared = launch.for_workers(line(precision=asked)[2], on_gpus)
        assert (shared.device, shared.precision) == ("cuda", given)


def test_comments_and_docstrings_count_for_nothing_in_any_process(tmp_path):
    package = Path(kanji_diffusion.__file__).parent
    changed = shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in changed.rglob("*.py"):
        source = path.read_text().replace('"""', '"""Another word. ', 1)
        path.write_text(f"# A comment.\n\n{source}\n\n\n# Another.\n")
    script = "import toy, kanji_diffusion; print(kanji_diffusion.__file__, toy.run_of_a_unet())"
    (tmp_path / "toy.py").write_text(inspect.getsource(toy_identity))
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(changed / "__init__.py"), toy_identity.run_of_a_unet()]
