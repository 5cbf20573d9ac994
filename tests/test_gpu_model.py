"""The reading of HLO texts, and the roofline: against a program that is short enough to count by hand."""

import json
from dataclasses import replace

import pytest

from benchmarks.gpu_model import (
    CASES,
    FIGURES,
    H100,
    MAX_TRANSPOSE,
    PRECISIONS,
    Row,
    faults,
    in_tiles,
    modelled,
    page,
    roofline,
)
from benchmarks.hlo import Kernel, Product, kernels, parse

HLO = """HloModule jit_f, is_scheduled=true

%fused_add (param_0: f32[8,128], param_1: f32[100,128]) -> f32[8,128] {
  %param_0 = f32[8,128]{1,0} parameter(0)
  %param_1 = f32[100,128]{1,0} parameter(1)
  %slice.1 = f32[8,128]{1,0} slice(%param_1), slice={[0:8], [0:128]}
  ROOT %add.1 = f32[8,128]{1,0} add(%param_0, %slice.1)
}

%fused_transpose (param_0.1: f32[1000,512]) -> f32[512,1000] {
  %param_0.1 = f32[1000,512]{1,0} parameter(0)
  ROOT %transpose.1 = f32[512,1000]{1,0} transpose(%param_0.1), dimensions={1,0}
}

%body (arg: (f32[8,128])) -> (f32[8,128]) {
  %arg = (f32[8,128]{1,0}) parameter(0)
  %get = f32[8,128]{1,0} get-tuple-element(%arg), index=0
  %copy.7 = f32[8,128]{0,1} copy(%get)
  ROOT %tuple.1 = (f32[8,128]{0,1}) tuple(%copy.7)
}

ENTRY %main (a: f32[8,128], b: f32[100,128], w: f32[128,64], big: f32[1000,512]) -> f32[8,64] {
  %a = f32[8,128]{1,0} parameter(0)
  %b = f32[100,128]{1,0} parameter(1)
  %w = f32[128,64]{1,0} parameter(2)
  %big = f32[1000,512]{1,0} parameter(3)
  %add_fusion = f32[8,128]{1,0} fusion(%a, %b), kind=kLoop, calls=%fused_add, metadata={op_name="jit(f)/add"}
  %transpose_fusion = f32[512,1000]{1,0} fusion(%big), kind=kInput, calls=%fused_transpose
  %loop = (f32[8,128]{0,1}) while(%add_fusion), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %dot.1 = f32[8,64]{1,0} dot(%add_fusion, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""


def test_every_kernel_is_counted():
    add, transpose, copies, product = kernels(HLO)
    assert (add.kind, add.read, add.written, add.operations) == ("elementwise", 2 * 8 * 128 * 4, 8 * 128 * 4, 8 * 128)
    assert add.scope == "jit(f)/add"
    assert (transpose.kind, transpose.bytes) == ("transpose", 2 * 4 * 512_000)
    assert (copies.kind, copies.times) == ("transpose", 3)  # the copy changes the order in memory
    assert product.products == (Product(batch=1, m=8, n=64, k=128),)
    assert product.read == 4 * (8 * 128 + 128 * 64) and product.multiply_adds == 8 * 64 * 128


def test_a_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        parse("HloModule jit_f\n")


@pytest.mark.parametrize(
    ("kernel", "bound", "seconds"),
    [
        (Kernel("elementwise", 0, 100), "start", H100.kernel),
        (Kernel("elementwise", 10**9, 10**9), "memory", 2e9 / H100.bandwidth),
        (Kernel("product", 10, 10, products=(Product(1, 8192, 8192, 8192),)), "products", 2 * 8192**3 / 52e12),
        (Kernel("elementwise", 10, 10, operations=10**10), "arithmetic", 1e10 / H100.elementwise),
    ],
)
def test_the_slowest_of_memory_products_and_start_bounds_a_kernel(kernel, bound, seconds):
    assert roofline(kernel, H100, "float32") == (bound, pytest.approx(seconds))


def test_products_are_filled_up_to_tiles():
    assert in_tiles(Product(batch=2, m=65, n=1, k=3)) == 2 * 128 * 64 * 3


def program(**changes):
    return {
        "model": "basset", "length": 1000, "precision": "float32", "sequences": 1, "positions": 8, "alternates": 3,
        "calls": 2, "temporary": 10, "outputs": 0, "planned_bytes": 20, **changes,
    }  # fmt: skip


def row(found, **changes):
    of_chunk = modelled(program(**changes), found, H100)
    return Row("basset", 1000, "float32", of_chunk, of_chunk, replace(of_chunk, seconds=10 * of_chunk.seconds))


def test_faults_are_named():
    small = Kernel("elementwise", 480, 0)
    sound = row([small])
    assert faults(sound, {}) == [] and sound.speedup == pytest.approx(10)
    assert "transpose of 2.0 MB" in faults(row([Kernel("transpose", 0, 2_000_000)]), {})[0]
    assert "peak" in faults(row([small], temporary=30), {})[0]
    recorded = {"basset 1000 float32": {"bytes_a_substitution": 10.0}}
    assert "20 bytes for a substitution, 10 before" in faults(sound, recorded)[0]


def test_the_page_says_that_nothing_was_measured():
    text = page([row([Kernel("elementwise", 480, 0)])])
    assert "no measurement" in text and "| basset | 1000 | float32 | 1 |" in text and "human genome" in text


def test_the_recorded_figures_are_of_every_model_in_every_precision():
    rows = json.loads(FIGURES.read_text())["rows"]
    assert set(rows) == {f"{name} {length} {precision}" for name, length in CASES for precision in PRECISIONS}
    for row in rows.values():
        chunk = row["chunk"]
        assert chunk["largest_transpose"] <= MAX_TRANSPOSE
        assert chunk["program"]["temporary"] + chunk["program"]["outputs"] <= chunk["program"]["planned_bytes"]
        assert len([stage for stage in chunk["stages"] if stage.startswith("stage of ")]) > 3
