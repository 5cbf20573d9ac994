"""Every format holds the scores of the file: compared with the formula that made them, base by base."""

import csv
import gc
import gzip
import tracemalloc
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet
import pyBigWig
import pysam
import pytest

from fastism_cli import optional
from fastism_cli.errors import OutputError, UsageError
from fastism_cli.export.along_genome import segments
from fastism_cli.export.export_scores import export_scores
from fastism_cli.export.formats import FORMATS, split_ending
from fastism_cli.export.tables import write_top
from fastism_cli.report.write_report import write_report
from fastism_cli.results import block_reader, intact, schema, scores
from fastism_cli.results.layout import HeadLayout, Layout
from fastism_cli.results.schema import Status
from fastism_cli.results.writer import ResultWriter
from tests.helpers.report_files import write_tiled
from tests.helpers.result_files import (
    COMPLEMENT,
    LENGTH,
    LETTERS,
    RECORDS,
    base,
    contigs,
    edited,
    true_delta,
    true_importance,
    window_of,
    write_result,
)

OK = [i for i, record in enumerate(RECORDS) if record.status == Status.OK]
WINDOWS = [LENGTH, 7, 8, "-4:9"]
TRACKS = ["profile/sum/a", "profile/sum/b", "profile/sum/c", "count"]


def even_window_of(row: int, window: int | str) -> range:
    whole = window_of(row, window)
    return range(whole.start, whole.start + len(whole) // 2 * 2)


def on_contig(row: int, window: int | str) -> bool:
    places = even_window_of(row, window)
    return places.start >= 0 and places.stop <= len(contigs()[RECORDS[row].chrom])


def true_arrays(rows: list[int], window: int | str, track: int) -> tuple[np.ndarray, np.ndarray]:
    """One-hot and hypothetical (n, W, 4) of the + strand, with 0 at an N, by the definitions."""
    letters = np.zeros((len(rows), len(even_window_of(0, window)), 4))
    hypothetical = np.zeros_like(letters)
    for i, row in enumerate(rows):
        for column, position in enumerate(even_window_of(row, window)):
            letter = base(RECORDS[row].chrom, position)
            if letter != "N":
                letters[i, column, LETTERS.index(letter)] = 1
                deltas = np.array([true_delta(row, position, alt, track) for alt in LETTERS])
                hypothetical[i, column] = deltas - deltas.mean()
    return letters, hypothetical


def lines_of(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


# --- arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.one_in(48)
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", ["modisco-npz", "modisco-h5", "chrombpnet-h5"])
def test_arrays_of_one_target(tmp_path, kind, window, compression):
    source = write_result(tmp_path / "r.ism.h5", window=window)
    summary = export_scores(
        str(source), str(tmp_path / "out.x"), kind=kind, targets=["profile/sum=b"], compression=compression
    )
    rows = [row for row in OK if on_contig(row, window)]
    assert (summary.regions, summary.left_out, summary.targets) == (len(rows), len(OK) - len(rows), 1)
    letters, hypothetical = true_arrays(rows, window, 1)
    if kind == "modisco-npz":
        found = [np.load(tmp_path / f"out.{part}.npz")["arr_0"] for part in ("ohe", "shap")]
        expected = [x.transpose(0, 2, 1) for x in (letters, hypothetical)]
    else:
        with h5py.File(tmp_path / "out.x") as file:
            if kind == "modisco-h5":
                found, expected = [file["input_seqs"][:], file["hyp_scores"][:]], [letters, hypothetical]
            else:
                found = [file[f"{name}/seq"][:] for name in ("raw", "shap", "projected_shap")]
                expected = [x.transpose(0, 2, 1) for x in (letters, hypothetical, letters * hypothetical)]
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, atol=1e-6)


@pytest.mark.parametrize("window", WINDOWS)
def test_basenji_holds_all_targets_as_the_model_saw_them(tmp_path, window):
    source = write_result(tmp_path / "r.ism.h5", window=window)
    export_scores(str(source), str(tmp_path / "out.h5"), kind="basenji-h5")
    rows = [row for row in OK if on_contig(row, window)]
    with h5py.File(tmp_path / "out.h5") as file:
        found = {name: file[name][:] for name in ("seqs", "sum", "chr", "start", "end", "strand", "target_ids")}
    assert found["seqs"].dtype == bool and [x.decode() for x in found["target_ids"]] == TRACKS
    for i, row in enumerate(rows):
        places, record = even_window_of(row, window), RECORDS[row]
        assert (found["chr"][i], found["strand"][i]) == (record.chrom.encode(), record.strand.encode())
        assert (found["start"][i], found["end"][i]) == (places.start, places.stop)
        seen = places if record.strand == "+" else reversed(places)
        for column, position in enumerate(seen):
            letter = base(record.chrom, position)
            for code, alt in enumerate(LETTERS):
                forward = alt if record.strand == "+" else COMPLEMENT[alt]
                assert found["seqs"][i, column, code] == (forward == letter)
                deltas = [0 if letter == "N" else true_delta(row, position, forward, track) for track in range(4)]
                np.testing.assert_array_equal(found["sum"][i, column, code], np.float32(deltas))


@pytest.mark.one_in(48)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", FORMATS)
def test_the_narrow_peak_beside_it(tmp_path, kind, window):
    source = write_result(tmp_path / "r.ism.h5", window=window)
    export_scores(str(source), str(tmp_path / "out.x"), kind=kind, targets=["count"])
    rows = [row for row in OK if on_contig(row, window)]
    lines = lines_of(tmp_path / "out.regions.narrowPeak")
    assert [line[0] for line in lines] == [RECORDS[row].chrom for row in rows]
    for line, row in zip(lines, rows, strict=True):
        places = even_window_of(row, window)
        start, end, summit = int(line[1]), int(line[2]), int(line[9])
        assert (start, end) == (places.start, places.stop) and len(line) == 10
        assert line[3] == (RECORDS[row].name or ".") and start + summit == (start + end) // 2
        if isinstance(window, int):
            assert start + summit == RECORDS[row].input_start + LENGTH // 2
        assert line[5] == RECORDS[row].strand


@pytest.mark.parametrize("kind", ["modisco-h5", "basenji-h5"])
def test_tiles_without_a_window_are_the_middle_halves(tmp_path, kind):
    """As if the window had been given: no columns without scores, and peaks that touch, not overlap."""
    found = {}
    for says_window in (True, False):
        write_tiled(tmp_path / "t.ism.h5", says_window=says_window)
        export_scores(str(tmp_path / "t.ism.h5"), str(tmp_path / "out.h5"), kind=kind, overwrite=True)
        with h5py.File(tmp_path / "out.h5") as file:
            found[says_window] = {name: dataset[:].tolist() for name, dataset in file.items()}
        found[says_window]["peaks"] = lines_of(tmp_path / "out.regions.narrowPeak")
        (tmp_path / "t.ism.h5").unlink()
    assert found[False] == found[True] and [line[1:3] for line in found[True]["peaks"]] == [
        ["1000", "1100"],
        ["1100", "1200"],
        ["1200", "1300"],
    ]


@pytest.mark.parametrize("kind", ["tsv", "bigwig"])
def test_the_narrow_peak_of_windows_of_one_base(tmp_path, kind):
    source = write_result(tmp_path / "r.ism.h5", window=1)
    export_scores(str(source), str(tmp_path / "out.x"), kind=kind, targets=["count"])
    found = [[int(line[i]) for i in (1, 2, 9)] for line in lines_of(tmp_path / "out.regions.narrowPeak")]
    starts = [window_of(row, 1).start for row in OK]
    inside = [0 <= at < len(contigs()[RECORDS[row].chrom]) for row, at in zip(OK, starts, strict=True)]
    assert found == [[at, at + 1, 0] for at, is_inside in zip(starts, inside, strict=True) if is_inside]
    assert not all(inside)


def test_no_row_depends_on_how_many_are_read_at_once(tmp_path, monkeypatch):
    source = str(write_result(tmp_path / "r.ism.h5"))
    for rows in (3, 1000):
        monkeypatch.setattr(scores, "ROWS_AT_ONCE", rows)
        export_scores(source, str(tmp_path / f"{rows}.h5"), kind="modisco-h5", targets=["count"])
    assert (tmp_path / "3.regions.narrowPeak").read_text() == (tmp_path / "1000.regions.narrowPeak").read_text()
    assert (tmp_path / "3.h5").read_bytes() == (tmp_path / "1000.h5").read_bytes()


@pytest.mark.exhaustive
def test_memory_does_not_grow_with_the_regions(tmp_path, monkeypatch):
    for module, name in [(schema, "CHUNK_BYTES"), (schema, "COLUMN_CHUNK_ROWS"), (block_reader, "BLOCK_BYTES")]:
        monkeypatch.setattr(module, name, 1 << 12)
    monkeypatch.setattr(scores, "ROWS_AT_ONCE", 64)
    monkeypatch.setattr(intact, "MOST_CHUNKS", 8)  # the checksums of so many chunks are kept in any case
    few, many = peak_of_export(tmp_path, 3000), peak_of_export(tmp_path, 60_000)
    # as much as row numbers alone would take: more than what the number of blocks ahead makes out
    assert many < few + 8 * 57_000


def peak_of_export(folder: Path, n: int) -> int:
    """Bytes that Python and numpy hold at most while ``n`` regions are written as modisco-h5."""
    source, rng = folder / f"{n}.ism.h5", np.random.default_rng(0)
    layout = Layout(n, 20, (HeadLayout("out", (1,)),))
    with ResultWriter(source, layout, attributes={"config": "{}"}, genome_sizes={"chr1": 10**6}) as writer:
        start = np.arange(n)
        regions = {"chrom": ["chr1"] * n, "start": start, "end": start + 20, "input_start": start, "strand": ["+"] * n}
        regions |= {
            "name": [f"peak_{i}" for i in start],
            "bed_row": start,
            "status": [int(Status.OK)] * n,
            "n_padded": 0 * start,
        }
        seq, delta = rng.integers(0, 4, (n, 20)).astype(np.uint8), rng.normal(size=(n, 1, 20, 4)).astype(np.float32)
        reference = {"out": np.zeros((n, 1))}
        writer.write_rows(0, regions=regions, seq=seq, reference=reference, delta={"out": delta})
    thresholds = gc.get_threshold()
    gc.set_threshold(100, 1, 1)  # h5py leaves cycles behind
    tracemalloc.start()
    try:
        export_scores(str(source), str(folder / f"{n}.h5"), kind="modisco-h5")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.set_threshold(*thresholds)


# --- one value a base -------------------------------------------------------------------------------------------------


def true_track(window: int | str, track: int, overlap: str) -> dict[tuple[str, int], float]:
    """Importance by contig and base, over all regions, by the definition."""
    found: dict[tuple[str, int], list[float]] = {}
    for row in OK:
        for position in window_of(row, window):
            if base(RECORDS[row].chrom, position) != "N":
                found.setdefault((RECORDS[row].chrom, position), []).append(true_importance(row, position, track))
    reduce = {"mean": np.mean, "max": max, "first": lambda values: values[0]}[overlap]
    return {place: float(reduce(values)) for place, values in found.items()}


@pytest.mark.one_in(48)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("overlap", ["mean", "max", "first"])
def test_bigwig(tmp_path, window, overlap):
    source = write_result(tmp_path / "r.ism.h5", window=window)
    summary = export_scores(str(source), str(tmp_path / "out.bw"), kind="bigwig", overlap=overlap)
    names = [f"out.{label}.bw" for label in ("profile_sum_a", "profile_sum_b", "profile_sum_c", "count")]
    assert {Path(name).name for name in summary.files} == {*names, "out.regions.narrowPeak"}
    for track, name in enumerate(names):
        file = pyBigWig.open(str(tmp_path / name))
        assert file.chroms() == {chrom: len(sequence) for chrom, sequence in contigs().items()}
        expected = true_track(window, track, overlap)
        for chrom, sequence in contigs().items():
            values = file.values(chrom, 0, len(sequence))
            wanted = [expected.get((chrom, position), np.nan) for position in range(len(sequence))]
            np.testing.assert_allclose(values, wanted, atol=1e-6)
        file.close()


@pytest.mark.parametrize("name", ["out.bedgraph", "out.bedgraph.gz"])
def test_bedgraph(tmp_path, name):
    source = write_result(tmp_path / "r.ism.h5")
    export_scores(str(source), str(tmp_path / name), kind="bedgraph", targets=["count"])
    text = gzip.open(tmp_path / name, "rt").read() if name.endswith("gz") else (tmp_path / name).read_text()
    lines = [line.split("\t") for line in text.splitlines()]
    found = {(c, at): float(value) for c, start, end, value in lines for at in range(int(start), int(end))}
    expected = true_track(LENGTH, 3, "mean")
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[place] for place in expected], [*expected.values()], atol=1e-6)
    places = [(line[0], int(line[1]), int(line[2])) for line in lines]
    assert places == sorted(places)
    assert all(a[2] <= b[1] for a, b in pairwise(places) if a[0] == b[0])


