"""The choices of one run of the pipeline, and what each of them may be.

A field's default, range and help stand here and nowhere else: command-line options, checks, the columns of the results
table and their documentation are made from them. Importing this file is cheap (no torch), so that a wrong value is
refused before anything heavy is loaded.
"""

from typing import Annotated, Final, Literal, Self, get_args

from annotated_types import Ge, Gt, Le
from pydantic import Field, model_validator

from moe.schema import Model

ARTIFICIAL = (0, 1, 8, 9)  # airplane, automobile, ship, truck
NATURAL = (2, 3, 4, 5, 6, 7)  # bird, cat, deer, dog, frog, horse
SUPERCLASSES = ("artificial", "natural")  # each with an expert of that name
CLASSES = 10

#: per data set, its classes in words
CLASS_NAMES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "shapes": ("cross", "tee", "peanut", "clover", "butterfly", "flower", "whirl", "windmill", "angle", "zigzag"),
}

HOLDOUT: Final = "holdout"
NOTEBOOK: Final = "notebook"
FLOAT32: Final = "float32"
BFLOAT16: Final = "bfloat16"
PRECISIONS = (FLOAT32, BFLOAT16)

Protocol = Literal["holdout", "notebook"]
Precision = Literal["float32", "bfloat16"]
Dataset = Literal["auto", "cifar10", "shapes"]  # auto: CIFAR-10 if it is available, else shapes
DATASETS = get_args(Dataset)

VALIDATION_EXAMPLES = 5_000

#: by stage, the field of a config that makes its network large; the mixture's own has one size
SIZE_FLAGS = {
    "baseline": "use_large_baseline_classifier",
    "gate": "use_large_gating_mlp",
    "artificial": "use_large_experts",
    "natural": "use_large_experts",
}
#: the fields of a config that a stage does not see: how long it trains, its network and its numerics hold them
NOT_SEEN = {"epochs", "precision", *SIZE_FLAGS.values()}

#: per protocol and field, the fewest and the most images that it can take
IMAGES: dict[Protocol, dict[str, tuple[int, int]]] = {
    HOLDOUT: {"train_examples": (CLASSES, 45_000), "test_examples": (CLASSES, VALIDATION_EXAMPLES)},
    NOTEBOOK: {"train_examples": (CLASSES, 50_000), "test_examples": (CLASSES, 10_000)},
}


class Config(Model):
    """Every choice of one run of the pipeline; names and defaults are the notebook's.

    Raises:
        ValueError: a value is of another type or out of its range; the sentence names the field, the value and what is
            valid.
    """

    epochs: Annotated[int, Ge(1), Le(10_000), Field(description="epochs of each stage, at most")] = 1
    batch_size: Annotated[int, Ge(1), Le(50_000), Field(description="images per step")] = 50
    train_examples: Annotated[int, Ge(CLASSES), Le(50_000), Field(description="images to learn from")] = 5000
    test_examples: Annotated[
        int, Ge(CLASSES), Le(10_000), Field(description="images that stop a stage and choose its checkpoint")
    ] = 1000
    use_large_experts: Annotated[bool, Field(description="the larger VGG for both experts")] = False
    use_large_gating_mlp: Annotated[bool, Field(description="the larger VGG for the gate")] = False
    use_large_baseline_classifier: Annotated[bool, Field(description="the larger VGG for the baseline")] = False
    learning_rate: Annotated[float, Gt(0), Le(1), Field(description="learning rate of Adam")] = 1e-3
    patience: Annotated[
        int,
        Ge(1),
        Le(10_000),
        Field(description="epochs in a row without a lower validation loss, after which a stage stops"),
    ] = 2
    seed: Annotated[int, Ge(0), Le(2**31 - 1), Field(description="seed of all that is random")] = 0
    protocol: Annotated[
        Protocol, Field(description="holdout: validation images stop and choose; notebook: the test images do")
    ] = HOLDOUT
    precision: Annotated[
        Precision, Field(description="precision of products and sums of products; weights are float32")
    ] = FLOAT32

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name, (low, high) in IMAGES[self.protocol].items():
            if not low <= (value := getattr(self, name)) <= high:
                raise ValueError(f"{name} is {value}; expected {low} to {high} under the {self.protocol} protocol")
        if self.batch_size > self.train_examples:
            raise ValueError(
                f"batch_size is {self.batch_size}; expected 1 to {self.train_examples}, the train_examples"
            )
        return self

    @property
    def scored_examples(self) -> int:
        """How many images score a run: every validation image, or the test images that stopped it."""
        return VALIDATION_EXAMPLES if self.protocol == HOLDOUT else self.test_examples
