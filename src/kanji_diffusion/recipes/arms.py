"""Which recipes are compared, and with which."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

PRACTICES = {
    "norm": "GroupNorm and SiLU in place of BatchNorm and LeakyReLU, in autoencoder and UNet",
    "time": "three linear layers from the timestep to its embedding in place of two",
    "attention": "cross-attention to the text, beside its mean that is added to the time embedding",
    "depth": "two residual blocks a level in place of one",
    "prompt": "the long prompt in place of the bare meaning",
    "dropout": "10 % of the captions dropped",
    "ema": "averaged weights in place of the last ones",
    "stages": "half of the steps at half of the resolution first",
    "betas": "scaled-linear betas in place of linear ones",
    "autocast": "bfloat16 where the hardware has units for it",
    "sampling": "50 steps of PLMS at guidance 7.5 in place of DDPM",
    "renaming": "another name for one module, and other random numbers",
}
"""The practices that make the original recipe the improved one; the last does nothing."""

NULL = "renaming"
ORIGINAL, IMPROVED, TODAY = "original", "improved", "today"
STEPS, OPERATIONS = "steps", "operations"


@dataclass(frozen=True)
class Arm:
    """One recipe of the comparison.

    Attributes:
        name: Unique together with `compute`.
        practices: Those that it has; None for today's recipe.
        base: The arm that it is compared with, which has the same steps or the same operations; None for the original.
        practice: The only practice in which it differs from its base; None for whole recipes.
        compute: Whether it is trained for the same number of steps as its base or of operations.
    """

    name: str
    practices: frozenset[str] | None
    base: str | None = None
    practice: str | None = None
    compute: str = STEPS

    @property
    def key(self) -> str:
        """Its name, with what is equal if that is not the steps."""
        return self.name if self.compute == STEPS else f"{self.name} ({self.compute})"


def arms(practices: Collection[str]) -> list[Arm]:
    """The original, the improved and today's recipe, each of `practices` added to the first and taken from the second.

    The practice that does nothing is in neither, and added to both.
    """
    whole = frozenset(PRACTICES) - {NULL}
    found = [Arm(ORIGINAL, frozenset()), Arm(IMPROVED, whole, ORIGINAL), Arm(TODAY, None, ORIGINAL)]
    found += [Arm(f"{ORIGINAL} + {name}", frozenset({name}), ORIGINAL, name) for name in practices]
    found += [
        Arm(f"{IMPROVED} - {name}", whole ^ {name}, IMPROVED, name)
        if name in whole
        else Arm(f"{IMPROVED} + {name}", whole | {name}, IMPROVED, name)
        for name in practices
    ]
    return found