def write_named(path: Path, contigs: list[str], names: list[str], targets: tuple[str, ...] = ("0",)) -> Path:
    """A result with a region of each name, on each contig in turn, all of whose scores are 1."""
    n = len(names)
    layout = Layout(n, 10, (HeadLayout("out", (len(targets),), targets),))
    chrom = [contigs[i % len(contigs)] for i in range(n)]
    start = 100 - 20 * (np.arange(n) // len(contigs))
    with ResultWriter(path, layout, attributes={"config": "{}"}, genome_sizes=dict.fromkeys(contigs, 106)) as writer:
        regions = {"chrom": chrom, "start": start, "end": np.minimum(start + 10, 106), "input_start": start}
        regions |= {"strand": ["-"] * n, "model_strand": ["+"] * n, "name": names, "bed_row": np.arange(n)}
        regions |= {"status": [int(Status.OK)] * n, "n_padded": 0 * start}
        seq, delta = np.zeros((n, 10), np.uint8), np.ones((n, len(targets), 10, 4), np.float32)
        delta[..., 0] = 0
        writer.write_rows(
            0, regions=regions, seq=seq, reference={"out": np.zeros((n, len(targets)))}, delta={"out": delta}
        )
    return path


def test_a_bedgraph_is_in_the_order_of_bytes_and_ends_with_the_contig(tmp_path):
    names = ["chr1", "chr2", "chr10", "chrX", "GL000008.2", "chr1_KI270706v1_random", "MT"]
    source = write_named(tmp_path / "r.h5", names, ["x"] * 14)
    export_scores(str(source), str(tmp_path / "o.bedgraph"), kind="bedgraph")
    places = [(line[0].encode(), int(line[1])) for line in lines_of(tmp_path / "o.bedgraph")]
    assert places == sorted(places) and len({chrom for chrom, _ in places}) == 7
    assert max(int(line[2]) for line in lines_of(tmp_path / "o.bedgraph")) == 106
    assert "nan" not in (tmp_path / "o.bedgraph").read_text().lower()


def test_names_do_not_break_a_table(tmp_path):
    names = ["a\tb", "c\r", "d\ne", "x\x0by\x85z", "plain name"]
    source = write_named(tmp_path / "r.h5", ["chr1"], names, ("K562\tCTCF", "K562 CTCF"))
    expected = ["a b", "c", "d e", "x y z", "plain name"]
    summary = export_scores(str(source), str(tmp_path / "o.tsv"), kind="tsv", region_columns=True)
    rows = [line.split("\t") for line in (tmp_path / "o.tsv").read_text().splitlines()]
    assert {len(row) for row in rows} == {8} and {row[4] for row in rows[1:]} == {"out/K562 CTCF"}
    assert list(dict.fromkeys(row[7] for row in rows[1:])) == expected
    # the first region passes the end of its contig
    peaks = [line.split("\t") for line in (tmp_path / "o.regions.narrowPeak").read_text().splitlines()]
    assert [(len(row), row[3], row[5]) for row in peaks] == [(10, name, "-") for name in expected[1:]]
    assert "5 names hold tabs or line ends, which are written as blanks" in summary.lines()
    export_scores(str(source), str(tmp_path / "o.parquet"), kind="parquet", region_columns=True)
    assert set(pyarrow.parquet.read_table(tmp_path / "o.parquet")["name"].to_pylist()) == set(expected)


@pytest.mark.parametrize(
    ("targets", "files"),
    [
        (("K562/CTCF (rep 1)", "K562_CTCF_rep_1_"), ["out_K562_CTCF_rep_1__0", "out_K562_CTCF_rep_1__1"]),
        (("a", "A", "a_0"), ["out_a_0_0", "out_A_1", "out_a_0_2"]),
        (("../../up", "/vol/x"), ["out_.._.._up", "out_vol_x"]),
        (("y" * 300, "y" * 301), ["out_" + 76 * "y" + "_0", "out_" + 76 * "y" + "_1"]),
    ],
)
def test_each_target_has_a_file_in_the_folder(tmp_path, targets, files):
    (tmp_path / "here").mkdir()
    source = write_named(tmp_path / "r.h5", ["chr1"], ["x"], targets)
    export_scores(str(source), str(tmp_path / "here/o.bw"), kind="bigwig")
    expected = {f"here/o.{name}.bw" for name in files} | {"here/o.regions.narrowPeak", "r.h5"}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == expected


def test_an_odd_window_says_which_base_is_left_out(tmp_path):
    source = str(write_result(tmp_path / "r.ism.h5", window=7))
    summary = export_scores(source, str(tmp_path / "o.h5"), kind="modisco-h5", targets=["count"])
    assert any("windows of 7 bases: arrays and narrowPeak leave out the last base" in line for line in summary.lines())
    source = str(write_result(tmp_path / "even.ism.h5", window=8))
    assert len(export_scores(source, str(tmp_path / "e.h5"), kind="modisco-h5", targets=["count"]).lines()) == 2


# --- one line a substitution ------------------------------------------------------------------------------------------


def true_substitutions(window: int | str, tracks: list[int]) -> list[tuple]:
    """chrom, pos (from 1), ref, alt, target, delta, row: by region, target, position, letter."""
    return [
        (record.chrom, position + 1, base(record.chrom, position), alt, TRACKS[track], value, row)
        for row, record in enumerate(RECORDS)
        if row in OK
        for track in tracks
        for position in window_of(row, window)
        for alt in LETTERS
        if base(record.chrom, position) not in ("N", alt)
        for value in [true_delta(row, position, alt, track)]
    ]


@pytest.mark.one_in(36)
@pytest.mark.parametrize("window", WINDOWS)
def test_tsv(tmp_path, window):
    source = write_result(tmp_path / "r.ism.h5", window=window)
    export_scores(str(source), str(tmp_path / "out.tsv"), kind="tsv")
    with open(tmp_path / "out.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert list(rows[0]) == ["chrom", "pos", "ref", "alt", "target", "delta"]
    found = [(*[x if k != "pos" else int(x) for k, x in list(row.items())[:5]], float(row["delta"])) for row in rows]
    expected = [values[:6] for values in true_substitutions(window, [0, 1, 2, 3])]
    assert [values[:5] for values in found] == [values[:5] for values in expected]
    assert [np.float32(values[5]) for values in found] == [np.float32(values[5]) for values in expected]


def test_parquet_with_region_columns(tmp_path):
    source = write_result(tmp_path / "r.ism.h5", window=7)
    export_scores(str(source), str(tmp_path / "o.parquet"), kind="parquet", targets=["count"], region_columns=True)
    table = pyarrow.parquet.read_table(tmp_path / "o.parquet").to_pydict()
    assert list(table) == ["chrom", "pos", "ref", "alt", "target", "delta", "row", "name"]
    expected = [(*values, RECORDS[values[-1]].name) for values in true_substitutions(7, [3])]
    assert list(zip(*table.values(), strict=True)) == expected


@pytest.mark.one_in(36)
@pytest.mark.parametrize("window", WINDOWS)
def test_vcf_is_sorted_indexed_and_complete(tmp_path, window):
    source = write_result(tmp_path / "r.ism.h5", window=window, fasta_path="g.fa")
    export_scores(str(source), str(tmp_path / "out.vcf.gz"), kind="vcf", targets=["count", "profile/sum=a"])
    assert (tmp_path / "out.vcf.gz.tbi").exists()
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        assert {name: contig.length for name, contig in file.header.contigs.items()} == {
            name: len(sequence) for name, sequence in contigs().items()
        }
        records = list(file)
        assert len(list(file.fetch("chrB", 0, 85))) == sum(record.chrom == "chrB" for record in records)
    found = [
        (r.chrom, r.pos, r.ref, *r.alts, *r.info["DELTA_count"], *r.info["DELTA_profile_sum_a"], r.info["ROW"])
        for r in records
    ]
    first = {values[:4] + values[6:]: values[5] for values in true_substitutions(window, [0])}
    expected = [(*v[:4], v[5], first[v[:4] + v[6:]], v[6]) for v in true_substitutions(window, [3])]
    order = list(contigs())
    assert found == sorted(expected, key=lambda v: (order.index(v[0]), v[1], v[-1], v[3]))


# --- what is chosen ---------------------------------------------------------------------------------------------------


@pytest.mark.one_in(48)
@pytest.mark.parametrize(
    ("targets", "chosen"),
    [
        ([], TRACKS),
        (["count"], ["count"]),
        (["count=0", "profile/sum=c,0"], ["count", "profile/sum/c", "profile/sum/a"]),
        (["profile/sum=1-2"], ["profile/sum/b", "profile/sum/c"]),
        (["profile/sum=all"], TRACKS[:3]),
    ],
)
def test_targets(tmp_path, targets, chosen):
    source = write_result(tmp_path / "r.ism.h5")
    export_scores(str(source), str(tmp_path / "o.h5"), kind="basenji-h5", targets=targets)
    with h5py.File(tmp_path / "o.h5") as file:
        assert [x.decode() for x in file["target_ids"]] == chosen


def test_a_name_that_looks_like_a_number_is_a_name(tmp_path):
    source = write_result(tmp_path / "r.ism.h5")
    with edited(source) as file:
        file["outputs/profile_sum/names"][:] = np.array(["2", "5", "6"], dtype=object)
    for asked, chosen in {"2": ["2"], "5-6": ["5", "6"], "1": ["5"]}.items():
        export_scores(str(source), str(tmp_path / f"{asked}.h5"), kind="basenji-h5", targets=[f"profile/sum={asked}"])
        with h5py.File(tmp_path / f"{asked}.h5") as file:
            assert [x.decode() for x in file["target_ids"]] == [f"profile/sum/{name}" for name in chosen]


@pytest.mark.one_in(48)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["0"]}, "targets 0: .* has several heads. Write HEAD=0: profile/sum, count."),
        ({"targets": ["x=0"]}, "has no head 'x'. Its heads: profile/sum, count."),
        ({"targets": ["count=1"]}, "has no target '1'. Those of this head: 0."),
        ({"targets": ["profile/sum=1-3"]}, "has no target '1-3'. Those of this head: a, b, c."),
        ({"kind": "wig"}, "format must be one of modisco-npz, .*, vcf. Received: 'wig'"),
        ({"overlap": "min"}, "overlap must be one of mean, max, first. Received: 'min'"),
    ],
)
def test_refusals(tmp_path, options, message):
    source = write_result(tmp_path / "r.ism.h5")
    with pytest.raises(UsageError, match=message):
        export_scores(str(source), str(tmp_path / "o.bw"), **{"kind": "bigwig", **options})
    assert [path.name for path in tmp_path.iterdir()] == ["r.ism.h5"]


