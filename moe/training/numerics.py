"""The arithmetic of a training: device kind, precision, determinism. It is part of every spec.

Equal specs with equal numerics give equal bits, on any number of cores: torch computes on one thread.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from moe import machine
from moe.config import BFLOAT16, FLOAT32, Precision

#: variables that limit the instructions of oneDNN, which multiplies on CPUs, or let it round more
MOST_INSTRUCTIONS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
ROUNDING = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """The arithmetic that a stage is trained with."""

    device: str  # cpu or cuda
    precision: str = FLOAT32  # without TF32; or bfloat16
    deterministic: bool = True
    torch: str  # major.minor
    instructions: str  # a CPU's instruction set, or a GPU's model, multiprocessors and CUDA version


def best_precision(device_type: str) -> Precision:
    """The precision in which a kind of device, "cpu" or "cuda", trains fastest without losing accuracy.

    It is bfloat16 on CPUs with instructions for such products, AMX or avx512_bf16. `tests/benchmarks/README.md` has the
    accuracy over seeds with AMX; `python -m tests.benchmarks.precision` compares on any CPU.
    """
    units = set(_bfloat16_units())
    for limit in (os.environ.get(name, "").upper() for name in MOST_INSTRUCTIONS):
        if "BF16" in limit or "FP16" in limit:
            units &= {"avx512_bf16"}
        elif "AMX" not in limit and limit not in ("", "ALL", "DEFAULT"):
            units.clear()
    return BFLOAT16 if device_type == "cpu" and units else FLOAT32


def _bfloat16_units() -> list[str]:
    """The CPU flags for bfloat16 products, as in /proc/cpuinfo; empty on systems other than Linux."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return sorted(flags & {"amx_bf16", "avx512_bf16"})


def _instructions(precision: str) -> str:
    """A CPU's instruction set, with the units for bfloat16, which change its bits and which torch does not report."""
    units = _bfloat16_units() if precision == BFLOAT16 else []
    limits = [f"{name}={os.environ[name]}" for name in (*MOST_INSTRUCTIONS, *ROUNDING) if os.environ.get(name)]
    return " ".join([torch.backends.cpu.get_cpu_capability(), *units, *limits])


def configure_numerics(device: torch.device, precision: str = FLOAT32) -> Numerics:
    """Enable deterministic kernels in this process; return the settings for the cache key.

    Changes cuDNN's choice of algorithms, TF32, the precision of float32 products, and whether freed memory is kept.

    Raises:
        ValueError: it is another kind of device, such as Apple's GPU, mps.
    """
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {device}; expected cpu or cuda, whose arithmetic is known")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")  # neither TF32 on a GPU nor, on a CPU, bfloat16
    version = ".".join(torch.__version__.split(".")[:2])
    if device.type != "cpu":
        units = torch.cuda.get_device_properties(device).multi_processor_count  # fewer in a part of a GPU: MIG, MPS
        model = f"{torch.cuda.get_device_name(device)}, {units} multiprocessors, CUDA {torch.version.cuda}"
        return Numerics(device=device.type, precision=precision, torch=version, instructions=model)
    _keep_freed_memory()
    return Numerics(device="cpu", precision=precision, torch=version, instructions=_instructions(precision))


_inside: list[int] = []  # for each thread within `one_thread`, the number that it had; the first entered first
_inside_lock = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it, torch computes on one thread: the order of a sum depends on how many there are.

    It is entered in every thread that trains or predicts, because OpenMP keeps the number per thread. MKL keeps one for
    the process: so the number from before returns only when the last thread has left.
    """
    with _inside_lock:
        _inside.append(torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _inside_lock:
            if len(_inside) == 1:
                torch.set_num_threads(_inside[0])
                _inside.clear()
            else:
                _inside.pop()


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step, instead of requesting the same pages from the kernel again.

    All threads share one heap: with one for each thread, what every one of them keeps grows from run to run. A worker
    of a study was seen at 2.5 GB so, after 80 trials. Does nothing with other C libraries. The numbers are
    M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX of malloc.h.
    """
    with suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 32 * 2**20)
        libc.mallopt(-1, 2**30)
        libc.mallopt(-8, 1)


def available_devices() -> tuple[torch.device, ...]:
    """The GPUs that this process may use, or else its CPUs."""
    return available_gpus() or available_cpus()


def available_cpus() -> tuple[torch.device, ...]:
    """The CPU, once for each that this process may use."""
    return (torch.device("cpu"),) * machine.cpus()


def available_gpus() -> tuple[torch.device, ...]:
    """The GPUs that this process may use and that are of the first one's model.

    A spec names the model before it is known which GPU trains the stage, so all must be of one model.
    """
    if not torch.cuda.is_available():
        return ()
    models = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return tuple(torch.device("cuda", index) for index, model in enumerate(models) if model == models[0])


def device_name(device: torch.device) -> str:
    """The name of a device, for records."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
