"""Few images for the tests and every process that has this folder in PYTHONPATH: Ray's workers too."""

import importlib.abc
import importlib.machinery
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

FEW = {
    "moe.config": {"VALIDATION_EXAMPLES": 100},
    "moe.data.dataset": {"ROWS": {"train": 2000, "test": 500}},
}


class Finder(importlib.abc.MetaPathFinder):
    """Changes constants of modules as soon as they are loaded."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """The spec of a module, whose loader changes it afterwards."""
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name in FEW else None  # type: ignore[arg-type]
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            vars(module).update(FEW[name])

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Finder())
