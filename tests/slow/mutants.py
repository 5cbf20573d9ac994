"""``python -m tests.slow.mutants``: rules broken on purpose, one at a time; each must make a test fail.

Works on a copy of the package, and runs what ``make test`` runs. Prints for each break which test caught it, and exits
with 1 if one survives.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ENGINE = "tests/engine/test_fast.py::test_engine_equals_plain_keras"


class Break(NamedTuple):
    """One change of the package, and the tests that are to find it: ``file``'s only ``old`` becomes ``new``."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def toys(*names: str) -> tuple[str, ...]:
    return tuple(f"{ENGINE}[{name}]" for name in names)


BREAKS = (
    Break(
        "the odd zero of Conv1D's padding on the left",
        "rules/frames.py",
        "return total // 2, total - total // 2",
        "return total - total // 2, total // 2",
        toys("stacked_even_same", "strided_tower"),
    ),
    Break(
        "windows of changed positions one too narrow",
        "rules/frames.py",
        "(stop - 1 + pad_left) // stride + 1 for stop",
        "(stop - 1 + pad_left) // stride for stop",
        toys("residual", "conv_pools_dense-one"),
    ),
    Break(
        "strided layers read from another phase",
        "rules/frames.py",
        "starts = tuple(start * stride - pad_left for start in out.starts)",
        "starts = tuple(start * stride for start in out.starts)",
        toys("strided_tower", "conv_between-stride_over_span"),
    ),
    Break(
        "the last position of a pooling window left out",
        "rules/pool.py",
        "            for offset in range(size)\n        ]",
        "            for offset in range(max(size - 1, 1))\n        ]",
        toys("max_between-divisible", "average_between-divisible"),
    ),
    Break(
        "the product of a difference of rows added, not subtracted",
        "rules/conv.py",
        'term("difference", 1, False)',
        'term("difference", 1)',
        ("tests/rules/test_fewer_products.py",),
    ),
    Break(
        "average pooling counts the positions of its padding",
        "rules/pool.py",
        "ops.minimum(left + size, n_in) - ops.maximum(left, 0)",
        "ops.minimum(left + size, n_in) - left",
        toys("average_between-overlapping_same", "pool_tower_even_same"),
    ),
    Break(
        "the hull of two windows as narrow as their overlap",
        "rules/frames.py",
        "stops = tuple(map(max, *(f.stops for f in frames)))",
        "stops = tuple(map(min, *(f.stops for f in frames)))",
        toys("inception", "merge_of_widths-add"),
    ),
    Break(
        "cropping moves positions the other way",
        "rules/reshape.py",
        "self.sign * getattr(facts.layer, self.amounts)[0]",
        "-self.sign * getattr(facts.layer, self.amounts)[0]",
        toys("crop_then_add", "conv_crops_dense-even"),
    ),
    Break(
        "a sum of branches forgets its last one",
        "rules/combine.py",
        "total = sum(terms[1:], terms[0])",
        "total = sum(terms[1:-1], terms[0])",
        toys("residual"),
    ),
    Break(
        "the sign of the first delta",
        "engine/fast.py",
        "return as_rows(new, x) - here",
        "return here - as_rows(new, x)",
        toys("linear_regression"),
    ),
    Break(
        "scores written at the mirrored columns",
        "engine/inputs_and_scores.py",
        "np.arange(n)[:, None, None], at[None, :, None]",
        "np.arange(n)[:, None, None], at[None, ::-1, None]",
        toys("linear_regression"),
    ),
    Break(
        "positions of N are scored",
        "engine/inputs_and_scores.py",
        "row, column = np.nonzero(where)",
        "row, column = np.nonzero(where & False)",
        ("tests/engine/test_fastism.py::test_reference_letter_is_exactly_zero_and_n_is_nan",),
    ),
    Break(
        "the reverse complement is a complement alone",
        "genome/alphabet.py",
        "self._complement.take(self._checked(codes)[..., ::-1])",
        "self._complement.take(self._checked(codes))",
        ("tests/genome/test_alphabet.py",),
    ),
)


def apply(change: Break, package: Path) -> None:
    path = package / change.file
    text = path.read_text()
    if text.count(change.old) != 1:
        raise SystemExit(
            f"mutants: {change.file} holds {text.count(change.old)} times, not once, what '{change.name}' is to "
            f"change: {change.old!r}. Bring tests/slow/mutants.py up to date."
        )
    path.write_text(text.replace(change.old, change.new))


def failing_test(change: Break | None, tests: tuple[str, ...]) -> str | None:
    """The first test that fails with this change (None: without one), or None."""
    with tempfile.TemporaryDirectory() as folder:
        ignored = shutil.ignore_patterns("__pycache__", "out")
        for name in ("fastism_cli", "tests", "examples", "benchmarks", "docs"):
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=ignored)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, folder)
        if change is not None:
            apply(change, Path(folder) / "fastism_cli")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": folder}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    failed = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    if done.returncode == 0:
        return None
    if done.returncode != 1 or failed is None:
        raise SystemExit(f"mutants: pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return failed[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="breaks whose name holds this", default="")
    wanted = [change for change in BREAKS if parser.parse_args().only in change.name]
    tests = tuple(dict.fromkeys(test for change in wanted for test in change.tests))
    if failed := failing_test(None, tests):
        raise SystemExit(f"mutants: {failed} fails without any change")
    survivors = 0
    for change in wanted:
        began = time.monotonic()
        caught = failing_test(change, change.tests)
        survivors += caught is None
        verdict = f"caught by {caught}" if caught else "SURVIVES"
        print(f"{change.name}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(wanted)} rules broken on purpose, {survivors} not caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
