"""The base of every parameter model: unknown keys are refused, values cannot change after validation."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A validated, immutable group of parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)
