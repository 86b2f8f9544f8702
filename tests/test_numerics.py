"""What is part of a training's address because its bits depend on it."""

from pathlib import Path

import pytest
import torch

from moe import numerics
from moe.numerics import fitting_precision, settle

CPU = torch.device("cpu")


@pytest.fixture
def cpu_with(monkeypatch):
    return lambda *units: monkeypatch.setattr(numerics, "_bfloat16_units", lambda: list(units))


@pytest.mark.parametrize(
    ("device", "units", "precision"),
    [
        ("cpu", ["amx_bf16", "avx512_bf16"], "bfloat16"),
        ("cpu", ["avx512_bf16"], "float32"),
        ("cpu", [], "float32"),
        ("cuda", ["amx_bf16"], "float32"),
    ],
)
def test_bfloat16_fits_cpus_with_amx_alone(cpu_with, device, units, precision):
    cpu_with(*units)
    assert fitting_precision(device) == precision


def test_cpus_share_bfloat16_stages_where_they_have_the_same_units_and_float32_ones_regardless(cpu_with):
    found = {}
    for units in (("amx_bf16", "avx512_bf16"), ()):
        cpu_with(*units)
        found[units] = {precision: settle(CPU, precision) for precision in ("float32", "bfloat16")}
    with_amx, without = found.values()
    assert with_amx["float32"] == without["float32"]
    assert with_amx["bfloat16"] != without["bfloat16"]


def test_a_cpu_that_may_use_less_than_it_has_is_another(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: "flags: amx_bf16 avx512_bf16")
    full = settle(CPU, "bfloat16")
    assert fitting_precision("cpu") == "bfloat16"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert fitting_precision("cpu") == "float32"
    assert settle(CPU, "bfloat16") != full
    assert settle(CPU).instructions.endswith("ONEDNN_MAX_CPU_ISA=AVX512_CORE")


@pytest.fixture
def medium():
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


def test_a_process_that_lets_torch_round_float32_products_computes_them_in_full_again(medium):
    settle(CPU)
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32
