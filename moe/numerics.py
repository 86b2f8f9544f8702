"""What decides the bits of a training besides its spec's choices: device kind, precision, determinism, threads.

Equal numerics promise equal bits; everything here is part of every spec.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """The arithmetic that a stage is trained with."""

    device: str  # cpu or cuda
    precision: str = "float32"  # TF32 off
    deterministic: bool = True
    torch: str  # major.minor
    threads: int = 0  # on a CPU, where the order of a sum depends on it
    instructions: str  # a CPU's instruction set, or a GPU's model and CUDA version


def settle(device: torch.device) -> Numerics:
    """Make this process compute as we promise, and say how that is.

    Process-wide settings of torch are changed: cuDNN's choice of algorithms and TF32.
    """
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    version = ".".join(torch.__version__.split(".")[:2])
    if device.type != "cpu":
        model = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
        return Numerics(device=device.type, torch=version, instructions=model)
    return Numerics(
        device="cpu",
        torch=version,
        threads=torch.get_num_threads(),
        instructions=torch.backends.cpu.get_cpu_capability(),
    )


def available_devices() -> tuple[torch.device, ...]:
    """All GPUs that this process may use, else the CPU."""
    if torch.cuda.is_available():
        return tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    return (torch.device("cpu"),)


def device_name(device: torch.device) -> str:
    """A device in words, for records."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