def test_an_output_without_a_name_is_refused(tmp_path):
    """As an empty variable of a shell gives it: it must not become a file in whatever folder this is."""
    source = write_result(tmp_path / "r.ism.h5")
    with pytest.raises(OutputError, match="output is empty"):
        export_scores(str(source), "", kind="bedgraph")


def test_a_missing_library_is_told_with_its_extra():
    message = r"format x needs no_such_library, which cannot .* Install it: pip install 'fastism-cli\[export\]'"
    with pytest.raises(UsageError, match=message):
        optional.require("no_such_library", wanted_by="--format x", extra="export")


@pytest.mark.one_in(48)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_result_without_scored_regions_gives_valid_empty_files(tmp_path, kind):
    source = write_result(tmp_path / "r.ism.h5")
    with edited(source) as file:
        file["regions/status"][:] = int(Status.TOO_MANY_N)
    name = str(tmp_path / ("o.vcf.gz" if kind == "vcf" else "o.x"))
    assert export_scores(str(source), name, kind=kind, targets=["count"]).regions == 0
    if kind == "vcf":
        assert list(pysam.VariantFile(name)) == []
    if kind == "bigwig":
        assert pyBigWig.open(name).intervals("chrA") is None
    if kind == "modisco-h5":
        with h5py.File(name) as file:
            assert file["hyp_scores"].shape == (0, LENGTH, 4)


