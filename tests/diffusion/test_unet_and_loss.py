"""The UNet is what the configuration says, and the loss what the papers say."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from pydantic import ValidationError
from torch import nn

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.diffusion.loss import DiffusionLoss, DiffusionLossSettings, EmphasisSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings, signal_to_noise, training_schedule
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet, earlier_unet, text_unet


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return text_unet(UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16), 4, 8, 64).eval()


def test_attention_is_the_written_formula(unet):
    attention = next(m for name, m in unet.named_modules() if name.endswith("attn2"))
    hidden, states = torch.randn(2, 16, 64), torch.randn(2, 5, 64)
    heads = lambda x: x.view(2, -1, 4, 16).transpose(1, 2)  # noqa: E731
    q, k, v = heads(attention.to_q(hidden)), heads(attention.to_k(states)), heads(attention.to_v(states))
    written = torch.softmax(q @ k.transpose(2, 3) * 16**-0.5, dim=-1) @ v
    written = attention.to_out[0](written.transpose(1, 2).reshape(2, 16, 64))
    torch.testing.assert_close(attention(hidden, encoder_hidden_states=states), written, rtol=1e-4, atol=1e-5)


def test_attention_is_computed_by_the_fused_kernel(unet, monkeypatch):
    fused, calls = torch.nn.functional.scaled_dot_product_attention, []

    def counting(*args, **kwargs):
        calls.append(args[0].shape)
        return fused(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    unet(torch.randn(1, 4, 8, 8), 3, torch.randn(1, 5, 64))
    assert {type(processor) for processor in unet.attn_processors.values()} == {AttnProcessor2_0}
    assert len(calls) == len(unet.attn_processors) > 0


def test_checkpointed_gradients_are_the_same(unet):
    plain, thrifty = (continue_unet(unet, 8, grow=False).train() for _ in range(2))
    thrifty.enable_gradient_checkpointing()
    latents, states = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 64)
    for each in (plain, thrifty):
        each(latents, 7, states).sample.square().mean().backward()
    gradients = {name: value.grad for name, value in plain.named_parameters()}
    assert all(torch.equal(value.grad, gradients[name]) for name, value in thrifty.named_parameters())
    saved = []
    for each in (plain, thrifty):
        with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
            each(latents, 7, states)
        saved.append(None)
    first = saved.index(None)
    assert sum(saved[first + 1 : -1]) < 0.5 * sum(saved[:first])


def test_an_earlier_unet_is_read_from_its_folder_or_that_of_a_pipeline(unet, tmp_path):
    unet.save_pretrained(tmp_path / "pipeline" / "unet")
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    for folder in (tmp_path / "pipeline" / "unet", tmp_path / "pipeline"):
        found = earlier_unet(folder, continue_unet(unet, 16, grow=False))
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), unet.parameters(), strict=True))


def test_a_unet_in_half_precision_is_read_where_there_is_no_other(unet, tmp_path):
    unet.save_pretrained(tmp_path, variant="fp16")
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.fp16.safetensors"]
    found = earlier_unet(tmp_path, unet)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), unet.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"channels": (32, 32, 64), "cross_attention": (False, False, True)},
            r"`unet\.channels` asks for \[32, 32, 64\]",
        ),
        ({"cross_attention": (True, True)}, r"has down_block_types .*`unet\.cross_attention` asks for"),
        ({"global_text": False}, r"has addition_embed_type text, but `unet\.global_text` asks for None"),
    ],
)
def test_a_start_of_another_architecture_is_refused(unet, tmp_path, changes, sentence):
    settings = {"channels": (32, 64), "cross_attention": (False, True), "groups": 16}
    unet.save_pretrained(tmp_path)
    with pytest.raises(KanjiDiffusionError, match=sentence):
        earlier_unet(tmp_path, text_unet(UNetSettings(**settings | changes), 4, 8, 64))
    with pytest.raises(KanjiDiffusionError, match="cross_attention_dim 64, but `text_encoder` asks for 32"):
        earlier_unet(tmp_path, text_unet(UNetSettings(**settings), 4, 8, 32))


def test_a_start_that_is_no_unet_is_refused(tmp_path, model):
    model.vae.save_pretrained(tmp_path / "vae")
    with pytest.raises(KanjiDiffusionError, match="class AutoencoderKL, not UNet2DConditionModel"):
        earlier_unet(tmp_path / "vae", model.unet)


def test_the_time_path_has_three_linear_layers(unet):
    block = unet.down_blocks[0].resnets[0]
    layers = [unet.time_embedding.linear_1, unet.time_embedding.linear_2, block.time_emb_proj]
    assert all(isinstance(layer, nn.Linear) for layer in layers)
    assert isinstance(unet.time_embedding.act, nn.SiLU)
    assert isinstance(block.nonlinearity, nn.SiLU)


def test_text_and_timestep_change_the_prediction(unet):
    latents, states = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 64)
    first = unet(latents, 10, states).sample
    assert not torch.allclose(first, unet(latents, 500, states).sample)
    assert not torch.allclose(first, unet(latents, 10, states + 1).sample)


def test_a_stage_starts_from_the_weights_of_the_one_before(unet):
    larger = continue_unet(unet, 16, grow=False)
    assert larger.config.sample_size == 16
    assert all(torch.equal(a, b) for a, b in zip(larger.parameters(), unet.parameters(), strict=True))
    with torch.no_grad():
        next(larger.parameters()).add_(1)
    assert not torch.equal(next(larger.parameters()), next(unet.parameters()))


@pytest.mark.parametrize(("layers", "blocks"), [(None, (1, 2)), (0, (0, 1)), (2, (2, 3))])
def test_a_grown_unet_keeps_the_inner_levels(unet, layers, blocks):
    grown = continue_unet(unet, 16, grow=True, layers=layers)
    assert (len(grown.down_blocks[0].resnets), len(grown.up_blocks[-1].resnets)) == blocks
    assert tuple(grown.config.block_out_channels) == (32, 32, 64)
    assert grown.config.down_block_types[0] == "DownBlock2D"
    for inner, outer in (
        ("down_blocks.1", "down_blocks.2"),
        ("mid_block", "mid_block"),
        ("up_blocks.0", "up_blocks.0"),
    ):
        before, after = unet.get_submodule(inner).state_dict(), grown.get_submodule(outer).state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert grown(torch.randn(1, 4, 16, 16), 3, torch.randn(1, 5, 64)).sample.shape == (1, 4, 16, 16)


def test_impossible_architectures_are_refused():
    with pytest.raises(ValidationError, match="`cross_attention` has 1 entries and `channels` 2"):
        UNetSettings(channels=(32, 64), cross_attention=(True,))
    with pytest.raises(ValidationError, match="30 channels cannot be divided"):
        UNetSettings(channels=(30, 60), cross_attention=(True, True), groups=16)


class Oracle(nn.Module):
    """Knows the latents and predicts exactly what the loss asks for."""

    def __init__(self, latents, schedule, prediction):
        super().__init__()
        self.latents, self.alphas, self.prediction = latents, schedule.alphas_cumprod, prediction

    def forward(self, noisy, timesteps, encoder_hidden_states):
        a = self.alphas[timesteps].sqrt()[:, None, None, None]
        b = (1 - self.alphas[timesteps]).sqrt()[:, None, None, None]
        noise = (noisy - a * self.latents) / b
        predicted = {"epsilon": noise, "sample": self.latents, "v_prediction": a * noise - b * self.latents}
        return type("Output", (), {"sample": predicted[self.prediction]})


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_has_no_loss(prediction):
    latents = torch.randn(64, 2, 4, 4)
    schedule = ScheduleSettings(prediction=prediction)
    loss = DiffusionLoss(schedule, DiffusionLossSettings())
    batch = {"mean": latents, "std": torch.zeros_like(latents), "states": torch.zeros(64, 1, 1)}
    oracle = Oracle(latents, training_schedule(schedule), prediction)
    output = loss(oracle, batch, SampleRandom(0, torch.arange(64)))
    assert output.loss < 1e-3
    assert sum(output.terms[f"error_timestep_bin_{n}"].isfinite().sum() for n in range(5)) == 64
    wrong = loss(Oracle(latents + 1, training_schedule(schedule), prediction), batch, SampleRandom(0, torch.arange(64)))
    assert wrong.loss > 100 * output.loss


def test_min_snr_weights_mean_the_same_for_every_prediction():
    """Per unit of squared error of the clean sample, each prediction is weighted by min(SNR, gamma)."""
    snr = signal_to_noise(training_schedule(ScheduleSettings()))
    sample_error = {"epsilon": 1 / snr, "v_prediction": 1 / (snr + 1), "sample": torch.ones_like(snr)}
    for prediction, factor in sample_error.items():
        loss = DiffusionLoss(ScheduleSettings(prediction=prediction), DiffusionLossSettings(min_snr_gamma=5))
        torch.testing.assert_close(loss.weights / factor, snr.clamp(max=5), rtol=1e-4, atol=1e-6)


def test_without_gamma_all_timesteps_weigh_the_same():
    assert (DiffusionLoss(ScheduleSettings(), DiffusionLossSettings(min_snr_gamma=None)).weights == 1).all()


# A changed value for every field.
JUDGEMENT = {
    ScheduleSettings: {
        "timesteps": 500,
        "betas": "linear",
        "beta_start": 0.001,
        "beta_end": 0.01,
        "prediction": "epsilon",
        "zero_terminal_snr": True,
    },
    DiffusionLossSettings: {"min_snr_gamma": 5.0},
    EmphasisSettings: {"log_snr": 1.0, "spread": 1.0},
}


# The timesteps that a sampler takes are no matter of the loss.
@pytest.mark.parametrize(
    ("model", "field"), [(model, field) for model in JUDGEMENT for field in model.model_fields if field != "spacing"]
)
def test_every_setting_of_the_loss_changes_its_fingerprint(model, field):
    parts = [ScheduleSettings(), DiffusionLossSettings(), EmphasisSettings(log_snr=0.0)]
    changed = [
        part.model_copy(update={field: JUDGEMENT[model][field]}) if isinstance(part, model) else part for part in parts
    ]
    assert DiffusionLoss(*changed).fingerprint() != DiffusionLoss(*parts).fingerprint()
    assert (
        DiffusionLoss(*parts).fingerprint()
        == DiffusionLoss(ScheduleSettings(spacing="leading"), *parts[1:]).fingerprint()
    )


class Watching(nn.Module):
    """Remembers the timesteps that it is asked for."""

    def forward(self, noisy, timesteps, encoder_hidden_states):
        self.timesteps = timesteps
        return type("Output", (), {"sample": noisy})


def drawn_timesteps(emphasis, count=4096):
    watching = Watching()
    latents = torch.zeros(count, 1, 2, 2)
    batch = {"mean": latents, "std": latents, "states": torch.zeros(count, 1, 1)}
    loss = DiffusionLoss(ScheduleSettings(), DiffusionLossSettings(), emphasis)
    loss(watching, batch, SampleRandom(0, torch.arange(count)))
    return watching.timesteps, loss.fingerprint()


def test_without_emphasis_every_timestep_is_drawn_alike():
    timesteps, _ = drawn_timesteps(None)
    counts = torch.bincount(timesteps // 100, minlength=10)
    assert timesteps.min() == 0 and timesteps.max() == 999
    assert (counts - 409.6).abs().max() < 5


@pytest.mark.parametrize("log_snr", [-3.0, 0.0, 2.0])
def test_emphasis_draws_most_where_it_is_told(log_snr):
    timesteps, key = drawn_timesteps(EmphasisSettings(log_snr=log_snr, spread=0.5))
    logs = signal_to_noise(training_schedule(ScheduleSettings())).log()[timesteps]
    assert logs.median().item() == pytest.approx(log_snr, abs=0.1)
    # The bell's two deviations, and what of the uniform tenth lies there too.
    assert 0.84 < ((logs - log_snr).abs() < 1).float().mean() < 0.92
    assert timesteps.min() < 20 and timesteps.max() > 980
    assert key != drawn_timesteps(None)[1]
