"""Look at a result of ``fastism run`` in the terminal, and check it against the motifs that were planted.

    python examples/show.py examples/out/demo.ism.h5

Needs the file, numpy, h5py and click: neither Keras nor the model.
"""

import csv
import sys
from pathlib import Path
from typing import NamedTuple

import click
import h5py
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

OK = 1  # /regions/status
BASES = "ACGTN"
COLOURS = dict(zip(BASES, ["green", "blue", "yellow", "red", "white"], strict=True))
BARS = " ▁▂▃▄▅▆▇█"
COLUMNS = 64  # of plot; with the labels a line stays below 80
BAR_ROWS = 4
TOP_WINDOW = 11  # bases; regions are ranked by the strongest window of this width
HIGHLIGHT = 0.25  # of the strongest base in view


class Region(NamedTuple):
    """A scored region; column ``i`` of its arrays is the base at ``start + i``, or, if ``flipped``, ``end - 1 - i``."""

    chrom: str
    start: int
    end: int
    name: str
    strand: str
    flipped: bool


class Motif(NamedTuple):
    chrom: str
    start: int
    end: int
    motif: str
    strand: str


class Result(NamedTuple):
    """The scored regions of a file; a track is one target of one head."""

    regions: list[Region]
    tracks: list[str]
    seq: np.ndarray  # uint8 (n_regions, length)
    reference: np.ndarray  # float32 (n_regions, n_tracks)
    importance: np.ndarray  # float32 (n_regions, n_tracks, length), NaN at an N


class Placed(NamedTuple):
    """A planted motif in the columns of a region's arrays."""

    start: int
    width: int
    motif: str
    strand: str


# ---- reading


def read_result(path: Path) -> Result:
    if not h5py.is_hdf5(path):
        raise click.ClickException(f"{path} is not an HDF5 file")
    with h5py.File(path) as file:
        missing = [name for name in ("seq", "delta", "ref", "regions") if name not in file]
        if missing:
            raise click.ClickException(f"{path} is not a result of fastism run: it has no /{missing[0]}")
        scored = np.flatnonzero(file["regions/status"][:] == OK)
        if not len(scored):
            raise click.ClickException(f"{path} has no scored region (of {len(file['regions/status'])})")
        seq = file["seq"][:][scored]
        heads = sorted(file["delta"])
        importance = [reference_importance(file["delta"][head], seq, scored) for head in heads]
        return Result(
            regions=read_regions(file, scored, seq.shape[1]),
            tracks=[track for head in heads for track in track_names(file, head)],
            seq=seq,
            reference=np.concatenate([file["ref"][head][:][scored] for head in heads], axis=1),
            importance=np.concatenate(importance, axis=1),
        )