def test_nothing_is_replaced_unasked_and_a_second_format_shares_the_peaks(tmp_path):
    source = str(write_result(tmp_path / "r.ism.h5", bed_path=str(tmp_path / "p.regions.narrowPeak")))
    (tmp_path / "p.regions.narrowPeak").write_text("chrA\t1\t2\n")
    export_scores(source, str(tmp_path / "o.bw"), kind="bigwig", targets=["count"])
    export_scores(source, str(tmp_path / "o.tsv"), kind="tsv", targets=["count"])
    with pytest.raises(UsageError, match=r"o.bw exists. Replace it with overwrite=True"):
        export_scores(source, str(tmp_path / "o.bw"), kind="bigwig", targets=["count"])
    with pytest.raises(UsageError, match=r"p.regions.narrowPeak is an input of this run"):
        export_scores(source, str(tmp_path / "p.bw"), kind="bigwig", targets=["count"], overwrite=True)
    (tmp_path / "o.regions.narrowPeak").write_text("chrA\t1\t2\n")
    with pytest.raises(UsageError, match=r"o.regions.narrowPeak exists"):
        export_scores(source, str(tmp_path / "o.h5"), kind="modisco-h5", targets=["count"])
    assert (tmp_path / "p.regions.narrowPeak").read_text() == "chrA\t1\t2\n"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".fastism")]


