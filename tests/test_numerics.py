"""What is part of a training's address because its bits depend on it."""

import pytest
import torch

from moe.training import numerics
from moe.training.numerics import best_precision, configure_numerics

CPU = torch.device("cpu")


@pytest.fixture
def cpu_with(monkeypatch):
    return lambda *units: monkeypatch.setattr(numerics, "_bfloat16_units", lambda: list(units))


@pytest.mark.parametrize(
    ("device", "units", "precision"),
    [
        ("cpu", ["amx_bf16", "avx512_bf16"], "bfloat16"),
        ("cpu", ["avx512_bf16"], "bfloat16"),
        ("cpu", [], "float32"),
        ("cuda", ["amx_bf16"], "float32"),
    ],
)
def test_bfloat16_fits_cpus_with_instructions_for_it(cpu_with, device, units, precision):
    cpu_with(*units)
    assert best_precision(device) == precision


def test_cpus_share_bfloat16_stages_where_they_have_the_same_units_and_float32_ones_regardless(cpu_with):
    found = {}
    for units in (("amx_bf16", "avx512_bf16"), ()):
        cpu_with(*units)
        found[units] = {precision: configure_numerics(CPU, precision) for precision in ("float32", "bfloat16")}
    with_amx, without = found.values()
    assert with_amx["float32"] == without["float32"]
    assert with_amx["bfloat16"] != without["bfloat16"]


@pytest.mark.parametrize(
    ("limit", "precision"),
    [
        ("AVX512_CORE", "float32"),
        ("avx512_core_amx", "bfloat16"),
        ("DEFAULT", "bfloat16"),
        ("AVX512_CORE_BF16", "float32"),
    ],
)
def test_bfloat16_fits_a_cpu_whose_amx_may_be_used(monkeypatch, cpu_with, limit, precision):
    cpu_with("amx_bf16")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert best_precision("cpu") == precision


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"])
def test_what_a_user_lets_convolutions_do_is_part_of_the_address(monkeypatch, cpu_with, name):
    cpu_with("avx512_bf16")
    free = configure_numerics(CPU)
    monkeypatch.setenv(name, "AVX512_CORE_BF16")
    limited = configure_numerics(CPU), configure_numerics(CPU, "bfloat16")
    assert limited[0] != free
    cpu_with()
    assert (configure_numerics(CPU) == limited[0], configure_numerics(CPU, "bfloat16") == limited[1]) == (True, False)


@pytest.fixture
def medium():
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


def test_a_process_that_lets_torch_round_float32_products_computes_them_in_full_again(medium):
    configure_numerics(CPU)
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32
