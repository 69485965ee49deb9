"""The autoencoder's crops, and every term of its loss."""

import copy
import os
import shutil
import signal

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from pydantic import ValidationError
from torchvision.models import vgg16

from kanji_diffusion.core.errors import KanjiDiffusionError, TrainingInterrupted
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.diffusion import adversarial
from kanji_diffusion.diffusion.adversarial import AdversarialSettings
from kanji_diffusion.diffusion.perceptual import LPIPS, ClipDistance
from kanji_diffusion.diffusion.vae import VAESettings, autoencoder
from kanji_diffusion.diffusion.vae_loss import (
    CropDataset,
    FinishSettings,
    LPIPSSettings,
    VAELoss,
    VAELossSettings,
    finishing,
    free_beyond_range,
    trainable,
)
from kanji_diffusion.imaging.resize import to_model_range
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.settings import TrainingSettings


@pytest.fixture
def tower():
    """A residual vision tower like the CLIP model's, with random weights in every block."""
    torch.manual_seed(0)
    visual = ModifiedResNet([1, 1, 1, 1], 16, heads=4, image_size=32, width=8)
    for name, parameter in visual.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return visual


def small_vae(**changes):
    torch.manual_seed(0)
    return autoencoder(VAESettings(**{"channels": (8, 16), "groups": 8} | changes), 32)


def training(**changes):
    settings = {"steps": 6, "batch_size": 4, "learning_rate": 0.01, "report_every": 1, "checkpoint_every": 2}
    return TrainingSettings(**settings | {"device": "cpu"} | changes)


def one_batch(pictures, step=0):
    sample = torch.arange(4 * step, 4 * step + 4)
    random = SampleRandom(0, sample)
    return CropDataset(pictures, 16).batch(torch.arange(4), random), random


class Recorder:
    def __init__(self):
        self.told = {}

    def metrics(self, values, step):
        for name, value in values.items():
            self.told.setdefault(name, {})[step] = value

    def image(self, name, image, step):
        raise AssertionError


@pytest.mark.parametrize(("side", "reductions"), [(32, {1, 2}), (64, {1, 2, 4}), (48, {1, 2}), (16, {1}), (12, {1})])
def test_crops_are_of_every_scale_that_leaves_one(side, reductions):
    images = torch.randint(0, 256, (30, side, side), dtype=torch.uint8)
    dataset, index = CropDataset(images.numpy(), 16), torch.arange(60) % 30
    crops = dataset.batch(index, SampleRandom(0, torch.arange(60)))["pixels"]
    crop = min(side, 16)
    assert crops.shape == (60, 1, crop, crop)
    seen = []
    for number, picture in enumerate(to_model_range(images)[index]):
        for reduction in reductions:
            reduced = F.avg_pool2d(picture, reduction)[0]
            windows = reduced.unfold(0, crop, 1).unfold(1, crop, 1).reshape(-1, crop, crop)
            if torch.isclose(windows, crops[number, 0], atol=1e-6).flatten(1).all(dim=1).any():
                seen.append(reduction)
    assert len(seen) == 60
    assert all(seen.count(reduction) > 60 / len(reductions) / 2 for reduction in reductions)
    again = dataset.batch(index[5:9], SampleRandom(0, torch.arange(5, 9)))["pixels"]
    assert torch.equal(again, crops[5:9])


@pytest.mark.parametrize(("channels", "covers"), [((8, 16, 16), 4), ((8, 8, 16, 16), 8)])
def test_autoencoders_of_both_factors_learn_from_crops(pictures, channels, covers):
    recorder = Recorder()
    settings = training(steps=40, batch_size=8, learning_rate=0.005, report_every=10)
    vae = small_vae(channels=channels)
    loss = VAELossSettings(kl=1e-4)
    train(
        trainable(vae, loss, 32, 16),
        VAELoss(loss, 8),
        CropDataset(pictures, 16),
        settings,
        name="vae",
        tracker=recorder,
    )
    assert recorder.told["vae/mse"][40] < 0.6 * recorder.told["vae/mse"][10]


def test_errors_and_divergence_are_the_written_ones(pictures):
    vae, (batch, random) = small_vae(), one_batch(pictures)
    output = VAELoss(VAELossSettings(mse=2.0, l1=3.0, kl=0.5), 4)(vae, batch, random)
    moments = vae.encode(batch["pixels"]).latent_dist
    decoded = vae.decode(moments.mean + moments.std * random.normal("posterior", 4, 8, 8)).sample
    difference = decoded - batch["pixels"]
    divergence = moments.kl() / moments.mean[0].numel()
    expected = 2 * difference.square().mean() + 3 * difference.abs().mean() + 0.5 * divergence.mean()
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.terms["kl"], divergence)