@pytest.mark.one_in(36)
def test_every_format_has_the_same_regions_beside_it(tmp_path):
    """Also where windows pass the ends of contigs, which arrays leave out."""
    source, peaks = str(write_result(tmp_path / "r.ism.h5")), tmp_path / "o.regions.narrowPeak"
    n_off = sum(not on_contig(row, LENGTH) for row in OK)
    for first in ("bigwig", "modisco-h5"):
        peaks.unlink(missing_ok=True)
        for kind in dict.fromkeys((first, *FORMATS)):
            name = tmp_path / ("o.vcf.gz" if kind == "vcf" else "o.x")
            told = export_scores(source, str(name), kind=kind, targets=["count"])
            for written in told.files:
                Path(written).unlink() if written != str(peaks) else None
            assert (told.left_out, told.without_peak) == (
                (n_off, 0) if FORMATS[kind].holds == "regions" else (0, n_off)
            )
            assert f"{n_off} regions whose window passes an end of its contig" in told.lines()[0]


# --- parts ------------------------------------------------------------------------------------------------------------


def test_segments_are_the_brute_force_coverage(rng):
    sizes = {"b": 60, "a": 40, "none": 5}
    chrom = rng.choice(["a", "b"], 30)
    starts = rng.integers(-8, 55, 30)
    stops = starts + rng.integers(0, 12, 30)
    found = {}
    for segment in segments(chrom, starts, stops, sizes):
        for position in range(segment.start, segment.stop):
            assert (segment.chrom, position) not in found
            found[segment.chrom, position] = segment.covering
    expected = {
        (name, position): tuple(i for i in range(30) if chrom[i] == name and starts[i] <= position < stops[i])
        for name, size in sizes.items()
        for position in range(size)
    }
    assert found == {place: covering for place, covering in expected.items() if covering}
    assert list(found) == sorted(found, key=lambda place: (list(sizes).index(place[0]), place[1]))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a/out.bw", ("a/out", ".bw")),
        ("out.vcf.gz", ("out", ".vcf.gz")),
        ("peaks.modisco.h5", ("peaks", ".modisco.h5")),
        ("v1.2/peaks", ("v1.2/peaks", "")),
        ("sample.rep1.tsv", ("sample.rep1", ".tsv")),
    ],
)
def test_endings(name, parts):
    assert split_ending(name) == parts


