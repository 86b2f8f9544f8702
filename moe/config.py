"""The choices of one run of the pipeline, and what each of them may be.

Importing this file is cheap (no torch), so that a wrong value is refused before anything heavy is loaded.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

ARTIFICIAL = (0, 1, 8, 9)  # airplane, automobile, ship, truck
NATURAL = (2, 3, 4, 5, 6, 7)  # bird, cat, deer, dog, frog, horse
CLASSES = 10

#: per data set, its classes in words
CLASS_NAMES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "shapes": ("cross", "tee", "peanut", "clover", "butterfly", "flower", "whirl", "windmill", "angle", "zigzag"),
}

HOLDOUT, NOTEBOOK = "holdout", "notebook"
FLOAT32, BFLOAT16 = PRECISIONS = ("float32", "bfloat16")  # of products and sums of products; weights are float32
DATASETS = ("auto", "cifar10", "shapes")  # auto: CIFAR-10 if it can be had, else shapes

#: per protocol and field, the fewest and the most images that it can take
IMAGES = {
    HOLDOUT: {"train_examples": (CLASSES, 45_000), "test_examples": (CLASSES, 5_000)},
    NOTEBOOK: {"train_examples": (CLASSES, 50_000), "test_examples": (CLASSES, 10_000)},
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every choice of one run of the pipeline; names and defaults are the notebook's.

    Raises:
        ValueError: a value is out of its range; the sentence names the field, the value and what is valid.
        TypeError: a value is of another type, likewise.
    """

    epochs: int = 1  # of each stage, at most
    batch_size: int = 50
    train_examples: int = 5000
    test_examples: int = 1000  # the images that stop training and choose its checkpoint
    use_large_experts: bool = False
    use_large_gating_mlp: bool = False  # sizes the gate's CNN, as in the notebook
    use_large_baseline_classifier: bool = False
    learning_rate: float = 1e-3
    patience: int = 2  # epochs in a row without a lower validation loss, after which a stage stops
    seed: int = 0
    protocol: str = HOLDOUT
    precision: str = FLOAT32

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), field.type)
        if isinstance(self.learning_rate, int) and 0 < self.learning_rate <= 1:
            object.__setattr__(self, "learning_rate", 1.0)  # 1 and 1.0 are one choice
        if self.protocol not in IMAGES:
            raise ValueError(f"protocol is {self.protocol!r}; expected one of {', '.join(IMAGES)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        for name, (low, high) in self._ranges().items():
            if not low <= (value := getattr(self, name)) <= high:
                raise ValueError(f"{name} is {value}; expected {low} to {high}{self._reason(name)}")
        if self.batch_size > self.train_examples:
            raise ValueError(
                f"batch_size is {self.batch_size}; expected 1 to {self.train_examples}, the train_examples"
            )
        if not 0 < self.learning_rate <= 1:
            raise ValueError(f"learning_rate is {self.learning_rate}; expected a number above 0, up to 1")

    def _ranges(self) -> dict[str, tuple[int, int]]:
        images = IMAGES[self.protocol]
        return {
            "epochs": (1, 10_000),
            "batch_size": (1, 50_000),
            **images,
            "patience": (1, 10_000),
            "seed": (0, 2**31 - 1),
        }

    def _reason(self, name: str) -> str:
        if name in IMAGES[self.protocol]:
            return f" under the {self.protocol} protocol"
        return ""

    def as_dict(self) -> dict[str, Any]:
        """The fields and their values, in the order of their declaration."""
        return dict(vars(self))


def _check_type(name: str, value: object, expected: Any) -> None:
    if isinstance(value, bool) is not (expected is bool) or not isinstance(value, _accepted(expected)):
        raise TypeError(f"{name} is {value!r}; expected {_WORDS[expected]}")


def _accepted(expected: Any) -> Any:
    return (int, float) if expected is float else expected


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