def reference_importance(delta: h5py.Dataset, seq: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """How much the prediction owes to each base that is there, float32 (n_regions, n_targets, length).

    The hypothetical importance of a base is its delta minus the mean delta of the four bases at that position. The
    delta of the reference base is 0, so for that base it is minus the mean: positive where substitutions lower the
    prediction. A position that holds an N has no reference base and no importance: NaN.
    """
    per_row = [
        np.where(bases == BASES.index("N"), np.nan, -delta[row].mean(axis=2))
        for row, bases in zip(scored, seq, strict=True)
    ]
    return np.stack(per_row).astype("float32")


def read_regions(file: h5py.File, scored: np.ndarray, length: int) -> list[Region]:
    columns = {name: file["regions"][name][:][scored] for name in ("chrom", "start", "end", "name", "strand")}
    stranded = bool(file.attrs.get("stranded", False))
    regions = []
    for values in zip(*columns.values(), strict=True):
        chrom, start, end, name, strand = (text(value) for value in values)
        if int(end) - int(start) != length:
            raise click.ClickException(
                f"{name}: the demo expects one column a base, received {length} columns for {chrom}:{start}-{end}"
            )
        regions.append(Region(chrom, int(start), int(end), name, strand, flipped=stranded and strand == "-"))
    return regions


def track_names(file: h5py.File, head: str) -> list[str]:
    n_targets = file["delta"][head].shape[1]
    if n_targets == 1:
        return [head]
    if f"outputs/{head}/names" in file:
        return [text(name) for name in file[f"outputs/{head}/names"][:]]
    return [f"{head}[{target}]" for target in range(n_targets)]


def read_motifs(path: Path, tracks: list[str]) -> list[Motif]:
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    motifs = [Motif(r["chrom"], int(r["start"]), int(r["end"]), r["motif"], r["strand"]) for r in rows]
    unknown = sorted({motif.motif for motif in motifs} - set(tracks))
    if unknown:
        raise click.ClickException(f"{path}: no output is called {', '.join(unknown)}; there are {', '.join(tracks)}")
    return motifs


def text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# ---- the check


def place(motifs: list[Motif], region: Region) -> list[Placed]:
    """The motifs that lie wholly inside the region."""
    placed = []
    for chrom, start, end, motif, strand in motifs:
        if chrom == region.chrom and region.start <= start and end <= region.end:
            column = region.end - end if region.flipped else start - region.start
            seen = {"+": "-", "-": "+"}[strand] if region.flipped else strand
            placed.append(Placed(column, end - start, motif, seen))
    return placed


def window_sums(importance: np.ndarray, width: int) -> np.ndarray:
    """Sum of each window of the last axis; an N counts as 0."""
    return sliding_window_view(np.nan_to_num(importance), width, axis=-1).sum(axis=-1)


def is_found(motif: Placed, track: np.ndarray) -> bool:
    """Whether the strongest window of the motif's width covers at least half of the motif."""
    strongest = int(window_sums(track, motif.width).argmax())
    return abs(strongest - motif.start) <= motif.width // 2


def chance(motif: Placed, length: int) -> float:
    """The probability that a window placed at random would count as finding the motif."""
    return (2 * (motif.width // 2) + 1) / (length - motif.width + 1)


def check(result: Result, motifs: list[Motif], at_least: float) -> bool:
    """Print how many of the planted motifs were found; whether that is enough."""
    found: dict[str, list[bool]] = {track: [] for track in result.tracks}
    by_chance = 0.0
    for region, tracks in zip(result.regions, result.importance, strict=True):
        for motif in place(motifs, region):
            found[motif.motif].append(is_found(motif, tracks[result.tracks.index(motif.motif)]))
            by_chance += chance(motif, tracks.shape[1])
    n_found, n_planted = sum(map(sum, found.values())), sum(map(len, found.values()))
    if not n_planted:
        raise click.ClickException("no planted motif lies in a scored region: are these the regions of demo.bed?")

    for track, hits in found.items():
        click.echo(f"{track:>8}  {sum(hits):3d} of {len(hits)} found")
    enough = n_found >= at_least * n_planted
    verdict = click.style("ok", fg="green") if enough else click.style(f"below {at_least:.0%}", fg="red")
    click.echo(
        f"Of {n_planted} motifs planted in {len(result.regions)} scored regions, {n_found} ({n_found / n_planted:.0%}) "
        f"lie under\nthe strongest window of their region ({by_chance:.1f} expected by chance): {verdict}"
    )
    return enough


# ---- the picture


def show_region(result: Result, index: int, track: int, motifs: list[Motif]) -> None:
    region = result.regions[index]
    placed = place(motifs, region)
    where = f"{region.chrom}:{region.start:,}-{region.end:,}"
    click.echo(click.style(f"{region.name}  {where}", bold=True) + f"  ({region.strand})")
    show_overview(result, index, placed)
    click.echo()
    show_zoom(result, index, track, placed)
    click.echo()


def show_overview(result: Result, index: int, placed: list[Placed]) -> None:
    """Every track over the whole region; its full bar is its strongest base in all regions."""
    bin_width = -(-result.seq.shape[1] // COLUMNS)
    for name, scale, value, track in zip(
        result.tracks, track_scales(result), result.reference[index], result.importance[index], strict=True
    ):
        padded = np.pad(np.nan_to_num(track), (0, -len(track) % bin_width))
        bars = bar_rows(padded.reshape(-1, bin_width).max(axis=1), scale, 1)[0]
        click.echo(f"{name:>8}{value:6.1f} {bars}")
    labels = [(motif.start // bin_width, motif.motif) for motif in placed]
    click.echo(f"{'planted':>8}{'':6} {write_at(labels, COLUMNS)}")


def show_zoom(result: Result, index: int, track: int, placed: list[Placed]) -> None:
    """The bases around the strongest window of one track."""
    region, importance = result.regions[index], result.importance[index, track]
    centre = int(window_sums(importance, TOP_WINDOW).argmax()) + TOP_WINDOW // 2
    left = max(0, min(centre - COLUMNS // 2, len(importance) - COLUMNS))
    values = np.nan_to_num(importance[left : left + COLUMNS])
    for n, row in enumerate(bar_rows(values, values.max(), BAR_ROWS)):
        click.echo(f"{result.tracks[track] if n == 0 else '':>8}{'':6} {row}")
    strong = values > HIGHLIGHT * values.max()
    letters = [BASES[base] for base in result.seq[index, left : left + COLUMNS]]
    first = region.end - 1 - left if region.flipped else region.start + left
    click.echo(f"{first:>14,} " + "".join(letter_at(*pair) for pair in zip(letters, strong, strict=True)))
    labels = [(motif.start - left, strand_label(motif)) for motif in placed]
    click.echo(f"{'planted':>8}{'':6} {write_at(labels, COLUMNS)}")


def letter_at(letter: str, strong: bool) -> str:
    return click.style(letter, fg=COLOURS[letter], bold=True) if strong else click.style(letter.lower(), dim=True)


def strand_label(motif: Placed) -> str:
    """The name, drawn out to the width of the motif: ap1>>>>>> on the + strand, <<<<<<ap1 on the other."""
    return motif.motif.ljust(motif.width, ">") if motif.strand == "+" else motif.motif.rjust(motif.width, "<")


def bar_rows(values: np.ndarray, scale: float, n_rows: int) -> list[str]:
    """Bars of block characters, top row first; a bar of height ``scale`` is full, a negative value has none."""
    eighths = np.rint(np.clip(values / max(scale, 1e-12), 0, 1) * n_rows * 8).astype(int)
    rows = [np.clip(eighths - 8 * below, 0, 8) for below in reversed(range(n_rows))]
    return ["".join(BARS[height] for height in row) for row in rows]


def write_at(labels: list[tuple[int, str]], width: int) -> str:
    """One line with each label at its column, cut at the edges."""
    line = [" "] * width
    for column, label in labels:
        for offset, character in enumerate(label):
            if 0 <= column + offset < width:
                line[column + offset] = character
    return "".join(line).rstrip()


def track_scales(result: Result) -> np.ndarray:
    return np.nan_to_num(result.importance).max(axis=(0, 2))


def strongest(result: Result, top: int) -> list[tuple[int, int]]:
    """The regions to show, each with the track to zoom in on: the best of every track, then the second best, ..."""
    strength = window_sums(result.importance, TOP_WINDOW).max(axis=2)
    chosen: dict[int, int] = {}
    for indices in np.argsort(-strength, axis=0):
        for track, index in enumerate(indices):
            chosen.setdefault(int(index), track)
    return list(chosen.items())[:top]


@click.command(context_settings={"show_default": True})
@click.argument("result_path", metavar="RESULT", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--motifs",
    "motifs_path",
    default=Path(__file__).parent / "demo_motifs.tsv",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    show_default="demo_motifs.tsv beside this script",
    help="Where the motifs were planted: tab-separated chrom, start, end, motif, strand, with a header.",
)
@click.option("--top", default=3, type=click.IntRange(min=0), help="How many regions to draw.")
@click.option("--at-least", default=0.8, type=click.FloatRange(0, 1), help="Share of motifs to find; exit 1 below it.")
def main(result_path: Path, motifs_path: Path, top: int, at_least: float) -> None:
    """Draw the strongest regions of RESULT and count the planted motifs that it found."""
    sys.stdout.reconfigure(errors="replace")  # a terminal without block characters gets question marks, not a traceback
    result = read_result(result_path)
    motifs = read_motifs(motifs_path, result.tracks)
    for index, track in strongest(result, top):
        show_region(result, index, track, motifs)
    if not check(result, motifs, at_least):
        sys.exit(1)


if __name__ == "__main__":
    main()
