"""Rules of a space file that give some configs another share of the machines. No result depends on them.

    resources:
      - {use_large_experts: true, epochs: [16, 30], cpus: 2, gpus: 1}

The first rule whose values are all those of a config decides; what it leaves out is as for all others.
"""

from typing import Annotated, Any, Self

from annotated_types import Ge, Le
from pydantic import field_validator, model_validator

from moe.config import Config
from moe.schema import Model

MOST_CPUS = 4096
MOST_GPUS = 1024


def gpu_share(name: str, gpus: float | None) -> float | None:
    """A trial's share of GPUs as it was given; raises a ValueError if Ray cannot give that."""
    if gpus is None or gpus == 0 or 0.01 <= gpus <= 1 or (1 < gpus <= MOST_GPUS and float(gpus).is_integer()):
        return gpus
    raise ValueError(f"{name} is {gpus:g}; expected 0, a fraction from 0.01 to 1 or a whole number to {MOST_GPUS}")


class Rule(Model):
    """What a trial gets whose config has these values."""

    when: dict[str, tuple[Any, ...]]  # for each field the values that it may have
    cpus: Annotated[int | None, Ge(1), Le(MOST_CPUS)] = None
    gpus: float | None = None

    @field_validator("gpus")
    @classmethod
    def _gpus(cls, gpus: float | None) -> float | None:
        return gpu_share("gpus", gpus)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.when or not all(self.when.values()) or self.cpus is self.gpus is None:
            raise ValueError("a rule of resources is incomplete; expected lines like `- {epochs: 30, gpus: 1}`")
        return self

    def fits(self, config: Config) -> bool:
        """Whether it is for this config."""
        return all(getattr(config, name) in values for name, values in self.when.items())
