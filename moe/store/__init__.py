"""The stage store: no stage is trained twice.

    <place>/<stage>/<address>/chain-0005.json         five epochs: their metrics, which content holds what, who made it
                              <sha256>.safetensors    content: weights after an epoch, or what it takes to go on
                              says-0003-stop-<sha256>.safetensors   what the network of epoch 3 says of some images
                              lease-0001.json, .beat  who trains it, and that they are alive
                              used                    when it was last of use
            sessions/                                 who is at work here; nothing that they need is evicted
            aside/                                    what did not match its hash

A chain appears whole or not at all: its content is written first, its manifest last and never over another. A reader
trusts only what matches its sha256. Leases save work and nothing else: without them two trainers find the same.
"""
