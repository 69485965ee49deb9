import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMPipeline, UNet2DModel
from kedro.io import DatasetError
from transformers import BertConfig, BertModel

from kanji_diffusion.datasets import ModelFolderDataset


def unet():
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
    )


def models():
    yield "diffusers.AutoencoderKL", AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    yield "transformers.BertModel", BertModel(config)


@pytest.mark.parametrize(("class_path", "model"), models(), ids=lambda value: str(value)[:20])
def test_the_weights_of_a_model_come_back(tmp_path, class_path, model):
    dataset = ModelFolderDataset(filepath=str(tmp_path / "model"), class_path=class_path)
    dataset.save(model)
    loaded = dataset.load()
    assert type(loaded) is type(model)
    assert not loaded.training
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name


def test_a_pipeline_comes_back(tmp_path):
    dataset = ModelFolderDataset(filepath=str(tmp_path / "pipeline"), class_path="diffusers.DiffusionPipeline")
    saved = DDPMPipeline(unet(), DDIMScheduler(num_train_timesteps=10))
    dataset.save(saved)
    loaded = dataset.load()
    assert isinstance(loaded, DDPMPipeline)
    assert loaded.scheduler.config.num_train_timesteps == 10
    assert list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("*.bin"))


def test_a_pickle_is_refused(tmp_path):
    dataset = ModelFolderDataset(filepath=str(tmp_path / "model"), class_path="diffusers.UNet2DModel")
    model = unet()
    model.save_pretrained(tmp_path / "model", safe_serialization=False)
    with pytest.raises(DatasetError, match=r"\.bin is a pickle, which can run code: save it as safetensors\.$"):
        dataset.load()


def test_another_model_in_the_folder_is_one_sentence(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "readme.txt").write_text("no model")
    dataset = ModelFolderDataset(filepath=str(path), class_path="diffusers.UNet2DModel")
    with pytest.raises(DatasetError) as told:
        dataset.load()
    assert str(told.value).startswith(f"{path} cannot be read as diffusers.UNet2DModel: ")
    assert "\n" not in str(told.value)
