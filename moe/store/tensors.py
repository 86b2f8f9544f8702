"""Tensors as bytes, in the safetensors format: no code in it can run, and equal tensors give equal bytes."""

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save
from safetensors.torch import load
from torch import Tensor

from moe.store.manifest import DamagedError

State = dict[str, Tensor]


def pack(state: State) -> bytes:
    """Tensors by name, on any device and in any layout, as bytes.

    NumPy reorders them: torch would start its own threads for that, which compete with those that train.
    """
    return save({name: np.asarray(value.detach().cpu().numpy(), order="C") for name, value in sorted(state.items())})


def unpack(content: bytes) -> State:
    """The tensors that `pack` wrote, on the CPU; images and kernels with their channels last, as in training.

    The layout decides which kernel computes, and so the last bits of a prediction.

    Raises:
        DamagedError: `pack` did not write it.
    """
    try:
        return {name: _channels_last(value) for name, value in load(content).items()}
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedError(f"it holds no tensors: {error}") from None


def _channels_last(value: Tensor) -> Tensor:
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value
