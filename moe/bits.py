"""One bit per image, as text of JSON: the base64 of numpy.packbits."""

from base64 import b64decode, b64encode

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


def pack(bits: Bools) -> str:
    """(N,) bool as text."""
    return b64encode(np.packbits(bits).tobytes()).decode()


def unpack(text: str, count: int) -> Bools:
    """The first so many bits of a text that `pack` made, as (count,) bool."""
    return np.unpackbits(np.frombuffer(b64decode(text), np.uint8), count=count).astype(bool)
