"""The pipeline train_vae: whatever its origin, an autoencoder that loses strokes goes no further."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image
from tests.scoring.conftest import CHARACTERS, glyphs  # noqa: F401 - a fixture

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.fingerprint import tensors_fingerprint
from kanji_diffusion.datasets import ImageSheetDataset, ModelFolderDataset, ReportDataset
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.gate import GateSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.diffusion.vae_loss import FinishSettings, VAELossSettings
from kanji_diffusion.pipelines.train_vae import create_pipeline, nodes
from kanji_diffusion.pipelines.train_vae.nodes import Crop
from kanji_diffusion.scoring.clip import ClipSettings, build_scorer
from kanji_diffusion.scoring.recogniser import RecogniserSettings, recogniser
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import NullTracker


@pytest.fixture(scope="module")
def clip_model():
    return build_scorer(ClipSettings(image_size=32, embed_dim=16, width=8), TextEncoderSettings())


@pytest.fixture
def run(glyphs, clip_model, tmp_path):  # noqa: F811
    """Runs the pipeline on real glyphs, for ten steps of training, and gives its catalog."""

    def call(model=None, loss=None, finish=None, **gate):
        torch.manual_seed(0)
        given = {
            "glyphs": glyphs,
            "selected_glyphs": glyphs.loc[glyphs["split"] == "train", ["glyph_id"]],
            "clip_model": clip_model,
            "recogniser": recogniser(RecogniserSettings(channels=(8, 16)), sorted(CHARACTERS)).eval(),
            "tracker": NullTracker(),
            "checkpoints": tmp_path / "checkpoints",
            "params:vae.model": vaes.VAESettings(**{"channels": (8, 16), "groups": 8} | (model or {})),
            "params:vae.loss": VAELossSettings(**loss or {}),
            "params:vae.training": TrainingSettings(steps=10, batch_size=8, learning_rate=0.003, device="cpu"),
            "params:vae.finish": finish,
            "params:vae.crop": Crop(16),
            "params:vae.gate": GateSettings(**gate),
            "params:cluster": ClusterSettings(),
        }
        made = {
            "vae": ModelFolderDataset(filepath=f"{tmp_path}/vae", class_path="diffusers.AutoencoderKL"),
            "vae_report": ReportDataset(filepath=f"{tmp_path}/report.json"),
            "reconstruction_sheet": ImageSheetDataset(filepath=f"{tmp_path}/sheet.png"),
            "vae_gate": ReportDataset(filepath=f"{tmp_path}/gate.json"),
        }
        catalog = DataCatalog({name: MemoryDataset(value, copy_mode="assign") for name, value in given.items()} | made)
        SequentialRunner().run(create_pipeline(), catalog)
        return catalog

    return call


def test_the_gate_stops_an_autoencoder_that_was_trained_for_ten_steps(run, tmp_path):
    with pytest.raises(KanjiDiffusionError, match=r"did not pass its gate: stroke overlap is 0\.\d+ \(at least 0\.95"):
        run()
    assert not (tmp_path / "gate.json").exists()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["stroke_overlap"] < 0.95
    assert 1 <= report["latent_channels"] <= 4
    assert set(report["style"]) == {"gothic", "mincho", "handwritten"}
    assert {"1 to 4", "5 to 8"} <= set(report["stroke_count"])
    assert np.asarray(Image.open(tmp_path / "sheet.png")).std() > 0


def test_what_passes_the_gate_is_named_by_its_fingerprint(run, tmp_path):
    catalog = run(stroke_overlap=0, holes_agree=0, reading_loss=1)
    gate = catalog.load("vae_gate")
    assert gate["vae"] == tensors_fingerprint(catalog.load("vae").state_dict())
    assert gate["thresholds"]["stroke_overlap"] == 0


def test_latent_channels_that_a_strong_divergence_empties_are_left_out(run):
    passing = {"stroke_overlap": 0, "holes_agree": 0, "reading_loss": 1}
    vae = run(model={"latent_channels": 6}, loss={"kl": 1.0}, **passing).load("vae")
    assert vae.config.latent_channels < 6


def test_the_decoder_is_finished_on_whole_glyphs(run, glyphs, tmp_path):  # noqa: F811
    passing = {"stroke_overlap": 0, "holes_agree": 0, "reading_loss": 1}
    finish = FinishSettings(steps=30, batch_size=8, learning_rate=0.003, device="cpu")
    plain = run(**passing).load("vae")
    shutil.move(tmp_path, tmp_path.with_name("plain"))
    finished = run(**passing, finish=finish).load("vae")
    assert torch.equal(plain.encoder.conv_in.weight, finished.encoder.conv_in.weight)
    assert not torch.equal(plain.decoder.conv_in.weight, finished.decoder.conv_in.weight)
    held = nodes.decode_images(glyphs[glyphs["held_out"]])
    errors = []
    for vae in (plain, finished):
        latents, _ = vaes.encode(vae, held)
        decoded = vaes.decode(vae, torch.as_tensor(latents))
        errors.append(np.square(decoded.astype(float) - held).mean())
    assert errors[1] < 0.9 * errors[0]


def test_all_terms_of_the_loss_can_be_configured(run):
    terms = {"l1": 1.0, "perceptual": 0.1, "adversarial": {"weight": 0.1, "start": 5, "channels": 8}}
    finish = FinishSettings(steps=1, batch_size=8, learning_rate=0.003, device="cpu")
    with pytest.raises(KanjiDiffusionError, match="did not pass its gate"):
        run(loss=terms, finish=finish)


@pytest.mark.parametrize("fine_tune", [False, True])
def test_a_pretrained_autoencoder_passes_through_the_same_gate(run, tmp_path, fine_tune):
    torch.manual_seed(0)
    pretrained = AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=(8, 16), norm_num_groups=8, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    pretrained.save_pretrained(tmp_path / "pretrained")
    model = {"source": str(tmp_path / "pretrained"), "fine_tune": fine_tune}
    with pytest.raises(KanjiDiffusionError, match="did not pass its gate"):
        run(model)
    vae = AutoencoderKL.from_pretrained(tmp_path / "vae")
    assert vae.config.in_channels == 3
    assert vae.config.scaling_factor == 1
    kept = torch.equal(vae.encoder.conv_in.weight, pretrained.encoder.conv_in.weight)
    assert kept != fine_tune
    assert (tmp_path / "checkpoints" / "vae").exists() == fine_tune


def test_latents_of_the_training_glyphs_are_standardised(run, glyphs):  # noqa: F811
    vae = run(stroke_overlap=0, holes_agree=0, reading_loss=1).load("vae")
    seen = nodes.decode_images(glyphs[glyphs["split"] == "train"])
    mean, std = vaes.encode(vae, seen)
    np.testing.assert_allclose(mean.mean(axis=(0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(mean.var(axis=(0, 2, 3)) + np.square(std).mean(axis=(0, 2, 3)), 1, atol=1e-3)
