"""The stage store: no stage is trained twice. README.md in this folder has its promises.

    <store>/<stage>/<address>/chain-0005.json         manifest: the metrics of five epochs, and which files hold what
                              <sha256>.safetensors    weights after an epoch, or the state to resume training from
                              predictions-0003-stop-<sha256>.safetensors    of epoch 3's network for a set of images
                              lease-0001.json, .beat  which process trains the chain, and its heartbeat
                              used-1000               when user 1000 last used the chain, in seconds since 1970
            aside/<stage>/<address>/                  files that did not match their hash

A chain appears whole or not at all: its files are written first, its manifest last, and no manifest is overwritten.
Only what matches its SHA-256 is read. Leases save work only: two processes that train one chain get the same bits.
"""
