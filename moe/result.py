"""The result of one run of the pipeline, as typed values that are also JSON. No torch.

A field with a description is a column of the results table, under its own name.
"""

from base64 import b64decode
from typing import TYPE_CHECKING, Annotated, Literal, Self

from annotated_types import Ge, Le
from pydantic import Field, ValidationInfo, field_validator, model_validator

from moe.config import HOLDOUT, Config
from moe.console import table
from moe.schema import Model, shown

if TYPE_CHECKING:
    from moe.bits import Bools

Share = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(0)]
Positive = Annotated[int, Ge(1)]
Seconds = Annotated[float, Ge(0)]

TOLERANCE = 1e-9  # between a difference of two fractions and the same difference taken of counts


class Epoch(Model):
    """What one epoch of training came to."""

    loss: Annotated[float, Field(description="mean per training image in nats, while it is trained on")]
    accuracy: Annotated[Share, Field(description="fraction of the training images, while they are trained on")]
    validation_loss: Annotated[float, Field(description="mean per image in nats, on those that stop and choose")]
    validation_accuracy: Annotated[Share, Field(description="fraction of the images that stop and choose")]
    seconds: Annotated[Seconds, Field(description="of the epoch, where it was trained")]


class StageResult(Model):
    """One stage within one run."""

    epochs: tuple[Epoch, ...]  # those that the run used
    best_epoch: Positive  # the epoch whose weights were used
    stopped: Literal["epochs", "patience"]  # as many epochs as the config allows, or no lower validation loss
    parameters: Count
    epochs_trained: Count  # by this run
    epochs_reused: Count  # from the store
    seconds: Seconds  # of the epochs trained
    seconds_reused: Seconds  # of the epochs reused, where they were trained


class Score(Model):
    """Fractions of the scored images; an expert's accuracy is on its own classes."""

    gain: Annotated[float, Ge(-1), Le(1), Field(description="mixture minus baseline accuracy, a fraction")]
    mixture_accuracy: Annotated[Share, Field(description="fraction of the scored images")]
    baseline_accuracy: Annotated[Share, Field(description="fraction of the scored images")]
    gate_accuracy: Annotated[Share, Field(description="fraction of the scored images sent to their superclass")]
    artificial_accuracy: Annotated[Share, Field(description="of the expert on the images of its own classes")]
    natural_accuracy: Annotated[Share, Field(description="of the expert on the images of its own classes")]
    oracle_gate_accuracy: Annotated[Share, Field(description="the mixture with the true superclass as its gate")]
    average_accuracy: Annotated[Share, Field(description="plain mean of baseline and gated expert, no subgates")]
    discordance: Annotated[
        Share, Field(description="share of images that exactly one of mixture and baseline gets right")
    ]
    constant: Annotated[bool, Field(description="baseline or mixture predicts one class for every image")] = False

    @model_validator(mode="after")
    def _gain_is_the_difference(self) -> Self:
        difference = self.mixture_accuracy - self.baseline_accuracy
        if abs(self.gain - difference) > TOLERANCE:
            raise ValueError(f"gain is {self.gain}; expected {difference}, mixture minus baseline accuracy")
        return self


#: by field of `Right`, the accuracy that is its share of set bits
RIGHT = {
    "baseline": "baseline_accuracy",
    "mixture": "mixture_accuracy",
    "average": "average_accuracy",
    "oracle": "oracle_gate_accuracy",
}


class Right(Model):
    """Which of the scored images each classifies correctly, in the data set's fixed order of them.

    Each field is a text that `moe.bits.pack` makes.
    """

    baseline: str
    mixture: str
    average: str
    oracle: str

    @field_validator("*")
    @classmethod
    def _base64(cls, packed: str, field: ValidationInfo) -> str:
        try:
            b64decode(packed, validate=True)
        except ValueError:
            raise ValueError(f"right.{field.field_name} is {shown(packed)}; expected base64") from None
        return packed

    def bits(self, name: str, images: int) -> "Bools":
        """(images,) bool: whether the classifier of that field is right on each of the scored images."""
        from moe.bits import unpack  # numpy, which a refused option does without

        return unpack(getattr(self, name), images)


class Totals(Model):
    """Sums over the five stages."""

    parameters: Annotated[Count, Field(description="of the whole mixture")]
    seconds: Annotated[Seconds, Field(description="training and evaluation, without loading data")]
    seconds_reused: Annotated[Seconds, Field(description="what the reused epochs took when they were trained")]
    epochs_trained: Annotated[Count, Field(description="by this trial, over all stages")]
    epochs_reused: Annotated[Count, Field(description="from the store, over all stages")]


class Result(Model):
    """All that one run of the pipeline found, and what it had to train."""

    config: Config
    dataset: Annotated[str, Field(description="cifar10 or shapes")]
    data: str  # the data set's fingerprint
    scored_examples: Annotated[Positive, Field(description="images that the accuracies are fractions of")]
    score: Score
    right: Right | None = None  # None in simulated results
    totals: Totals
    stages: dict[str, StageResult]
    device: Annotated[str, Field(description="cpu, or the model of the GPU")]
    instructions: str  # the CPU's instruction set, or the GPU's model and CUDA's version

    @model_validator(mode="after")
    def _right_agrees_with_the_score(self) -> Self:
        for name, field in RIGHT.items() if self.right else ():
            packed = b64decode(getattr(self.right, name))
            counted, expected = int.from_bytes(packed).bit_count(), getattr(self.score, field) * self.scored_examples
            if (
                len(packed) != -(-self.scored_examples // 8)
                or abs(counted - expected) > TOLERANCE * self.scored_examples
            ):
                raise ValueError(
                    f"right.{name} has {counted} bits set in {len(packed)} bytes; expected {expected:g} of "
                    f"{self.scored_examples} images"
                )
        return self

    @property
    def gain(self) -> float:
        """Mixture minus baseline accuracy."""
        return self.score.gain

    def __str__(self) -> str:
        """A table of the five stages, the gain, and the controls."""
        score, config, totals = self.score, self.config, self.totals
        images = "validation" if config.protocol == HOLDOUT else "test"
        headings = ("stage", "accuracy", "epochs", "reused", "best", "stopped", "parameters", "seconds")
        lines = [
            table(headings, [_row(name, stage, score) for name, stage in self.stages.items()]),
            f"mixture - baseline: {100 * score.gain:+.2f} points on {self.scored_examples} {images} images of "
            f"{self.dataset} (protocol {config.protocol}, {config.precision}, seed {config.seed}, "
            f"{totals.seconds:.0f} s on {self.device})",
            f"controls: oracle gate {score.oracle_gate_accuracy:.2%}, plain average of baseline and expert "
            f"{score.average_accuracy:.2%}; exactly one of mixture and baseline is right on {score.discordance:.2%}",
        ]
        if score.constant:
            lines.append("baseline or mixture predicts one class for every image: its accuracy is no measure")
        if totals.seconds_reused:
            lines.append(f"{totals.seconds_reused:.0f} s of training were saved by the stage store")
        return "\n".join(lines)


def _row(name: str, stage: StageResult, score: Score) -> tuple[str, ...]:
    accuracy = getattr(score, f"{name}_accuracy", None)
    epochs = (len(stage.epochs), stage.epochs_reused, stage.best_epoch, stage.stopped)
    shown = "" if accuracy is None else f"{accuracy:.2%}"
    return (name, shown, *map(str, epochs), f"{stage.parameters:,}", f"{stage.seconds:.1f}")
