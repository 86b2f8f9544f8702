"""A hierarchical mixture of experts on CIFAR-10: five stages, from a config to a result.

    from moe import Config, run
    result = run(Config(epochs=5))
    print(result.gain)
    print(result)  # a table of the five stages

With `store=Store()` no stage is trained twice.

Importing this package is cheap; torch is loaded with `run` or `Store`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from moe.config import Config
from moe.result import Result

if TYPE_CHECKING:
    from moe.pipeline import run
    from moe.store.store import Store

__all__ = ["Config", "Result", "Store", "run"]

_IMPORTS_TORCH = {"run": "moe.pipeline", "Store": "moe.store.store"}


def __getattr__(name: str) -> Any:
    if name in _IMPORTS_TORCH:
        return getattr(import_module(_IMPORTS_TORCH[name]), name)
    raise AttributeError(f"moe has no {name!r}; it has {', '.join(__all__)}")
