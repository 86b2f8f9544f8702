"""In place of a store: nothing is there, and nothing is kept."""

from typing import Self

from moe.stages import Checkpoint, Spec
from moe.store.leases import Timing
from moe.store.tensors import State
from moe.training.loop import Chain


class NoStore:
    """A store in which nothing is ever found."""

    timing = Timing()

    def chain(self, spec: Spec) -> Chain:
        """A stage before its first epoch."""
        return Chain(spec)

    def weights(self, checkpoint: Checkpoint) -> State | None:
        """None."""

    def claim(self, spec: Spec) -> "NoClaim":
        """The right to train a stage from its start."""
        return NoClaim(Chain(spec))

    def says(self, checkpoint: Checkpoint, of: str) -> State | None:
        """None."""

    def keep(self, checkpoint: Checkpoint, of: str, state: State) -> None:
        """Do nothing."""

    def settle(self) -> None:
        """Do nothing."""


class NoClaim:
    """A chain that only this process knows of."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def advanced(self) -> None:
        """Drop the weights that no request can resolve to any more."""
        best = self.chain.resolve(len(self.chain.epochs)).epoch
        self.chain.weights = {best: self.chain.weights[best]}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is to be given back."""
