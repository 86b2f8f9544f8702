"""Adam by torch's own update, with its state by name.

There is no `torch.optim.Adam` here: making one imports torch's compiler, which costs each process a second and 100 MB.
"""

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from moe.store.tensors import State


class Adam:
    """Updates the weights of a network from their gradients, with the epsilon of Keras.

    torch adds it after bias correction, Keras before.
    """

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        named = dict(network.named_parameters())
        self._learning_rate = learning_rate
        self._weights: list[Tensor] = list(named.values())
        self._steps = [torch.zeros((), device=weight.device) for weight in self._weights]
        self._means = [torch.zeros_like(weight) for weight in self._weights]
        self._squares = [torch.zeros_like(weight) for weight in self._weights]
        keys = {"step": self._steps, "exp_avg": self._means, "exp_avg_sq": self._squares}
        #: "parameter/key" for each key of torch's state; the tensors themselves
        self.state: State = {f"{name}/{key}": keys[key][place] for place, name in enumerate(named) for key in keys}

    @torch.no_grad()
    def step(self) -> None:
        """One update."""
        adam(
            self._weights,
            [_gradient(weight) for weight in self._weights],
            self._means,
            self._squares,
            [],
            self._steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self._learning_rate,
            weight_decay=0.0,
            eps=1e-7,
            maximize=False,
        )

    def restore(self, state: State) -> None:
        """Continue from a state."""
        assert state.keys() == self.state.keys()
        for place, value in state.items():
            self.state[place].copy_(value)


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad
