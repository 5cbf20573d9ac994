"""Draw the table of ``results.json`` into ``benchmarks/README.md`` and the project's README."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

HERE = Path(__file__).parent
MARKS = ("<!-- speed: begin -->", "<!-- speed: end -->")
COLUMNS = (
    "| model | L | naive, s | fastism, s | speedup | range | limit | of the limit |\n|---|---|---|---|---|---|---|---|"
)


def table(figures: dict) -> str:
    rows = [
        f"| {r['model']} | {r['length']} | {r['naive_seconds']:.2f} (batch {r['naive_batch']}) "
        f"| {r['fast_seconds']:.3f} | **{r['speedup']:.1f}x** "
        f"| {r['speedup_low']:.1f} to {r['speedup_high']:.1f} | {r['limit']:.1f}x | {r['efficiency']:.2f} |"
        for r in figures["rows"]
    ]
    return "\n".join([COLUMNS, *rows])


def replace_marked(path: Path, text: str) -> None:
    """Put ``text`` between the marks of a file."""
    before = path.read_text()
    pattern = re.compile(f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}", re.DOTALL)
    if not pattern.search(before):
        raise click.ClickException(f"{path} has no marks {MARKS[0]} ... {MARKS[1]}")
    path.write_text(pattern.sub(lambda _: f"{MARKS[0]}\n{text}\n{MARKS[1]}", before))


@click.command()
def main() -> None:
    """Write the figures of the last ``make bench`` into the two pages."""
    figures = json.loads((HERE / "results.json").read_text())
    machine = ", ".join(f"{name} {value}" for name, value in figures["machine"].items())
    replace_marked(HERE / "README.md", f"{machine}; medians of {figures['rounds']} rounds.\n\n{table(figures)}")
    replace_marked(HERE.parent / "README.md", table(figures))


if __name__ == "__main__":
    main()
