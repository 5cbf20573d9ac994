"""The benchmark of blocks and of several models, tried on short sequences: it runs, and says what misses its mark."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from benchmarks import blocks
from benchmarks.models import conv_stack

pytestmark = pytest.mark.one_in(24)


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> dict:
    """All cases, with a small model in the place of each."""
    path = tmp_path_factory.mktemp("blocks") / "blocks.json"
    command = ["--length", "96", "--rounds", "2", "--naive-batch", "8", "--folds", "2", "--no-floors"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(blocks, "MODELS", dict.fromkeys(blocks.MODELS, lambda length: conv_stack(length, 2)))
        patched.setattr(blocks, "REDUCE", {})
        result = CliRunner().invoke(blocks.main, [*command, "--json", str(path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.output.count("check ok: ") == result.output.count(" blocks against plain Keras in float64") == 3
    return json.loads(path.read_text())


def test_a_row_for_each_case_with_its_limit(figures):
    assert [(row["model"], row["width"], row["step"]) for row in figures["rows"]] == [
        ("basset", 10, 1),
        ("basset", 50, 10),
        ("bpnet", 20, 5),
    ]
    assert [row["blocks"] for row in figures["rows"]] == [87, 5, 16]
    for row in figures["rows"]:
        assert row["speedup_low"] <= row["speedup"] <= row["speedup_high"] and row["naive_batch"] == 8
        assert row["limit"] > 1 and row["efficiency"] == pytest.approx(row["speedup"] / row["limit"])


def test_models_of_one_architecture_are_compiled_once(figures):
    folds = figures["folds"]
    assert folds["models"] == 2 and folds["compiled"] == folds["compiled_of_one"] >= 1
    assert folds["times_low"] <= folds["times"] <= folds["times_high"]


def test_what_misses_its_mark_is_named(figures):
    rows = [blocks.BlocksRow(**row) for row in figures["rows"]]
    folds = blocks.FoldsRow(**figures["folds"])
    good = [replace(row, speedup=30.0, efficiency=0.9) for row in rows]
    held = replace(folds, times=1.05)
    assert blocks.faults(good, [20, 8, 3], held) == []
    slow = [replace(good[0], speedup=19.0), replace(good[1], efficiency=0.5), good[2]]
    assert blocks.faults(slow, [20, 8, 3], replace(folds, times=1.2, compiled=folds.compiled + 1)) == [
        "basset, width 10: 19.0x, below 20x",
        "basset, width 50: 0.50 of the limit, below 0.75",
        "the mean of 2 models: 1.20 times as many engines, above 1.1",
        f"the mean of 2 models: {folds.compiled + 1} engines compiled, not {folds.compiled_of_one}",
    ]