def test_what_lies_beyond_black_or_white_is_free_where_overshoot_is_allowed(pictures):
    pixels = torch.tensor([1.0, 1, 1, -1, -1, -1, 0.5, -0.5]).reshape(1, 1, 2, 4)
    decoded = torch.tensor([1.5, 0.5, -1.5, -1.5, -0.5, 1.5, 1.5, -1.5]).reshape(1, 1, 2, 4)
    expected = torch.tensor([0.0, -0.5, -2.5, 0, 0.5, 2.5, 1, -1]).reshape(1, 1, 2, 4)
    assert torch.equal(free_beyond_range(decoded, pixels), expected)
    vae, (batch, random) = small_vae(), one_batch(pictures)
    with torch.no_grad():
        vae.decoder.conv_out.bias += 3
    strict, free = (VAELoss(VAELossSettings(overshoot=each), 4)(vae, batch, random).terms["mse"] for each in (0, 1))
    assert (free < 0.5 * strict).all()


def test_the_perceptual_term_teaches_the_whole_autoencoder_and_leaves_the_tower_alone(pictures, tower):
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    vae, (batch, random) = small_vae(), one_batch(pictures)
    VAELoss(VAELossSettings(mse=0, kl=0, perceptual=1.0), 4, tower)(vae, batch, random).loss.backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in vae.parameters())
    assert all(value.grad is None for value in tower.parameters())
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())


def gradient_agrees_with_differences(distance, pixels):
    """The derivative along a random direction, by autograd and by central differences."""
    seen = (pixels + 0.1 * torch.randn_like(pixels)).requires_grad_()
    along = torch.randn_like(pixels)
    distance(seen, pixels).sum().backward()
    with torch.no_grad():
        step = 1e-5 * along
        written = (distance(seen + step, pixels) - distance(seen - step, pixels)).sum() / 2e-5
    torch.testing.assert_close((seen.grad * along).sum(), written, rtol=1e-3, atol=1e-6)


def test_the_perceptual_gradient_is_the_true_one(pictures, tower):
    gradient_agrees_with_differences(ClipDistance(tower).double(), to_model_range(pictures[:2]).double())


