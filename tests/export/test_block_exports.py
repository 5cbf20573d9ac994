"""Results of blocks in tables, tracks, pictures and arrays: against loops over what the file holds."""

import csv
import io
import json
import tracemalloc
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fastism_cli import RunOptions, open_scores, read_result, score_regions
from fastism_cli.cli import main
from fastism_cli.errors import UsageError
from fastism_cli.export.formats import FORMATS
from fastism_cli.results import block_reader
from fastism_cli.results.layout import HeadLayout, Layout, ReplacedBlocks
from fastism_cli.results.writer import ResultWriter
from tests.helpers.small_run import LENGTH, contigs, make_folder

WIDTH, STEP, CONTENTS = 7, 3, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("block_exports"))


@pytest.fixture(scope="module")
def path(folder) -> str:
    """Two contents in each block of a window; records on both strands, past both ends, and two that overlap."""
    array = np.random.default_rng(3).random((CONTENTS, WIDTH, 4)).astype("float32")
    np.save(folder.path / "two.npy", array)
    path = str(folder.path / "blocks.ism.h5")
    options = RunOptions(replace_with=str(folder.path / "two.npy"), step=STEP, stranded=True, window="-15:17")
    score_regions(folder.models["plain"], folder.bed, folder.fasta, path, options)
    return path


def blocks_of(path: str) -> list[tuple]:
    """Row, contig, first base, strand of the model, deltas (targets, contents) of each block with a score."""
    found = []
    with read_result(path) as result:
        columns, delta, places = result.regions, result.delta()[:], result.blocks
        for row, at in np.ndindex(len(delta), places.count):
            if columns["status"][row] != 1 or not np.isfinite(delta[row, :, at]).all():
                continue
            first = places.first + at * places.step
            is_minus = columns["model_strand"][row] == "-"
            start = columns["input_start"][row] + (LENGTH - first - WIDTH if is_minus else first)
            found.append((row, columns["chrom"][row], int(start), delta[row, :, at]))
    return found


def on_contig(found: list[tuple]) -> list[tuple]:
    sizes = {name: len(text) for name, text in contigs().items()}
    return [x for x in found if x[2] >= 0 and x[2] + WIDTH <= sizes[x[1]]]


def fastism(*arguments):
    return CliRunner().invoke(main, [str(x) for x in arguments])


def lines_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def test_few_blocks_of_long_inputs_are_read_in_bounded_memory(tmp_path, monkeypatch):
    """One chunk has the deltas of very many rows; letters and importance are as long as the input."""
    monkeypatch.setattr(block_reader, "LETTER_BYTES", 1 << 20)
    monkeypatch.setattr("fastism_cli.scores.importance.MAX_SUMS", 1 << 16)
    n, blocks = 300, ReplacedBlocks(0, 5000, 5000, 4, 1, "N")
    layout = Layout(n, 20_000, (HeadLayout("out", (1,)),), blocks=blocks)
    start = np.zeros(n, int)
    regions = {name: start for name in ("start", "end", "input_start", "bed_row", "n_padded")}
    regions |= {"chrom": ["chr1"] * n, "name": ["x"] * n, "strand": ["+-"[i % 2] for i in range(n)]}
    regions["status"] = start + 1
    delta = {"out": np.random.default_rng(0).normal(size=layout.delta_shape(layout.heads[0])).astype("float32")}
    with ResultWriter(tmp_path / "r.h5", layout, attributes={"config": "{}"}, genome_sizes={"chr1": 10**6}) as writer:
        scores = {"reference": {"out": np.zeros((n, 1))}, "delta": delta}
        writer.write_rows(0, regions=regions, seq=np.zeros(layout.seq_shape), **scores)
    with open_scores(tmp_path / "r.h5") as result:
        tracemalloc.start()
        try:
            found = [block.on_genome().importance()[:, 0, ::5000].copy() for block in result.blocks()]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    expected = -delta["out"][:, 0, :, 0]
    expected[1::2] = expected[1::2, ::-1]
    np.testing.assert_allclose(np.concatenate(found), expected)
    assert peak < 10e6  # with all rows at a time it was 156e6


def test_the_file_is_of_the_version_whose_readers_know_blocks(path):
    with read_result(path) as result:
        assert result.attrs["format_version"] == 1.2
    found = fastism("info", path)
    assert found.exit_code == 0 and "blocks    9 blocks of 7 bases, one every 3, replaced with" in found.stdout
    assert json.loads(fastism("info", path, "--json", "--no-ranges").stdout)["blocks"]["width"] == WIDTH


