"""Short names of values, which change with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that change whenever any of `parts` (JSON values) changes."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def tensors_fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """Sixteen hexadecimal digits that change whenever a name, shape, dtype or bit of `state` changes."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
