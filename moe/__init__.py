"""A hierarchical mixture of experts on CIFAR-10: five stages, from a config to a result.

    from moe import Config, run
    result = run(Config(epochs=5))
    print(result.gain)

With `store=Store()` no stage is trained twice.

Importing this package is cheap; torch is loaded with `run`.
"""

from typing import TYPE_CHECKING, Any

from moe.config import Config

if TYPE_CHECKING:
    from moe.pipeline import run
    from moe.result import Result
    from moe.store.store import Store

__all__ = ["Config", "Result", "Store", "run"]


def __getattr__(name: str) -> Any:
    if name == "run":
        from moe.pipeline import run

        return run
    if name == "Result":
        from moe.result import Result

        return Result
    if name == "Store":
        from moe.store.store import Store

        return Store
    raise AttributeError(f"moe has no {name!r}; it has {', '.join(__all__)}")