def test_the_perceptual_distance_sees_what_is_lost(pictures, tower):
    distance, pixels = ClipDistance(tower), to_model_range(pictures)
    assert distance(pixels, pixels).abs().max() < 1e-6
    slightly, badly = (F.avg_pool2d(pixels, side, 1, side // 2, count_include_pad=False) for side in (3, 7))
    assert (distance(slightly, pixels) < distance(badly, pixels)).all()


def test_a_pretrained_transformer_tower_is_shown_what_it_was_trained_on(pictures):
    torch.manual_seed(0)
    visual = VisionTransformer(image_size=16, patch_size=8, width=32, layers=2, heads=2, mlp_ratio=2, output_dim=8)
    visual.image_mean, visual.image_std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    distance, pixels = ClipDistance(visual), to_model_range(pictures[:3])
    maps = distance.features(pixels.expand(-1, 3, -1, -1))
    assert [tuple(each.shape) for each in maps] == [(3, 32, 2, 2)] * 2
    unit = F.interpolate(pixels, (16, 16), mode="bilinear", antialias=True).expand(-1, 3, -1, -1) / 2 + 0.5
    shown = (unit - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    expected = visual.forward_intermediates(shown, intermediates_only=True)["image_intermediates"]
    torch.testing.assert_close(list(maps), expected)
    gradient_agrees_with_differences(distance.double(), pixels.double())


@pytest.fixture(scope="session")
def lpips_files(tmp_path_factory):
    """VGG16 and the linear heads in the formats of torchvision and of the lpips project, with random weights."""
    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(0)
    with torch.device("meta"):
        trunk = vgg16().features.to_empty(device="cpu")
    for layer in trunk:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    torch.save({f"features.{name}": value for name, value in trunk.state_dict().items()}, folder / "vgg16.pth")
    widths = (64, 128, 256, 512, 512)
    heads = {f"lin{stage}.model.1.weight": torch.rand(1, width, 1, 1) for stage, width in enumerate(widths)}
    torch.save(heads, folder / "vgg.pth")
    return folder


def test_lpips_is_the_written_formula(pictures, lpips_files):
    trunk = torch.load(lpips_files / "vgg16.pth", weights_only=True)
    heads = torch.load(lpips_files / "vgg.pth", weights_only=True)

    def stages(pixels):
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        hidden, number = (pixels - shift.view(3, 1, 1)) / scale.view(3, 1, 1), 0
        for stage, layers in enumerate((2, 2, 3, 3, 3)):
            if stage:
                hidden, number = F.max_pool2d(hidden, 2), number + 1
            for _ in range(layers):
                weight, bias = trunk[f"features.{number}.weight"], trunk[f"features.{number}.bias"]
                hidden, number = F.relu(F.conv2d(hidden, weight, bias, padding=1)), number + 2
            yield hidden

    pixels = to_model_range(pictures[:2]).expand(-1, 3, -1, -1)
    blurred = F.avg_pool2d(pixels, 3, 1, 1)
    expected = torch.zeros(2)
    for stage, (seen, want) in enumerate(zip(stages(blurred), stages(pixels), strict=True)):
        seen, want = (each / (each.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for each in (seen, want))
        expected += ((seen - want).square() * heads[f"lin{stage}.model.1.weight"]).sum(dim=1).mean(dim=(1, 2))
    distance = LPIPS(lpips_files / "vgg16.pth", lpips_files / "vgg.pth")
    torch.testing.assert_close(distance(blurred, pixels), expected, rtol=1e-4, atol=1e-5)
    assert distance(pixels[:, :1], pixels[:, :1]).abs().max() < 1e-6


def test_lpips_teaches_the_autoencoder(pictures, lpips_files):
    files = {"trunk": lpips_files / "vgg16.pth", "heads": lpips_files / "vgg.pth"}
    settings = VAELossSettings(mse=0, kl=0, lpips={"weight": 1.0, **files})
    vae, (batch, random) = small_vae(), one_batch(pictures)
    output = VAELoss(settings, 4)(vae, batch, random)
    output.loss.backward()
    assert output.terms["lpips"].shape == (4,)
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in vae.parameters())


class Malicious:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"no weights at all", "."),
        ({"features.0.weight": torch.zeros(3)}, r"no tensor 'features\.0\.weight' of shape \(64, 3, 3, 3\)"),
        ([1, 2], "no tensor 'features"),
        (Malicious(), "Weights only load failed"),
    ],
)
def test_files_that_are_no_lpips_weights_are_refused(tmp_path, lpips_files, content, reason):
    path = tmp_path / "vgg16.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(KanjiDiffusionError, match=rf"LPIPS weights .*vgg16\.pth cannot be used \(.*{reason}") as told:
        LPIPS(path, lpips_files / "vgg.pth")
    assert "\n" not in str(told.value)
    with pytest.raises(ValidationError, match="give `trunk` and `heads`"):
        VAELossSettings(lpips={"weight": 1.0, "trunk": path})


ADVERSARIAL = {"weight": 0.5, "start": 0, "channels": 8, "layers": 2}


def pair(pictures, **changes):
    settings = VAELossSettings(adversarial=ADVERSARIAL | changes)
    module = trainable(small_vae(), settings, 32, 16)
    return module, VAELoss(settings, 4), *one_batch(pictures)


@pytest.mark.parametrize(("layers", "reach"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_the_patch_that_is_promised(layers, reach):
    settings = adversarial.AdversarialSettings(channels=8, layers=layers)
    judge = adversarial.PatchDiscriminator(1, settings)
    for layer in judge:
        if isinstance(layer, torch.nn.GroupNorm):
            layer.forward = lambda x: x  # its statistics see the whole picture
    pixels = torch.randn(1, 1, 128, 128, requires_grad=True)
    logits = judge(pixels)
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    touched = pixels.grad[0, 0].abs().sum(dim=0).nonzero()
    assert int(touched.max() - touched.min()) + 1 == reach
    smallest = adversarial.smallest_crop(settings)
    assert judge(torch.randn(1, 1, smallest, smallest)).shape[-1] == 1


def test_each_of_the_two_learns_from_its_own_term(pictures):
    module, _, batch, _ = pair(pictures)
    decoded = module.vae(batch["pixels"]).sample
    adversarial.judge_frozen(module.discriminator, decoded).mean().backward(retain_graph=True)
    assert all(value.grad is None for value in module.discriminator.parameters())
    assert module.vae.decoder.conv_out.weight.grad.abs().max() > 0
    module.zero_grad(set_to_none=True)
    adversarial.hinge_loss(module.discriminator, batch["pixels"], decoded).mean().backward()
    assert all(value.grad is None for value in module.vae.parameters())
    assert all(value.grad is not None for value in module.discriminator.parameters())


def test_the_adaptive_weight_makes_both_gradients_equal_at_the_last_layer(pictures):
    module, loss, batch, random = pair(pictures, weight=1.0)
    output = loss(module, batch, random)
    layer = module.vae.decoder.conv_out.weight
    moments = module.vae.encode(batch["pixels"]).latent_dist
    decoded = module.vae.decode(moments.mean + moments.std * random.normal("posterior", 4, 8, 8)).sample
    error = F.mse_loss(decoded, batch["pixels"])
    fooled = -adversarial.judge_frozen(module.discriminator, decoded).mean()
    wanted, given = (torch.autograd.grad(each, layer, retain_graph=True)[0] for each in (error, fooled))
    torch.testing.assert_close(output.terms["adversarial_weight"] * given.norm(), wanted.norm(), rtol=0.05, atol=0)
    output.loss.backward()
    torch.testing.assert_close(layer.grad, wanted + output.terms["adversarial_weight"] * given, rtol=1e-3, atol=1e-6)
    fixed = pair(pictures, weight=0.25, adaptive=False)
    assert fixed[1](*fixed[:1], *fixed[2:]).terms["adversarial_weight"] == 0.25


def test_the_discriminator_waits_for_its_step(pictures):
    module, loss, _, _ = pair(pictures, start=3)
    before = {name: value.clone() for name, value in module.discriminator.state_dict().items()}
    recorder = Recorder()
    train(module, loss, CropDataset(pictures, 16), training(steps=3), name="vae", tracker=recorder)
    assert "vae/adversarial" not in recorder.told
    assert all(torch.equal(value, before[name]) for name, value in module.discriminator.state_dict().items())
    module, loss, _, _ = pair(pictures, start=3)
    train(module, loss, CropDataset(pictures, 16), training(steps=6), name="vae", tracker=recorder)
    assert sorted(recorder.told["vae/adversarial"]) == [4, 5, 6]
    assert not any(
        torch.equal(value, before[name])
        for name, value in module.discriminator.state_dict().items()
        if "weight" in name
    )


def test_finishing_has_its_own_weight_of_absolute_errors_and_its_discriminator_from_the_first_step():
    settings = VAELossSettings(l1=0.1, kl=0.5, adversarial=ADVERSARIAL | {"start": 7})
    finish = FinishSettings(steps=1, batch_size=4, learning_rate=1e-3, l1=0.3)
    expected = VAELossSettings(l1=0.3, overshoot=True, kl=0.5, adversarial=ADVERSARIAL | {"start": 0})
    assert finishing(settings, finish) == expected


def test_every_term_has_its_curve(pictures, tower, lpips_files):
    files = {"trunk": lpips_files / "vgg16.pth", "heads": lpips_files / "vgg.pth"}
    settings = VAELossSettings(perceptual=0.1, lpips={"weight": 0.1, **files}, adversarial=ADVERSARIAL)
    recorder = Recorder()
    module = trainable(small_vae(), settings, 32, 16)
    train(
        module, VAELoss(settings, 4, tower), CropDataset(pictures, 16), training(steps=1), name="vae", tracker=recorder
    )
    terms = ["mse", "l1", "kl", "perceptual", "lpips", "adversarial", "discriminator", "adversarial_weight"]
    assert {f"vae/{term}" for term in terms} <= set(recorder.told)


def test_a_term_without_weight_costs_nothing(pictures):
    vae = small_vae()
    assert trainable(vae, VAELossSettings(), 32, 16) is vae
    loss = VAELoss(VAELossSettings(), 4)
    assert loss.distances == {}
    assert set(loss(vae, *one_batch(pictures)).terms) == {"mse", "l1", "kl"}


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_stopped_training_with_every_judge_ends_with_the_same_bits(pictures, tower, tmp_path, step):
    settings = VAELossSettings(perceptual=0.1, adversarial=ADVERSARIAL | {"start": 2})

    class Stopping(VAELoss):
        def __call__(self, module, batch, random):
            if int(random.sample[0]) // 4 == step and not (tmp_path / "stopped").exists():
                (tmp_path / "stopped").touch()
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__call__(module, batch, random)

    def run(kind, folder):
        module = trainable(small_vae(), settings, 32, 16)
        torch.manual_seed(1)
        dataset = CropDataset(pictures, 16)
        return train(module, kind(settings, 4, tower), dataset, training(), name="vae", checkpoints=folder).state_dict()

    straight = run(VAELoss, tmp_path / "a")
    with pytest.raises(TrainingInterrupted, match=f"stopped at step {step + 1} of 6"):
        run(Stopping, tmp_path / "b")
    resumed = run(Stopping, tmp_path / "b")
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())


@pytest.mark.parametrize(
    ("size", "crop", "changes", "sentence"),
    [
        (32, 18, {}, r"`vae\.crop` is 18 pixels, but one latent of the autoencoder covers 4 x 4"),
        (32, 12, {"perceptual": 1.0}, r"`vae\.loss\.lpips` need 16"),
        (30, 16, {}, r"`render\.size` is 30 pixels"),
        (32, 16, {"adversarial": ADVERSARIAL | {"layers": 3}}, r"discriminator of 3 layers needs 24"),
    ],
)
def test_sizes_that_cannot_work_are_refused(size, crop, changes, sentence):
    with pytest.raises(KanjiDiffusionError, match=sentence):
        trainable(small_vae(channels=(8, 8, 16)), VAELossSettings(**changes), size, crop)


def test_an_adaptive_weight_belongs_to_the_whole_batch(pictures):
    module, loss, _, _ = pair(pictures)
    with pytest.raises(KanjiDiffusionError, match="one of the whole batch"):
        train(module, loss, CropDataset(pictures, 16), training(accumulate=2), name="vae")
    module, loss, _, _ = pair(pictures, adaptive=False)
    train(module, loss, CropDataset(pictures, 16), training(accumulate=2, steps=1), name="vae")


# A changed value for every field; None for one that holds others, or says where weights lie.
JUDGEMENT = {
    VAELossSettings: {
        "mse": 2.0,
        "l1": 0.5,
        "overshoot": True,
        "kl": 0.1,
        "perceptual": 0.2,
        "lpips": None,
        "adversarial": None,
    },
    LPIPSSettings: {"weight": 0.2, "trunk": None, "heads": None},
    AdversarialSettings: {"weight": 0.1, "adaptive": False, "start": 3, "channels": 16, "layers": 1},
}


@pytest.mark.parametrize(
    ("model", "field"),
    [(model, field) for model in JUDGEMENT for field in model.model_fields if JUDGEMENT[model][field] is not None],
)
def test_every_weight_of_the_loss_changes_its_fingerprint(tower, lpips_files, model, field):
    files = {"trunk": lpips_files / "vgg16.pth", "heads": lpips_files / "vgg.pth"}
    given = {"perceptual": 0.1, "lpips": {"weight": 0.1, **files}, "adversarial": ADVERSARIAL}
    change = {field: JUDGEMENT[model][field]}
    changed = {
        VAELossSettings: given | change,
        LPIPSSettings: given | {"lpips": given["lpips"] | change},
        AdversarialSettings: given | {"adversarial": given["adversarial"] | change},
    }[model]
    first, second = (VAELoss(VAELossSettings(**each), 4, tower).fingerprint() for each in (given, changed))
    assert first != second


def test_of_the_networks_that_judge_all_counts_but_where_they_lie(tower, lpips_files, tmp_path):
    def judged(folder, tower=tower):
        lpips = {"weight": 0.1, "trunk": folder / "vgg16.pth", "heads": folder / "vgg.pth"}
        return VAELoss(VAELossSettings(perceptual=0.1, lpips=lpips), 4, tower).fingerprint()

    moved = shutil.copytree(lpips_files, tmp_path / "moved")
    assert judged(lpips_files) == judged(moved)
    heads = torch.load(moved / "vgg.pth", weights_only=True)
    torch.save({name: value + 1 for name, value in heads.items()}, moved / "vgg.pth")
    assert judged(lpips_files) != judged(moved)
    other = copy.deepcopy(tower)
    other.layer1[0].avgpool = torch.nn.MaxPool2d(2)
    assert judged(lpips_files) != judged(lpips_files, other)
