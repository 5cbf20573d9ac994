"""``fastism info``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fastism_cli.cli.click_options import Strict, logging_options, result_argument
from fastism_cli.cli.messages import aligned
from fastism_cli.errors import cell
from fastism_cli.options.run_options import Window
from fastism_cli.results.schema import Status

if TYPE_CHECKING:
    from fastism_cli.results.contents import Contents, HeadContents, Range

HEADER = ("target", "reference: least", "median", "largest", "delta: least", "median", "largest")
MAX_TARGETS = 20  # of each head, that the text lists
MAX_STRETCHES = 10  # of missing rows


@click.command(cls=Strict, short_help="Show the contents of a result file.")
@result_argument
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout in place of the text; lists every target.")
@click.option("--ranges/--no-ranges", default=True, show_default=True, help="Read all scores for their ranges.")
@logging_options
def info(file: str, as_json: bool, ranges: bool) -> None:
    """Show the contents of FILE, a result of "fastism run": regions by status, heads, targets, ranges, how it was made.

    A range is the least, the median and the largest value over all regions with scores. A delta of the letter that is
    there is 0 and not counted in the median.

    Works on an unfinished file (OUT.partial) too, and says which rows are missing. "--targets" of other commands takes
    the targets as they are listed here.
    """
    from fastism_cli.results.contents import contents_of

    found = contents_of(file, ranges=ranges)
    click.echo(json.dumps(asdict(found), indent=2) if as_json else "\n".join(text(found)))


def text(found: Contents) -> list[str]:
    """For a person."""
    heads = [line for head in found.heads for line in _head(head)]
    return [*_what(found), "", *heads, *_sampled(found), "", *_made(found)]


def _what(found: Contents) -> list[str]:
    statuses = ", ".join(f"{count:,} {Status[name.upper()].label}" for name, count in found.statuses.items())
    strand = "+ strand, or the reverse complement of - records" if found.stranded else "+ strand"
    shard = f", shard {found.shard_index}/{found.num_shards}" if found.num_shards > 1 else ""
    rows = f"rows {found.row_start:,} to {found.row_stop - 1:,}" if found.rows else "no rows"
    part = f" ({rows} of {found.n_total:,}{shard})"
    place = Window(found.window, found.window_first).place
    lines = [
        f"{found.path}: {'complete' if found.complete else 'NOT FINISHED'}, format version {found.format_version}",
        f"regions   {found.rows:,}{part if found.rows < found.n_total else ''}: {statuses or 'none'}",
        f"window    {found.window:,} of {found.length:,} bases{place and f' ({place})'}, {found.alphabet}, {strand}",
        f"genome    {found.contigs:,} contigs; {found.padded:,} regions pass an end of theirs",
    ]
    lines += [f"mean      {line}" for line in _mean(found)]
    lines += [f"pairs     {found.pairs.text}: interactions in /pairs"] if found.pairs else []
    lines += [f"blocks    {found.blocks.text}"] if found.blocks else []
    return lines + ([f"missing   rows {_listed(found)}"] if found.missing else [])


def _mean(found: Contents) -> list[str]:
    """What every score is the mean of, and then each model in a line of its own; nothing if it is no mean."""
    if found.averaged is None:
        return []
    models = [cell(model.path) or "a model given as an object" for model in found.averaged.models]
    spread = "; delta_sd has the deviation over models" if found.has_spread else ""
    return [f"{found.averaged.text}{spread}", *(models if len(models) > 1 else [])]


def _listed(found: Contents) -> str:
    shown = [f"{start:,} to {stop - 1:,}" if stop - start > 1 else f"{start:,}" for start, stop in found.missing]
    more = len(shown) - MAX_STRETCHES
    return ", ".join(shown[:MAX_STRETCHES]) + (f" and {more:,} more stretches" if more > 0 else "")


def _head(head: HeadContents) -> list[str]:
    reduced = "" if head.reduce == "none" else f", positions by {head.reduce}"
    rows: list[tuple[str, ...]] = [HEADER]
    rows += [(cell(t.name), *_ends(t.reference), *_ends(t.delta)) for t in head.targets[:MAX_TARGETS]]
    more = len(head.targets) - MAX_TARGETS
    lines = aligned(rows, right=range(1, 7))
    return [
        f"head {cell(head.name)}: {head.shape}{reduced}, {head.dtype}",
        *(f"  {line}" for line in lines),
        *([f"  ... and {more:,} more (--json lists them)"] if more > 0 else []),
    ]


def _sampled(found: Contents) -> list[str]:
    """A line if the medians are not of all regions."""
    scored = found.statuses.get(Status.OK.name.lower(), 0)
    if not 0 < found.median_rows < scored:
        return []
    return [f"medians of deltas are those of {found.median_rows:,} regions, evenly spread over all"]


def _ends(found: Range | None) -> tuple[str, ...]:
    values = (found.least, found.median, found.largest) if found else (None, None, None)
    return tuple("-" if value is None else f"{value:.4g}" for value in values)


def _made(found: Contents) -> list[str]:
    return aligned([(name, cell(str(value))) for name, value in found.made.items() if value != ""])
