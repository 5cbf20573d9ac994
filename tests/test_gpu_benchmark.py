"""The GPU benchmark, tried on the processor with a small model, and what the page says of its figures."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import device_rows, gpu
from benchmarks.report import NO_GPU, gpu_section
from fastism_cli.model import backend
from fastism_cli.run.start_backend import CPU, environment

# The benchmark's own page, not the product's: `make test-all` runs it.
pytestmark = [pytest.mark.exhaustive, pytest.mark.compiled]


def tried(path: Path, *options: str) -> dict:
    command = ["--cpu", "--quick", "--rounds", "2", "--json", str(path), *options]
    result = CliRunner(env=dict(environment(CPU))).invoke(gpu.main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> dict:
    return tried(tmp_path_factory.mktemp("gpu") / "gpu.json")


def test_a_row_for_each_case_with_its_error(figures):
    assert figures["not_measured"] == figures["failed"] == [] and figures["device"]["kind"] == "cpu"
    assert set(figures["rates"]) == {"float32", "tf32", "bfloat16"} and min(figures["rates"].values()) > 0
    float32, bfloat16 = figures["rows"]
    assert [float32["precision"], bfloat16["precision"]] == ["float32", "bfloat16"]
    assert 0 < float32["error"] < 1e-5 < bfloat16["error"] < bfloat16["largest_delta"]
    assert float32["naive_error"] < 1e-5
    for row in figures["rows"]:
        assert row["rate_low"] <= row["sequences_per_second"] <= row["rate_high"]
        assert row["of_rate"] == pytest.approx(row["multiply_adds_per_second"] / figures["rates"][row["precision"]])


def test_the_page_has_a_line_for_each_row_and_says_what_is_missing(figures):
    measured = {**figures, "device": {**figures["device"], "kind": "gpu"}, "not_measured": ["bpnet 2000 tf32"]}
    section = gpu_section(measured)
    assert section.count("| conv_stack | 60 |") == 2
    assert "Not measured, for want of time: bpnet 2000 tf32." in section


@pytest.mark.parametrize("cpu_only", [True, False])
def test_figures_of_a_processor_are_not_shown_as_those_of_a_gpu(figures, cpu_only):
    assert gpu_section(figures if cpu_only else None) == NO_GPU


def test_without_time_nothing_is_measured_and_all_is_named(tmp_path):
    figures = tried(tmp_path / "gpu.json", "--minutes", "0")
    assert figures["rows"] == []
    assert figures["not_measured"] == ["conv_stack 60 float32", "conv_stack 60 bfloat16"]


def test_a_row_that_fails_is_named_and_stops_no_other(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("INTERNAL: no such kernel\nand a long trace")

    monkeypatch.setattr(device_rows, "search", refuse)
    failed = tried(tmp_path / "gpu.json")
    why = "(RuntimeError: INTERNAL: no such kernel)"
    assert failed["failed"] == [f"conv_stack 60 float32 {why}", f"conv_stack 60 bfloat16 {why}"]
    assert f"Failed: conv_stack 60 float32 {why}; " in gpu_section({**failed, "device": {"kind": "gpu"}})


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(backend, "device_kind", lambda: "cpu")
    result = CliRunner().invoke(gpu.main, [])
    assert result.exit_code == 1
    assert f"{backend.BACKEND} sees no GPU here: nothing is measured" in result.output


def test_the_most_wanted_figures_come_first():
    assert gpu.ORDER[0] == ("basset", 1000, "float32")
    assert len(set(gpu.ORDER)) == len(gpu.ORDER) == 3 * 2 * 3