def expected_lines(path: str) -> list[tuple]:
    lines = []
    for row, chrom, start, delta in on_contig(blocks_of(path)):
        for target, content in np.ndindex(delta.shape):
            lines.append(
                (row, chrom, start, start + WIDTH, content, f"out/{target}", np.float32(delta[target, content]))
            )
    return lines


@pytest.mark.parametrize("kind", ["tsv", "parquet"])
def test_a_table_has_a_line_for_each_block_and_content(path, tmp_path, kind):
    out = tmp_path / f"o.{kind}"
    result = fastism("export", path, "--format", kind, "--region-columns", "-o", out)
    assert result.exit_code == 0, result.stderr
    if kind == "tsv":
        lines = lines_of(out.read_text())
        assert list(lines[0]) == ["chrom", "start", "end", "content", "target", "delta", "row", "name"]
    else:
        lines = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
    found = [
        (
            int(x["row"]),
            x["chrom"],
            int(x["start"]),
            int(x["end"]),
            int(x["content"]),
            x["target"],
            np.float32(x["delta"]),
        )
        for x in lines
    ]
    expected = expected_lines(path)
    assert sorted(found) == sorted(expected) and len(expected) > 100
    assert len(expected) < len(blocks_of(path)) * 3 * CONTENTS  # one passes an end of its contig
    assert Path(str(out).rpartition(".")[0] + ".regions.narrowPeak").exists()


@pytest.mark.parametrize("overlap", ["mean", "first"])
def test_a_track_has_the_mean_of_the_blocks_over_each_base(path, tmp_path, overlap):
    assert (
        fastism("export", path, "--format", "bedgraph", "--overlap", overlap, "-o", tmp_path / "o.bedgraph").exit_code
        == 0
    )
    by_base = defaultdict(lambda: defaultdict(list))
    for row, chrom, start, delta in blocks_of(path):
        for base in range(max(start, 0), min(start + WIDTH, len(contigs()[chrom]))):
            by_base[chrom, base][row].append(-delta.astype("float64").mean(1))
    for target in range(3):
        found = {}
        for line in (tmp_path / f"o.out_{target}.bedgraph").read_text().splitlines():
            chrom, start, end, value = line.split("\t")
            found |= {(chrom, base): float(value) for base in range(int(start), int(end))}
        rows = {key: [np.mean(x, 0)[target] for x in of_rows.values()] for key, of_rows in by_base.items()}
        expected = {key: values[0] if overlap == "first" else np.mean(values) for key, values in rows.items()}
        assert found.keys() == expected.keys() and any(len(x) > 1 for x in by_base.values())
        np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-5, atol=1e-8)


def test_a_bigwig_holds_what_the_bedgraph_does(path, tmp_path):
    library = pytest.importorskip("pyBigWig")
    for kind, name in (("bigwig", "o.bw"), ("bedgraph", "o.bedgraph")):
        assert fastism("export", path, "--format", kind, "--targets", "1", "-o", tmp_path / name).exit_code == 0
    with library.open(str(tmp_path / "o.bw")) as file:
        for line in (tmp_path / "o.bedgraph").read_text().splitlines():
            chrom, start, end, value = line.split("\t")
            np.testing.assert_allclose(file.values(chrom, int(start), int(end)), float(value), rtol=1e-6)


def test_the_strongest_blocks(path, tmp_path):
    expected = expected_lines(path)

    def top(*options):
        out = tmp_path / "o.tsv"
        assert fastism("top", path, *options, "-o", out, "--overwrite").exit_code == 0
        return lines_of(out.read_text())

    found = top("-n", 4, "--targets", 0)
    assert list(found[0]) == ["chrom", "start", "end", "content", "target", "delta", "reference", "region"]
    of_target = sorted((x for x in expected if x[5] == "out/0"), key=lambda x: -abs(x[6]))
    assert [np.float32(x["delta"]) for x in found] == [x[6] for x in of_target[:4]]
    apart = top("-n", 4, "--targets", 0, "--by", "site")
    kept: list[tuple] = []
    for line in of_target:
        if all(line[1] != x[1] or abs(line[2] - x[2]) >= WIDTH for x in kept):
            kept.append(line)
    assert [(x["chrom"], int(x["start"])) for x in apart] == [x[1:3] for x in kept[:4]]
    table = tmp_path / "table.tsv"
    assert fastism("export", path, "--format", "tsv", "--top", "4", "--targets", "0", "-o", table).exit_code == 0
    assert [x["delta"] for x in lines_of(table.read_text())] == [x["delta"] for x in found]
    least = float(np.median([abs(x[6]) for x in expected]))
    strong = top("-n", 1000, "--min-delta", least)
    assert len(strong) == sum(abs(x[6]) >= least for x in expected) > 0
    assert fastism("top", path, "-o", tmp_path / "o.parquet").exit_code == 0


