"""The stage store: no stage is trained twice. README.md in this folder has its promises.

    <store>/<stage>/<address>/chain-0005.json         manifest: the metrics of five epochs, and which files hold what
                              <sha256>.safetensors    weights after an epoch, or the state to resume training from
                              predictions-0003-stop-<sha256>.safetensors    of epoch 3's network for a set of images
                              lease-0001.json, .beat  which process trains the chain, and its heartbeat
                              used-1000               when user 1000 last used the chain, in seconds since 1970
            aside/<stage>/<address>/                  files that did not match their hash

A chain appears whole or not at all: its files are written first, its manifest last, and no manifest is overwritten.
Only what matches its SHA-256 is read. Leases save work only: two processes that train one chain get the same bits.

`from moe.store import Store` imports torch; `moe.store` alone does not.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe.store.store import Store

__all__ = ["Store"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"{__name__} has no {name!r}; it has {', '.join(__all__)}")
    from moe.store import store

    return getattr(store, name)
