"""The images: CIFAR-10 from a folder, the cache or the network, or `shapes`, which are drawn by code.

    data = load()  # CIFAR-10 if it can be had, else shapes; data.source names which and why
    pool, validation = holdout(data.train_labels, seed=0)

They are decoded once into the cache, and every process maps the same memory.

`from moe.data import load` imports torch; `moe.data` alone, and `moe.data.cifar10` that finds the files, do not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe.data.dataset import DataError, DataSet
    from moe.data.loading import load
    from moe.data.subset import holdout

__all__ = ["DataError", "DataSet", "holdout", "load"]
_MODULES = {"DataError": "dataset", "DataSet": "dataset", "holdout": "subset", "load": "loading"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"{__name__} has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
