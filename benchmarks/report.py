"""Draw the tables of ``results.json``, ``sweeps.json`` and ``gpu.json`` into ``benchmarks/README.md``, the first into
README.md too; and the pictures of the sweeps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from benchmarks.sweep_report import draw, sweep_table

HERE = Path(__file__).parent
MARKS = ("<!-- speed: begin -->", "<!-- speed: end -->")
GPU_MARKS = ("<!-- gpu: begin -->", "<!-- gpu: end -->")
NO_GPU = "No GPU was at hand: nothing of this was measured."
COLUMNS = (
    "| model | L | naive, s | fastism, s | speedup | range | predicted | limit | of the limit |"
    "\n|---|---|---|---|---|---|---|---|---|"
)
SWEEP_MARKS = ("<!-- sweeps: begin -->", "<!-- sweeps: end -->")


def table(figures: dict) -> str:
    rows = [
        f"| {r['model']} | {r['length']} | {r['naive_seconds']:.2f} (batch {r['naive_batch']}) "
        f"| {r['fast_seconds']:.3f} | **{r['speedup']:.1f}x** "
        f"| {r['speedup_low']:.1f} to {r['speedup_high']:.1f} | {r['predicted']:.1f}x "
        f"| {r['limit']:.1f}x | {r['efficiency']:.2f} |"
        for r in figures["rows"]
    ]
    return "\n".join([COLUMNS, *rows])


OTHERS = (
    "| model | L | predict in a loop | fastISM 0.5.1, by sequences a call | tangermeme 1.6, by sequences a call | yuzu "
    "| input x gradient | integrated gradients |"
)


def others_table(figures: dict) -> str:
    """Seconds of every other contestant over those of this engine; empty where there were none."""
    rows = [r for r in figures["rows"] if r["others"]]
    if not rows:
        return ""
    lines = [OTHERS, "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        cells = [
            ratio(r, "predict"),
            by_batch(r, "fastism"),
            by_batch(r, "tangermeme"),
            ratio(r, "yuzu (1)"),
            ratio(r, "input x gradient"),
            next((ratio(r, n) for n in r["others"] if n.startswith("integrated")), "-"),
        ]
        lines.append(f"| {r['model']} | {r['length']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def by_batch(row: dict, peer: str) -> str:
    """``1: 198x, 16: 25.6x``, by the sequences of one call."""
    names = [name for name in row["others"] if name.startswith(f"{peer} (")]
    return ", ".join(f"{name[len(peer) + 2 : -1]}: {ratio(row, name)}" for name in names) or "-"


def ratio(row: dict, name: str) -> str:
    answer = row["others"].get(name)
    if answer is None:
        return "-"
    if "seconds" not in answer:
        return f"fails ({answer['failed'].split(':')[0]})"
    error = f", error {answer['error']:.1e}" if "error" in answer else ""
    return f"{answer['seconds'] / row['fast_seconds']:.3g}x{error}"


GPU_COLUMNS = (
    "| model | L | precision | sequences/s | G multiply-adds/s | of the card's rate | speedup over naive | range "
    "| error | naive's error |\n|---|---|---|---|---|---|---|---|---|---|"
)


def gpu_section(figures: dict | None) -> str:
    """What was measured on a GPU and what was not; ``figures`` is None where none was at hand."""
    if figures is None or figures["device"]["kind"] != "gpu":
        return NO_GPU
    named = ", ".join(f"{name} {value}" for name, value in figures["device"].items() if value is not None)
    rates = ", ".join(f"{rate / 1e12:.1f} T in {precision}" for precision, rate in figures["rates"].items())
    genomes = [
        f"{r['genome_hours']:.2f} h in {r['precision']} ({r['model']})" for r in figures["rows"] if r["genome_hours"]
    ]
    lines = [
        f"{named}; medians of {figures['rounds']} rounds. Multiply-adds a second of a large matrix product: {rates}."
    ]
    if genomes:
        lines.append(
            "A human genome, every substitution in 3.1 M windows of 1,000 bases, computed from the measured rates and "
            f"not run: {', '.join(genomes)}."
        )
    if figures["failed"]:
        lines.append(f"Failed: {'; '.join(figures['failed'])}.")
    if figures["not_measured"]:
        lines.append(f"Not measured, for want of time: {', '.join(figures['not_measured'])}.")
    return "\n\n".join([*lines, "\n".join([GPU_COLUMNS, *map(gpu_line, figures["rows"])])])


def gpu_line(r: dict) -> str:
    error, naive = ("-" if r[key] is None else f"{r[key]:.1e}" for key in ("error", "naive_error"))
    return (
        f"| {r['model']} | {r['length']} | {r['precision']} | {r['sequences_per_second']:.1f} "
        f"| {r['multiply_adds_per_second'] / 1e9:.0f} | {r['of_rate']:.2f} | **{r['speedup']:.1f}x** "
        f"| {r['speedup_low']:.1f} to {r['speedup_high']:.1f} | {error} | {naive} |"
    )


def replace_marked(path: Path, text: str, marks: tuple[str, str] = MARKS) -> None:
    """Put ``text`` between the marks of a file."""
    before = path.read_text()
    pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
    if not pattern.search(before):
        raise click.ClickException(f"{path} has no marks {marks[0]} ... {marks[1]}")
    path.write_text(pattern.sub(lambda _: f"{marks[0]}\n{text}\n{marks[1]}", before))


def read(name: str) -> dict | None:
    path = HERE / name
    return json.loads(path.read_text()) if path.exists() else None


def told(figures: dict) -> str:
    """``processor ..., cores 2, ...; medians of 7 rounds.``"""
    machine = ", ".join(f"{name} {value}" for name, value in figures["machine"].items())
    return f"{machine}; medians of {figures['rounds']} rounds."


@click.command()
def main() -> None:
    """Write the figures of the last ``make bench``, ``make bench-sweeps`` and ``make bench-gpu`` into the two pages."""
    page, results, sweeps = HERE / "README.md", read("results.json"), read("sweeps.json")
    if results is not None:
        replace_marked(page, "\n\n".join(filter(None, [told(results), table(results), others_table(results)])))
        replace_marked(HERE.parent / "README.md", table(results))
    if sweeps is not None:
        pictures = draw(sweeps, HERE)
        replace_marked(page, "\n\n".join([told(sweeps), *pictures, sweep_table(sweeps)]), SWEEP_MARKS)
    replace_marked(page, gpu_section(read("gpu.json")), GPU_MARKS)


if __name__ == "__main__":
    main()
