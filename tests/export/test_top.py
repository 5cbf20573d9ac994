"""The strongest substitutions of a result, against pandas on the whole table."""

import io
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from fastism_cli.cli import main
from fastism_cli.export import tables
from fastism_cli.results.layout import HeadLayout, Layout, ReplacedBlocks
from fastism_cli.results.writer import ResultWriter
from fastism_cli.scores.region import SITE

LENGTH, SIZES = 30, {"chr2": 400, "chr1": 250}
PLACE = ["target", "chrom", "pos", "ref", "alt"]


def write_overlapping(path, *, n: int = 40, seed: int = 0):
    """Regions in any order, many over one another, with ties among their deltas; of a base all have the same letter."""
    rng = np.random.default_rng(seed)
    genome = {chrom: rng.integers(0, 4, size).astype(np.uint8) for chrom, size in SIZES.items()}
    layout = Layout(n, LENGTH, (HeadLayout("marks", (2,), ("a", "b")), HeadLayout("count", (1,))))
    chroms = rng.choice(list(SIZES), n)
    starts = np.array([rng.integers(0, SIZES[chrom] - LENGTH + 1) for chrom in chroms])
    seq = np.stack([genome[c][s : s + LENGTH] for c, s in zip(chroms, starts, strict=True)])
    delta = np.round(rng.normal(size=(n, 3, LENGTH, 4)), 1).astype(np.float32)
    np.put_along_axis(delta, seq[:, None, :, None].repeat(3, 1).astype(int), 0, axis=-1)
    text = np.array([f"peak_{i}" for i in range(n)], dtype=object)
    regions = {"chrom": chroms.astype(object), "start": starts, "end": starts + LENGTH, "input_start": starts}
    regions |= {"strand": ["+"] * n, "name": text, "bed_row": np.arange(n), "status": [1] * n, "n_padded": [0] * n}
    reference = rng.normal(size=(n, 3))
    with ResultWriter(path, layout, attributes={"config": "{}"}, genome_sizes=SIZES) as writer:
        writer.write_rows(
            0,
            regions=regions,
            seq=seq,
            reference={"marks": reference[:, :2], "count": reference[:, 2:]},
            delta={"marks": delta[:, :2], "count": delta[:, 2:]},
        )
    return path


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return write_overlapping(tmp_path_factory.mktemp("top") / "a.ism.h5")


