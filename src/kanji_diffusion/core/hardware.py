"""What the machine is good at: device, precision, threads."""

from __future__ import annotations

import ctypes
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from kanji_diffusion.core.cores import available_cores
from kanji_diffusion.core.errors import KanjiDiffusionError

logger = logging.getLogger(__name__)

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def set_threads(threads: int | None = None) -> int:
    """Give torch `threads` CPU threads (all cores if None) and flush denormal numbers to zero.

    Oversubscribed threads collapse to a fifth of the speed, and denormals, which appear in Adam's moments,
    cost a hundred cycles each; neither changes a result that anyone could see. Memory that tensors free is kept for
    the next ones.

    Returns:
        The number of threads in use.

    Raises:
        KanjiDiffusionError: If more threads are asked for than there are cores.
    """
    cores = available_cores()
    chosen = threads or cores
    if chosen > cores:
        raise KanjiDiffusionError(
            f"Parameter `threads` is {chosen}, but this process may use {cores} cores: "
            f"set it to {cores} or less, or to null for all of them."
        )
    torch.set_num_threads(chosen)
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    return chosen


def _keep_freed_memory() -> None:
    # By default glibc gives each large tensor back to the kernel, and the next one is cleared page by page again: a
    # fifth of a small model's training step. Other C libraries have no such settings.
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        # Before glibc 2.35 the largest threshold was 32 MiB.
        if mallopt(_M_MMAP_THRESHOLD, 1 << 30) or mallopt(_M_MMAP_THRESHOLD, 1 << 25):
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(device: str = "auto", parameter: str = "device") -> torch.device:
    """Resolve `auto` to CUDA, MPS or CPU, in this order; other names are taken as they are.

    Args:
        device: Its name.
        parameter: What the error calls the parameter that names it.

    Raises:
        KanjiDiffusionError: If the named device is not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        # Torch lists two dozen kinds of devices where it does not know one.
        reason = "it knows no such device" if "Expected one of" in str(error) else str(error).splitlines()[0]
        raise KanjiDiffusionError(
            f"Parameter `{parameter}` is '{device}', which torch cannot use here ({reason.rstrip('.')}): "
            "set it to auto, cpu or a device of this machine."
        ) from error


def require_compiler(parameter: str) -> None:
    """Refuse to compile where there is no C++ compiler, which torch.compile needs.

    Args:
        parameter: What the error calls the parameter that asks for it.

    Raises:
        KanjiDiffusionError: If the compiler that torch would call is not there.
    """
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    # As torch splits it.
    if shutil.which(shlex.split(compiler)[0]) is None:
        raise KanjiDiffusionError(
            f"Parameter `{parameter}` is on, but torch.compile needs the C++ compiler {compiler}, which is not there: "
            "install it (on Debian `apt install g++ python3-dev`), or set the parameter to off."
        )


@cache
def _cpu_has_fast_bfloat16() -> bool:
    # torch reports bf16 as supported wherever it can emulate it, which is several times slower than float32.
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "amx_bf16" in flags or "avx512_bf16" in flags


def autocast_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    """The dtype to autocast to on `device`, or None for float32.

    Args:
        device: Where the module computes.
        precision: `float32`, `bfloat16`, or `auto` (bfloat16 where the hardware has units for it).
    """
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "auto":
        if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        if device.type == "cpu" and _cpu_has_fast_bfloat16():
            return torch.bfloat16
    return None


@contextmanager
def autocast(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Within it, modules on `device` compute in `dtype`, which is what `autocast_dtype` returned."""
    with torch.autocast(device.type, dtype, enabled=dtype is not None), attention_for_training(device, dtype):
        yield


@contextmanager
def attention_for_training(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Within it attention is computed by the kernels that are fast on the way back too.

    The backward pass must lie in it with the forward pass: checkpointed activations are computed again there.
    """
    if dtype and device.type == "cpu" and torch.is_grad_enabled():
        # On its way back torch's fused attention in bfloat16 takes 8 ms where that in float32 takes 0.3. Written
        # out, torch computes it in float32.
        with sdpa_kernel(SDPBackend.MATH):
            yield
    else:
        yield


@cache
def tell_once(device: torch.device, dtype: torch.dtype | None) -> None:
    """Log, the first time, where and in what precision models are trained."""
    logger.info("Models are trained on %s in %s.", device, str(dtype or torch.float32).removeprefix("torch."))