def with_statuses(path: Path, statuses: list[int]) -> str:
    with edited(write_result(path)) as file:
        file["regions/status"][:] = statuses
    return str(path)


@pytest.mark.parametrize("write", [lambda path, to: export_scores(path, to, kind="tsv"), write_top, write_report])
def test_a_result_without_scores_is_told(write, tmp_path, caplog):
    """What is made of it is empty: a warning, which --quiet shows as well, says why."""
    path = with_statuses(tmp_path / "r.h5", [Status.FAILED] + [Status.TOO_MANY_N] * (len(RECORDS) - 1))
    write(path, str(tmp_path / "out.tsv"))
    why = "9 with too many N, 1 that failed (the model gave NaN or infinity)"
    assert [record.getMessage() for record in caplog.records] == [f"no region of {path} has scores: {why}"]
    caplog.clear()
    write(str(write_result(tmp_path / "whole.h5")), str(tmp_path / "whole.tsv"))
    assert not caplog.records


def test_a_format_that_holds_none_of_the_regions_is_told(tmp_path, caplog):
    """Arrays leave out regions whose window passes an end of its contig."""
    on_edge = ("before_start", "past_end")
    statuses = [Status.OK if record.name in on_edge else Status.TOO_MANY_N for record in RECORDS]
    path = with_statuses(tmp_path / "r.h5", statuses)
    export_scores(path, str(tmp_path / "out.tsv"), kind="tsv")
    assert not caplog.records
    export_scores(path, str(tmp_path / "out.npz"), kind="modisco-npz", targets=["count"])
    words = "the windows of all regions with scores pass an end of their contig: modisco-npz holds none of them"
    assert [record.getMessage() for record in caplog.records] == [words]
