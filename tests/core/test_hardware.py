"""What modules compute in."""

import logging
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch.nn.attention import SDPBackend

from kanji_diffusion.core import hardware
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.hardware import autocast, require_compiler

CPU = torch.device("cpu")


def attend(dtype):
    """Attention of 2 heads within `autocast`, and its gradients."""
    inputs = [torch.randn(3, 2, 16, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    inputs = [each.requires_grad_() for each in inputs]
    with autocast(CPU, dtype):
        result = F.scaled_dot_product_attention(*inputs)
    result.float().square().sum().backward()
    return result, [each.grad for each in inputs]


def test_attention_in_bfloat16_is_trained_without_the_fused_kernel():
    exact, gradients = attend(None)
    result, halved = attend(torch.bfloat16)
    assert exact.dtype == torch.float32 and result.dtype == torch.bfloat16
    assert "Flash" in exact.grad_fn.name() and "Flash" not in result.grad_fn.name()
    torch.testing.assert_close(result.float(), exact, atol=0.02, rtol=0.02)
    for ours, theirs in zip(halved, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0.05)


def test_pictures_are_drawn_with_the_fused_kernel(monkeypatch):
    chosen = []
    monkeypatch.setattr(hardware, "sdpa_kernel", lambda kernel: chosen.append(kernel) or nullcontext())
    with torch.no_grad(), autocast(CPU, torch.bfloat16):
        pass
    assert not chosen
    with autocast(CPU, torch.bfloat16):
        pass
    assert chosen == [SDPBackend.MATH]


def test_what_models_are_trained_in_is_told_once(caplog):
    hardware.tell_once.cache_clear()
    with caplog.at_level(logging.INFO):
        for dtype in (None, torch.bfloat16, None):
            hardware.tell_once(CPU, dtype)
    assert caplog.messages == ["Models are trained on cpu in float32.", "Models are trained on cpu in bfloat16."]


def test_to_compile_without_a_compiler_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(KanjiDiffusionError, match=r"`vae\.training\.compile` is on, .* no-such-compiler, which is not"):
        require_compiler("vae.training.compile")