def test_a_result_in_the_library(path):
    pytest.importorskip("xarray")
    with open_scores(path) as scores, read_result(path) as result:
        assert "9 blocks in 40 letters" in repr(scores)
        frame = scores.to_frame("out/1")
        lines = [x for x in expected_lines(path) if x[5] == "out/1"]
        assert sorted(zip(frame["start"], frame["content"], frame["delta"], strict=True)) == sorted(
            (x[2], x[4], x[6]) for x in lines
        )
        found = scores.to_xarray()
        assert found.delta.dims == ("row", "target", "block", "content")
        np.testing.assert_array_equal(found.delta, np.where(np.isfinite(result.delta()[:]), result.delta()[:], np.nan))
        assert found["block_start"].values.tolist() == scores.places.starts.tolist() and set(
            found["block_width"].values
        ) == {WIDTH}
        importance = scores.importance("out/2", rows=[0])
        np.testing.assert_array_equal(importance[0], found.importance.sel(target="out/2").values[0])
        covering = [x for x, s in zip(result.delta()[0, 2], scores.places.starts, strict=True) if s <= 20 < s + WIDTH]
        assert importance[0, 20] == pytest.approx(-np.nanmean(covering))
        with pytest.raises(UsageError, match="blocks, not of letters"):
            scores.hypothetical("out/2")
        with pytest.raises(UsageError, match="blocks, not of letters"):
            next(scores.blocks()).on_genome().hypothetical()


@pytest.mark.parametrize("kind", [name for name, form in FORMATS.items() if not form.of_blocks])
def test_formats_of_single_letters_say_what_to_use(path, tmp_path, kind):
    result = fastism("export", path, "--format", kind, "-o", tmp_path / f"o{FORMATS[kind].endings[0]}")
    assert result.exit_code == 2 and f"--format {kind} shows single letters" in result.stderr
    assert "Use --format bigwig, bedgraph, tsv or parquet." in result.stderr and len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("report", "-o", "r.html"), "the report shows single letters"),
        (("top", "--by", "base"), "--by base is of single letters"),
        (("top", "--overlap", "max"), "--overlap is of single letters"),
        (
            ("export", "--format", "tsv", "--overlap", "mean", "-o", "o.tsv"),
            "a line for each region that holds a block",
        ),
        (("plot", "--top", "1", "--target", "out/0", "--heat-map", "-o", "p.png"), "a heat map shows deltas of single"),
        (("plot", "--top", "1", "--target", "out/0", "--pairs", "-o", "p.png"), "holds no pairs"),
    ],
)
def test_what_has_no_meaning_for_blocks_is_refused_in_a_line(path, tmp_path, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    result = fastism(command[0], path, *command[1:])
    assert result.exit_code == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1, result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.one_in(24)
def test_pictures_of_regions_tiles_and_several_results(folder, path, tmp_path):
    tiles = str(folder.path / "tiles.ism.h5")
    options = RunOptions(replace_with="N", width=5, tile=True, window=20)
    score_regions(folder.models["plain"], folder.bed, folder.fasta, tiles, options)
    letters = str(folder.path / "letters.ism.h5")
    score_regions(folder.models["plain"], folder.bed, folder.fasta, letters, RunOptions())
    calls = [
        (path, "--top", "2", "--target", "out", "-o", tmp_path / "a.pdf"),
        (tiles, "--name", "inside", "--target", "out/1", "--bases", "all", "-o", tmp_path / "b.png"),
        (
            letters,
            path,
            tiles,
            "--region",
            "chrA:40-60",
            "--target",
            "out/0",
            "--strand",
            "-",
            "-o",
            tmp_path / "c.svg",
        ),
    ]
    for call in calls:
        result = fastism("plot", *call)
        assert result.exit_code == 0, result.output
        assert Path(call[-1]).stat().st_size > 2000
