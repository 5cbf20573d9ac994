"""BED, GTF and bigWig as tracks: which records lie on a stretch, under either name of its contig."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fastism_cli.errors import FastISMError, RegionError, UsageError
from fastism_cli.genome.annotations import (
    Feature,
    FeatureFile,
    Gene,
    GeneFile,
    SignalFile,
    files_of,
    labelled_path,
    merged,
    open_annotation,
    places_to_shade,
    read_genes,
)
from tests.helpers.bigwig_files import Block, bigwig_bytes

PLACE = ("chr1", 100, 200)
GTF = """#!genome-build X
{c}\thavana\tgene\t51\t400\t.\t-\t.\tgene_id "E1"; gene_name "TAL1"; level 2;
{c}\thavana\texon\t51\t120\t.\t-\t.\tgene_id "E1"; transcript_id "T1"; gene_name "TAL1";
{c}\thavana\texon\t101\t150\t.\t-\t.\tgene_id "E1"; transcript_id "T2"; gene_name "TAL1";
{c}\thavana\tCDS\t111\t120\t.\t-\t0\tgene_id "E1"; transcript_id "T1"; gene_name "TAL1";
{c}\thavana\texon\t381\t400\t.\t-\t.\tgene_id "E1"; transcript_id "T1"; gene_name "TAL1";
{c}\tucsc\texon\t201\t260\t.\t+\t.\tgene_id E2;
{c}\tucsc\texon\t200\t200\t.\t.\t.\tgene_id "E3"
chrX\tucsc\texon\t100\t200\t.\t+\t.\tgene_id "E4";
"""
TAL1 = Gene(50, 400, "TAL1", "-", ((50, 150), (380, 400)), ((110, 120),))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["chr1", "1"])
@pytest.mark.parametrize("ending", [".gtf", ".gtf.gz", ".txt"])
def test_genes_of_a_gtf(name, ending):
    text = GTF.format(c=name).encode()
    path = Path(f"genes{ending}")
    path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    found = open_annotation(str(path), [PLACE])
    assert isinstance(found, GeneFile) and found.label == "genes"
    assert found.within(*PLACE).items == [TAL1, Gene(199, 200, "E3", ".", ((199, 200),), ())]
    assert [gene.name for gene in found.within("chr1", 200, 260).items] == ["TAL1", "E2"]
    assert found.within("chrX", 100, 200).items == []


def test_a_gtf_that_says_its_version():
    """As rtracklayer of R writes it: GTF is version 2 of GFF."""
    Path("genes.gtf").write_text("##gff-version 2\n##source-version rtracklayer 1.60\n" + GTF.format(c="chr1"))
    assert open_annotation("genes.gtf", [PLACE]).within(*PLACE).items[0] == TAL1


@pytest.mark.parametrize("head", ["\ufeff", "track name=x\n", "\ufefftrack name=x\nbrowser hide all\n"])
def test_what_may_stand_before_a_gtf(head):
    line = 'chr1\tx\texon\t101\t109\t.\t+\t.\tgene_id "E1"\n'
    Path("genes.gtf").write_text(head + line)
    assert [gene.name for gene in open_annotation("genes.gtf", [PLACE]).within(*PLACE).items] == ["E1"]


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ('gene_id "MSTRG.1"; ref_gene_id "E1"; ref_gene_name "TAL1"', "MSTRG.1"),  # of StringTie
        ('gene_id "E1"; gene_name "A;B"', "A;B"),
        ('note "a; gene_id X"; gene_id "E1"', "E1"),
        ('gene_id "E1"; gene_name ""; tag "a"; tag "b"', "E1"),
        ("gene_id E1;gene_name TAL1;", "TAL1"),
        ('gene_id "E1"; gene_id "E2"', "E1"),
    ],
)
def test_names_of_a_gtf(attributes, name):
    Path("g.gtf").write_text(f"chr1\tx\texon\t5\t9\t.\t+\t.\t{attributes}\n")
    assert [gene.name for gene in read_genes("g.gtf", {"chr1"})["chr1"]] == [name]


def test_a_track_on_a_contig_called_track():
    Path("t.gtf").write_text('track1\tx\texon\t101\t109\t.\t+\t.\tgene_id "E1"\n' * 2)
    assert open_annotation("t.gtf", [("track1", 0, 200)]).within("track1", 0, 200).items[0].name == "E1"


def test_stretches_that_touch_are_one():
    assert merged([]) == () and merged([(3, 5), (5, 6), (0, 1)]) == ((0, 1), (3, 6))


@pytest.mark.parametrize("name", ["chr1", "1"])
def test_records_of_a_bed(name):
    Path("hits.bed").write_text(
        f"{name}\t190\t210\tlate\t0\t+\n{name}\t90\t101\tearly\t0\t-\n{name}\t90\t100\tbefore\n{name}\t200\t300\tafter\n"
        "chr7\t100\t200\tother\n"
    )
    found = open_annotation("AP1 hits=hits.bed", [PLACE])
    assert isinstance(found, FeatureFile) and found.label == "AP1 hits"
    assert found.within(*PLACE).items == [Feature(90, 101, "early", "-"), Feature(190, 210, "late", "+")]


@pytest.mark.parametrize("name", ["chr1", "1"])
def test_numbers_of_a_bigwig(name):
    Path("curve.bw").write_bytes(
        bigwig_bytes({name: 150}, [Block(0, 3, [110, 111, 112], [111, 112, 113], [1, 2, 3.5])])
    )
    found = open_annotation("curve.bw", [PLACE])
    assert isinstance(found, SignalFile)
    shown = found.within("chr1", -5, 200)
    assert shown.signal.start == -5 and len(shown.signal.values) == 205
    known = np.flatnonzero(np.isfinite(shown.signal.values))
    assert (known - 5).tolist() == [110, 111, 112] and shown.signal.values[known].tolist() == [1, 2, 3.5]
    assert np.isnan(found.within("chr9", 0, 10).signal.values).all()
    whole = Path("curve.bw").read_bytes()
    for damaged in (whole[:-1], whole[:100], whole[:64], whole[:4]):
        Path("bad.bw").write_bytes(damaged)
        with pytest.raises(UsageError, match=r"bad\.bw"):
            open_annotation("bad.bw", [PLACE]).within(*PLACE)


WRONG = {
    "columns": ('chr1\ta\texon\t5\t9\t.\t+\t.\tgene_id "a"\nchr1\ta\texon\t5\t9\n', "line 2: 5 columns, but GTF has 9"),
    "numbers": ('chr1\ta\texon\t9\t5\t.\t+\t.\tgene_id "a"\n', "line 1: '9 to 5' are not the first and the last base"),
    "from 0": ('chr1\ta\texon\t0\t5\t.\t+\t.\tgene_id "a"\n', "counted from 1"),
    "no gene": ("chr1\ta\texon\t5\t9\t.\t+\t.\tParent=x\n", "gffread IN.gff3 -T -o OUT.gtf"),
    "quote": ('chr1\ta\texon\t5\t9\t.\t+\t.\tgene_id "a; x "b"\n', "line 1: a quote of column 9 is not closed"),
    "spreadsheet": (
        'chr1\ta\texon\t5\t9\t.\t+\t.\t"gene_id ""a""; gene_name ""b"";"\n',
        "line 1: column 9 begins with a quote, as spreadsheets",
    ),
    "gff3": ("##gff-version 3\nchr1\ta\texon\t5\t9\t.\t+\t.\tParent=x\n", "is GFF3. It becomes GTF by: gffread"),
    "bed": ("chr1\tx\t5\n", "line 1: start 'x' is not a whole number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_line(case):
    text, message = WRONG[case]
    Path("x.txt").write_text(text)
    with pytest.raises(RegionError, match=r"^x\.txt") as error:
        open_annotation("x.txt", [PLACE])
    assert message in str(error.value)


def test_what_is_no_file_is_told(here):
    (here / "folder").mkdir()
    for text, message in (("gone.bed", "gone.bed does not exist"), ("folder", "folder is a folder. Name a BED")):
        with pytest.raises(FastISMError, match=message):
            open_annotation(text, [PLACE])


def test_a_bigbed_is_told():
    Path("a.bb").write_bytes(bytes.fromhex("ebf28987") + bytes(90))
    with pytest.raises(UsageError, match=r"^a\.bb is a bigBed\. Give it as BED: bigBedToBed a\.bb OUT\.bed$"):
        open_annotation("a.bb", [PLACE])


@contextmanager
def pipe(data: bytes) -> Iterator[str]:
    """As `<(cat FILE)` gives it: it can be read once."""
    receive, send = os.pipe()
    os.write(send, data)
    os.close(send)
    yield f"/dev/fd/{receive}"
    os.close(receive)


def test_a_pipe_is_read_whole():
    with pipe(b"# made\nchr1\t90\t101\tearly\nchr1\t190\t210\tlate\n") as name:
        found = open_annotation(f"hits={name}", [PLACE])
    assert [(x.start, x.name) for x in found.within(*PLACE).items] == [(90, "early"), (190, "late")]
    with pipe(GTF.format(c="chr1").encode()) as name:
        assert open_annotation(name, [PLACE]).within(*PLACE).items[0] == TAL1
    with pipe(b"chr1\t150\t160\n") as name:
        assert places_to_shade([name], [PLACE]) == [("chr1", 150, 160)]
    with pipe(b"chr1\t5\n") as name, pytest.raises(RegionError, match=f"^{name} line 1: 2 columns"):
        open_annotation(name, [PLACE])
    with pipe(bigwig_bytes({"chr1": 9}, [])) as name, pytest.raises(UsageError, match="is a bigWig from a pipe, which"):
        open_annotation(name, [PLACE])


def test_both_names_of_a_contig_count():
    """A file that was joined of two."""
    Path("a.bed").write_text("1\t150\t160\tb\nchr1\t140\t150\ta\n")
    assert [x.name for x in open_annotation("a.bed", [PLACE]).within(*PLACE).items] == ["a", "b"]


def test_a_file_may_have_a_label(here):
    (here / "odd=name.bed").write_text("")
    assert labelled_path("odd=name.bed") == ("odd=name", "odd=name.bed")
    assert labelled_path("hits=a/b=c.bed") == ("hits", "a/b=c.bed")
    assert labelled_path("a/hg38.refGene.gtf.gz") == ("hg38.refGene", "a/hg38.refGene.gtf.gz")


def test_places_to_shade(here):
    (here / "a.bed").write_text("chr1\t150\t160\nchr1\t500\t600\n1\t10\t101\n")
    assert places_to_shade(["chr2:1,001-1,010", "a.bed"], [PLACE]) == [
        ("chr2", 1000, 1010),
        ("chr1", 150, 160),
        ("1", 10, 101),
    ]
    with pytest.raises(UsageError, match="highlight 'chr1': there is no such file, and a place is CHROM:START-END"):
        places_to_shade(["chr1"], [PLACE])
    assert files_of(["x=y.bed"], ["a.bed", "chr1:5-6"]) == ["y.bed", "a.bed"]


def test_no_gene_of_other_contigs_is_kept(here):
    (here / "g.gtf").write_text(GTF.format(c="chr1"))
    assert list(read_genes("g.gtf", {"chrX"})) == ["chrX"]
