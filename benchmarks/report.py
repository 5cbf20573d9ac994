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


OTHERS = (
    "| model | L | predict in a loop | fastISM 0.5.1, by sequences a call | yuzu | input x gradient "
    "| integrated gradients |"
)


def others_table(figures: dict) -> str:
    """Seconds of every other contestant over those of this engine; empty where there were none."""
    rows = [r for r in figures["rows"] if r["others"]]
    if not rows:
        return ""
    lines = [OTHERS, "|---|---|---|---|---|---|---|"]
    for r in rows:
        fastism = [n for n in r["others"] if n.startswith("fastism")]
        cells = [
            ratio(r, "predict"),
            ", ".join(f"{n[9:-1]}: {ratio(r, n)}" for n in fastism),
            ratio(r, "yuzu (1)"),
            ratio(r, "input x gradient"),
            next((ratio(r, n) for n in r["others"] if n.startswith("integrated")), "-"),
        ]
        lines.append(f"| {r['model']} | {r['length']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ratio(row: dict, name: str) -> str:
    answer = row["others"].get(name)
    if answer is None:
        return "-"
    if "seconds" not in answer:
        return f"fails ({answer['failed'].split(':')[0]})"
    error = f", error {answer['error']:.1e}" if "error" in answer else ""
    return f"{answer['seconds'] / row['fast_seconds']:.3g}x{error}"


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
    text = "\n\n".join(filter(None, [table(figures), others_table(figures)]))
    replace_marked(HERE / "README.md", f"{machine}; medians of {figures['rounds']} rounds.\n\n{text}")
    replace_marked(HERE.parent / "README.md", table(figures))


if __name__ == "__main__":
    main()
