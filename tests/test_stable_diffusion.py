"""`conf/stable_diffusion` from fonts to pictures at toy size, with the models that it names in a stand-in hub."""

import os
import subprocess
import sys

import mlflow
import pytest
from omegaconf import OmegaConf
from tests import hub_models

pytestmark = pytest.mark.long

# What makes the environment small: architectures of the models on the stand-in hub, and a step of each stage. The names
# of the models, the sizes of the stages and the process are those of conf/stable_diffusion.
TOY = {
    "characters": {"grades": [], "characters": "一二口日"},
    "structure": {"limit": 0, "zero_shot": 0},
    # No planner, and none of the models that judge compositions.
    "captions": {"shares": {"meaning": 1, "composed": 0, "parts": 0}},
    "render": {"views": 1},
    "recogniser": {
        "model": {"channels": [8, 16]},
        "training": {"steps": 4, "batch_size": 8, "learning_rate": 0.005, "warmup_steps": 0},
    },
    "clip": {"model": {"source": "hf-hub:toy/ViT-L-14", "pretrained": None}},
    "aesthetics": {"pairs": 10},
    "filter": {"coverage": {"min": 0}, "contrast": {"min": 0}},
    "vae": {"gate": {"stroke_overlap": 0, "holes_agree": 0, "reading_loss": 1, "style_tolerance": None}},
    "unet": hub_models.UNET,
    "stages": {
        name: {
            "live_prompts": 1,
            "prompts": 1,
            "sampling": {"steps": 1, "batch_size": 1},
            "training": {"steps": 1, "batch_size": 1, "accumulate": 1, "warmup_steps": 0, "sheet_every": 0},
        }
        for name in ("stage_256", "stage_512")
    },
    "sampling": {"steps": 2, "batch_size": 1},
    "evaluation": {
        "characters": 1,
        "styles": ["brush"],
        "metrics": {"references": 8},
        "invented": {"limit": 1, "known": {"grades": [1], "all": False}},
        "grid": {"prompts": 1, "samplers": ["plms"], "steps": [1], "guidance_scales": [7.5]},
    },
}


@pytest.fixture(scope="module")
def run(project, tmp_path_factory):
    """Calls `kedro run` in the environment, offline, with the stand-in hub."""
    home = tmp_path_factory.mktemp("hf")
    models = hub_models.pipeline()
    models.save_pretrained(home / "pipeline")
    models.vae.save_pretrained(home / "vae")
    for part in (models.text_encoder, models.tokenizer):
        part.save_pretrained(home / "text")
    hub_models.clip_scorer(home / "clip")
    hub_models.laion_head(home / "sac+logos+ava1-l14-linearMSE.pth")
    for name, folder in {
        "stable-diffusion-v1-5/stable-diffusion-v1-5": "pipeline",
        "stabilityai/sd-vae-ft-mse": "vae",
        "openai/clip-vit-large-patch14": "text",
        "toy/ViT-L-14": "clip",
    }.items():
        hub_models.put_on_hub(home, name, home / folder)
    conf = project / "conf" / "toy_stable_diffusion"
    conf.mkdir()
    (conf / "globals.yml").write_text("data: data/toy_stable_diffusion\nexperiment: toy-stable-diffusion\n")
    head = {"aesthetics": {"head": str(home / "sac+logos+ava1-l14-linearMSE.pth")}}
    given = OmegaConf.load(project / "conf" / "stable_diffusion" / "parameters.yml")
    OmegaConf.save(OmegaConf.merge(given, TOY, head), conf / "parameters.yml")

    def call(*options):
        environment = os.environ | {"COLUMNS": "1000", "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "kedro", "run", "--env=toy_stable_diffusion", *options]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    return call


def test_it_runs_from_fonts_to_pictures_and_mlflow_tells_by_what(run, project):
    run()
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("toy-stable-diffusion")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    told = found.data.params
    assert told["aesthetics.head"].endswith("sac+logos+ava1-l14-linearMSE.pth")
    assert told["text_encoder.source"] == "openai/clip-vit-large-patch14" and told["text_encoder.max_length"] == "77"
    assert told["clip.model.source"].endswith("ViT-L-14")
    assert told["vae.model.source"] == "stabilityai/sd-vae-ft-mse"
    assert told["unet.start"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert (told["schedule.prediction"], told["schedule.betas"]) == ("epsilon", "scaled_linear")
    assert (told["sampling.sampler"], told["sampling.guidance_scale"]) == ("plms", "7.5")
    assert told["sampling.preset"] == "classic" and told["stages.stage_512.sampling.sampler"] == "plms"
    assert [told[f"stages.stage_{side}.resolution"] for side in (256, 512)] == ["256", "512"]
    assert found.data.metrics["1_loss/unet_stage_512"] > 0


def test_an_adapter_is_trained_by_the_same_command(run, project):
    # Stands behind the test before, whose artifacts it reads.
    run("--pipeline=train_unet", "--params=unet.lora.rank=2,unet.lora.merge=false")
    models = project / "data/toy_stable_diffusion/06_models"
    newest = max((models / "text_to_kanji").glob("*/text_to_kanji"))
    assert (newest / "pytorch_lora_weights.safetensors").is_file()
    assert list((models / "stage_512/lora").glob("*/lora/pytorch_lora_weights.safetensors"))