def run(*arguments) -> str:
    """What a command writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.tsv"
        found = CliRunner().invoke(main, [*map(str, arguments), "-o", str(path)])
        assert found.exit_code == 0, found.output
        return path.read_text()


def table(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), sep="\t", dtype={"delta": np.float32})


@cache
def whole_table(result) -> pd.DataFrame:
    """Every line of every region, in the order of the file."""
    return table(run("export", result, "-t", "tsv", "--region-columns"))


def merged(whole: pd.DataFrame, overlap: str) -> pd.DataFrame:
    if overlap == "max":
        whole = whole.iloc[np.argsort(-whole["delta"].abs(), kind="stable")]
    lines = whole.groupby(PLACE, sort=False)
    values = lines["delta"].mean() if overlap == "mean" else lines["delta"].first()
    return values.to_frame().assign(name=lines["name"].first()).reset_index()


def ordered(lines: pd.DataFrame) -> pd.DataFrame:
    """By target, from the strongest on; ties along the genome."""
    targets, contigs = ["marks/a", "marks/b", "count"], list(SIZES)
    keys = [-lines["delta"].abs(), lines["target"].map(targets.index), lines["chrom"].map(contigs.index)]
    order = np.lexsort((lines["alt"], lines["pos"], keys[2], np.round(keys[0], 5), keys[1]))
    return lines.iloc[order].reset_index(drop=True)


def first_apart(lines: pd.DataFrame, least: int, n: int) -> pd.DataFrame:
    """The strongest ``n`` of each target of which none is nearer than ``least`` bases to a stronger one."""
    kept: dict[str, list[tuple[int, str, int]]] = {}
    for i, target, chrom, pos in lines[["target", "chrom", "pos"]].itertuples():
        stronger = kept.setdefault(target, [])
        near = (other for _, where, other in stronger if where == chrom and abs(other - pos) < least)
        if len(stronger) < n and next(near, None) is None:
            stronger.append((i, chrom, pos))
    return lines.loc[[i for chosen in kept.values() for i, _, _ in chosen]]


@pytest.mark.parametrize("overlap", ["mean", "max", "first"])
@pytest.mark.parametrize(("by", "least"), [("substitution", 0), ("base", 1), ("site", SITE)])
@pytest.mark.parametrize("at_once", [50, 1 << 17])
def test_top_is_that_of_pandas(result, overlap, by, least, at_once, monkeypatch):
    monkeypatch.setattr(tables, "KEPT_AT_ONCE", at_once)
    expected = first_apart(ordered(merged(whole_table(result), overlap)), least, 12)
    found = table(run("top", result, "--n", 12, "--by", by, "--overlap", overlap))
    assert list(found) == ["chrom", "pos", "ref", "alt", "target", "delta", "reference", "region"]
    assert found[PLACE].values.tolist() == expected[PLACE].values.tolist()
    np.testing.assert_allclose(found["delta"], expected["delta"], atol=1e-6)
    assert found["region"].tolist() == expected["name"].tolist()


def test_sites_are_apart(result):
    found = table(run("top", result, "--n", 9, "--by", "site", "--targets", "count"))
    places = sorted(zip(found["chrom"], found["pos"], strict=True))
    assert len(places) == 9
    assert all(one[0] != other[0] or other[1] - one[1] >= SITE for one, other in pairwise(places))


def test_an_n_may_have_a_change_to_every_letter(tmp_path):
    """With --n-policy score: of four bases the strongest changes are sixteen."""
    layout = Layout(1, 6, (HeadLayout("out", (1,)),))
    regions = {"chrom": ["chr1"], "start": [10], "end": [16], "input_start": [10], "strand": ["+"], "name": ["x"]}
    regions |= {"bed_row": [0], "status": [1], "n_padded": [0]}
    delta = np.arange(1.0, 25.0).reshape(1, 1, 6, 4)
    with ResultWriter(tmp_path / "n.h5", layout, attributes={"config": "{}"}, genome_sizes=SIZES) as writer:
        scores = {"reference": {"out": [[0.0]]}, "delta": {"out": delta}}
        writer.write_rows(0, regions=regions, seq=np.full((1, 6), 4), **scores)
    assert table(run("top", tmp_path / "n.h5", "-n", 4, "--by", "base"))["delta"].tolist() == [24, 20, 16, 12]


def test_blocks_near_a_site_may_be_of_regions_that_share_no_base(tmp_path):
    """Two clusters of three blocks, whose outer ones overlap the middle one alone, and a weak block far from them."""
    starts, delta = [100, 104, 108, 150, 154, 158, 200], [9, 10, 9, 7, 8, 7, 1]
    n, blocks = len(starts), ReplacedBlocks(0, 20, 5, 1, 1, "N")
    layout = Layout(n, 5, (HeadLayout("out", (1,)),), blocks=blocks)
    regions = {"chrom": ["chr1"] * n, "start": starts, "end": np.add(starts, 5), "input_start": starts}
    regions |= {"strand": ["+"] * n, "name": ["x"] * n, "bed_row": range(n), "status": [1] * n, "n_padded": [0] * n}
    with ResultWriter(tmp_path / "b.h5", layout, attributes={"config": "{}"}, genome_sizes=SIZES) as writer:
        scores = {"reference": {"out": np.zeros((n, 1))}, "delta": {"out": np.reshape(delta, (n, 1, 1, 1))}}
        writer.write_rows(0, regions=regions, seq=np.zeros((n, 5)), **scores)
    assert table(run("top", tmp_path / "b.h5", "-n", 3, "--by", "site"))["start"].tolist() == [104, 154, 200]


@pytest.mark.parametrize("n", [0, 1, 40])
def test_how_many_windows_hold_one_base(rng, n):
    chrom, start, window = rng.choice(["chr1", "chr2"], n), rng.integers(-5, 60, n), 7
    regions = SimpleNamespace(window=window, whole=lambda: SimpleNamespace(chrom=chrom, start=start))
    most = [np.sum((chrom == c) & (start <= base) & (base < start + window)) for c in SIZES for base in range(-5, 70)]
    assert tables._deepest(regions) == max(*most, 1)


def test_only_strong_ones_of_the_chosen_targets(result):
    found = table(run("top", result, "--min-delta", 2, "--overlap", "first", "--targets", "marks=b", "-n", 1000))
    every = merged(whole_table(result), "first")
    expected = every[(every["target"] == "marks/b") & (every["delta"].abs() >= 2)]
    assert 0 < len(found) == len(expected) and set(found["target"]) == {"marks/b"}


def test_parquet_holds_the_same(result, tmp_path):
    path = tmp_path / "top.parquet"
    assert CliRunner().invoke(main, ["top", str(result), "-n", "5", "-o", str(path)]).exit_code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(path), table(run("top", result, "-n", 5)), check_dtype=False)
    refused = CliRunner().invoke(main, ["top", str(result), "-o", str(path)])
    assert refused.exit_code == 2 and "exists" in refused.stderr


def test_of_nothing_there_is_a_header(tmp_path):
    path = write_overlapping(tmp_path / "empty.ism.h5", n=1)
    assert run("top", path, "--min-delta", 100).splitlines() == [
        "chrom\tpos\tref\talt\ttarget\tdelta\treference\tregion"
    ]


def test_it_is_written_to_stdout(result, capfd):
    assert CliRunner().invoke(main, ["top", str(result), "-n", "3"]).exit_code == 0
    assert capfd.readouterr().out == run("top", result, "-n", 3)


@pytest.mark.parametrize("overlap", ["mean", "max", "first"])
def test_a_table_may_have_the_strongest_alone(result, overlap):
    found = table(run("export", result, "-t", "tsv", "--top", 7, "--overlap", overlap, "--region-columns"))
    listed = table(run("top", result, "-n", 7, "--overlap", overlap))
    columns = ["chrom", "pos", "ref", "alt", "target", "delta"]
    pd.testing.assert_frame_equal(found[columns], listed[columns])
    assert found["name"].tolist() == listed["region"].tolist()
    assert [f"peak_{row}" for row in found["row"]] == listed["region"].tolist()


def test_a_table_with_each_substitution_once_is_along_the_genome(result):
    found = table(run("export", result, "-t", "tsv", "--overlap", "first", "--min-delta", 1.5))
    expected = merged(whole_table(result), "first")
    expected = expected[expected["delta"].abs() >= 1.5]
    assert sorted(map(tuple, found[PLACE].values)) == sorted(map(tuple, expected[PLACE].values))
    places = [
        (list(SIZES).index(chrom), pos) for chrom, pos in found.loc[found["target"] == "count", ["chrom", "pos"]].values
    ]
    assert places == sorted(places)


def test_only_tables_choose_lines(result):
    refused = CliRunner().invoke(main, ["export", str(result), "-t", "bedgraph", "--top", "5"])
    assert refused.exit_code == 2 and "--top is for tsv and parquet. Received: --format bedgraph" in refused.stderr
