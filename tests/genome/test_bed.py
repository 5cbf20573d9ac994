"""BED records, and the message for every way in which a line is not one."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import tracemalloc
import zlib
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastism_cli.errors import RegionError, ResourceError
from fastism_cli.genome.bed import BedSource, BedSummary, Region
from fastism_cli.genome.input_files import BGZF_END

BED6 = "chr1\t10\t20\tpeak1\t960\t+\nchr2\t0\t5\tpeak2\t0\t-\n"
RECORDS = [Region("chr1", 10, 20, "peak1", "+", None, 1), Region("chr2", 0, 5, "peak2", "-", None, 2)]


@pytest.fixture
def bed(tmp_path):
    """Write text to ``peaks.bed`` and return its path."""

    def write(text: str | bytes, name: str = "peaks.bed") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.fixture
def stdin(monkeypatch):
    """Put bytes on stdin."""

    def feed(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return feed


def stream(path: str) -> Generator[Region, None, None]:
    with BedSource(path) as source:
        yield from source.regions()


def read(path: str) -> list[Region]:
    return list(stream(path))


def summary_of(path: str) -> BedSummary:
    with BedSource(path) as source:
        return source.summary


def test_bed6(bed):
    assert read(bed(BED6)) == RECORDS


def test_bed3_has_no_name_and_no_strand(bed):
    assert read(bed("chrX\t1\t2")) == [Region("chrX", 1, 2, "", ".", None, 1)]


def test_dot_is_no_name_and_empty_is_no_strand(bed):
    assert read(bed("chrX\t1\t2\t.\t0\t\tx\n")) == [Region("chrX", 1, 2, "", ".", None, 1)]


def test_headers_and_blank_lines_are_skipped_but_counted(bed):
    text = "track name=x\tcolor=1\ntrack\nbrowser position chr1\n# note\n\n   \nchr1\t10\t20\n\t\nchr2\t0\t5\n"
    assert [(region.chrom, region.line) for region in read(bed(text))] == [("chr1", 7), ("chr2", 9)]


@pytest.mark.parametrize("chrom", ["tracker", "browser2", "track", "browser", "@1", "b", "HLA-A*01:01", "1", "é"])
def test_contig_names_are_taken_as_they_are(bed, chrom):
    assert [region.chrom for region in read(bed(f"{chrom}\t1\t2\n"))] == [chrom]


def test_crlf_and_a_byte_order_mark(bed):
    assert read(bed(b"\xef\xbb\xbf" + BED6.replace("\n", "\r\n").encode())) == RECORDS


def test_narrowpeak_summit_is_a_position_on_the_contig(bed):
    line = "chr1\t100\t200\tp\t0\t.\t5.1\t3.0\t-1\t{}\n"
    summits = [region.summit for region in read(bed(line.format(40) + line.format(-1) + line.format(0)))]
    assert summits == [140, None, 100]


def test_bed12_has_no_summit_and_is_not_taken_for_sam(bed):
    bed12 = "chr1\t1000\t5000\t7\t960\t+\t1000\t5000\t0\t2\t567,488,\t0,3512\n"
    assert read(bed(bed12)) == [Region("chr1", 1000, 5000, "7", "+", None, 1)]


PEAK = "chr1\t1000\t1900\tp0\t900\t.\t8.1\t12.3\t-1\t120"


@pytest.mark.parametrize(
    "more",
    [
        "",
        "\t4",  # bedtools intersect -c
        "\t2.46\t2.73\t1000\t1900\t620.1\t1120\t1005\t1895\t213.8\t1123",  # IDR
        "\tchr2\t5\t9\tname\t0\t+\t4",  # bedtools intersect -wo
        "\t0\t0",
        "\t",
    ],
)
def test_summits_are_used_whatever_follows_narrowpeak(bed, caplog, more):
    path = bed(f"{PEAK}{more}\n".replace("\t120", "\t-1") + f"{PEAK}{more}\n")
    assert [region.summit for region in read(path)] == [None, 1120]
    assert summary_of(path).count == 2
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (
            "chr1\t1000\t1900\tp0\t900\t.\tchr1\t990\t1200\t7\t0\t+",  # bedtools intersect -wa -wb of two BED6
            "column 7, 'chr1', is no number",
        ),
        ("chr1\t1000\t1900\tp0\t900\t.\t8.1\t12.3\tx\t120\t4", "column 9, 'x', is no number"),
        (f"{PEAK}0\t4", "summit '1200' (column 10 of narrowPeak) is neither -1 nor an offset below 900"),
        (f"{PEAK.removesuffix('120')}1.5\t4", "summit '1.5' (column 10 of narrowPeak) is neither"),
        (f"{PEAK}{'0' * 5000}\t4", "summit '120000"),
    ],
)
def test_columns_that_are_no_narrowpeak_are_told(bed, caplog, record, why):
    path = bed(f"chr1\t1\t2\n{record}\n{record}\n{PEAK}\n")
    assert [region.summit for region in read(path)] == [None, None, None, 1120]
    assert caplog.text == ""  # told once, by the pass over the whole file
    summary_of(path)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(
        f"{path}: no summit is used of 2 records with more than 10 columns, as columns 1-10 are not narrowPeak (line"
    )
    assert why in message


@pytest.mark.parametrize(
    "columns",
    ["1000\t5000\t0\t2\t567,488,\t0,3512", "0\t0\t255,0,0\t1\t567\t0", "1000\t1000\t0\t3\t5,6\t0,9\tmore\t7"],
)
def test_bed12_has_no_summit_and_nothing_is_told(bed, caplog, columns):
    path = bed(f"chr1\t1000\t5000\t7\t960\t+\t{columns}\n")
    assert [region.summit for region in read(path)] == [None]
    assert summary_of(path).count == 1
    assert caplog.text == ""


def test_a_bed_that_looks_like_vcf(bed):
    assert read(bed("chr1\t5\t9\tA\t30\t.\tPASS\tx\n")) == [Region("chr1", 5, 9, "A", ".", None, 1)]


@given(
    st.lists(
        st.tuples(
            st.text("abcXYZ019._*:-|", min_size=1).filter(lambda name: name.strip()),
            st.integers(0, 2**32 - 2),
            st.integers(1, 10**6),
            st.text("peak_019 é/", max_size=8).map(str.strip),
            st.sampled_from("+-."),
        )
    )
)
def test_what_is_written_is_read(records):
    expected = [
        Region(chrom, start, min(start + length, 2**32 - 1), name, strand, None, line)
        for line, (chrom, start, length, name, strand) in enumerate(records, start=1)
    ]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        for region in expected:
            print(region.chrom, region.start, region.end, region.name, 0, region.strand, sep="\t", file=file)
        file.flush()
        assert read(file.name) == expected
        assert summary_of(file.name).count == len(expected)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("chr1\t500\t400", "start 500 is after end 400"),
        ("chr1\t500\t500", "start and end are both 500: the region has no bases"),
        ("chr1\t-5\t400", "start -5 is negative"),
        ("chr1\t5\t-400", "end -400 is negative"),
        ("chr1\t5.0\t400", "start '5.0' is not a whole number"),
        ("chr1\t1_000\t4000", "start '1_000' is not a whole number"),
        ("chr1\t1,000\t4000", "start '1,000' is not a whole number"),
        ("chr1\t1\t٣", "end '٣' is not a whole number"),
        ("chr1\t5\tx", "end 'x' is not a whole number"),
        ("chr1\t5\t", "2 columns, but BED needs at least contig, start and end. Received: 'chr1\\t5'"),
        ("chr\tchromStart\tchromEnd", "is not a whole number. A line of column names must begin with '#'"),
        ("chr1", "1 column, but BED needs at least contig, start and end. Received: 'chr1'"),
        ("chr1 5 400", "columns are separated by spaces, but BED needs tabs: tr -s ' ' '\\t'"),
        ("\t5\t400", "the first column, the contig, is empty"),
        ("chr1\t5\t99999999999", "end 99999999999 is longer than any contig can be (4294967295)"),
        ("chr1\t5\t400\tn\t0\t1", "strand '1' is not '+', '-' or '.'. If column 6 is no strand: cut -f1-5"),
        ("chr1\t5\t9\tn\t0\t.\t1\t1\t1\t4", "summit '4' (column 10 of narrowPeak) is neither -1 nor an offset below 4"),
        ("chr1\t5\t9\tn\t0\t.\tchr1\t1\t1\t3", "column 7, 'chr1', is no number. If this is not narrowPeak: cut"),
        ("chr1\t5\t9\tn\t0\t.\t1\t1\t1\tx", "If this is not narrowPeak: cut -f1-6"),
        ("x" * 100, "Received: '" + "x" * 37 + "...'"),
        ("chr1\t1e+05\t400", "start '1e+05' is not a whole number. Write it as an integer: options(scipen=999)"),
        ("chr1\t5\t2.02e+08", "end '2.02e+08' is not a whole number. Write it as an integer: options(scipen=999)"),
        ("chr1\t1000.0\t1400.0", "in R, .astype(int) in pandas"),
        ("chr1\t1,000\t4,000", "start '1,000' is not a whole number. Write it without commas"),
        ("chr1\t5\t1,234,567.00", "Write it without commas"),
        ("chr1\t1000L\t1400L", "start '1000L' is not a whole number. Write it without the L of R's integers"),
        ('chr1\t"1000"\t"1400"', "Write it without quotes: quote=FALSE in R, quoting=3 in pandas"),
        ('"chr1"\t1000\t1400', "contig '\"chr1\"' is in quotes. Write it without quotes: quote=FALSE in R"),
        ("chr1\t 1000\t1400", "start ' 1000' is not a whole number. Write it without blanks"),
        ("chr1\t5\t" + "9" * 5000, "end " + "9" * 37 + "... is longer than any contig can be"),
        ("chr1\t" + "9" * 5000 + "\t7", "start " + "9" * 37 + "... is longer than any contig can be"),
        ("chr1\t-" + "9" * 5000 + "\t7", "start -" + "9" * 36 + "... is negative"),
        ("chr1\t5\t9\tn\t0\t.\t1\t1\t1\t" + "9" * 5000, "(column 10 of narrowPeak) is neither -1"),
        ("chr1\t5\t9\tn\t0\t.\t1\t1\t1\t2.0", "an offset below 4. Write it as an integer: options(scipen=999)"),
        ("chr1\t5\t9\rchr1\t5\t9\rchr1\t5\t9", "the lines end in carriage returns alone (CR), as on old Macs. Mend"),
        ("chr1\t5\t9\tna\rme", "the lines end in carriage returns alone (CR), as on old Macs"),
        ("chr1\t5\t9\tna\x0bme", "holds the control character '\\x0b'. Remove it."),
        ("chr1\t5\t9\tna\u2028me", "holds the control character '\\u2028'. Remove it."),
        ("chr1\u00a0100\t164\t200", "contig 'chr1\\xa0100' holds blanks, but BED needs tabs between columns"),
    ],
)  # fmt: skip
def test_a_faulty_line_is_named(bed, record, problem):
    path = bed(f"# header\nchr1\t1\t2\n{record}\nchr1\t1\t2\n")
    for consume in (read, summary_of):
        with pytest.raises(RegionError) as caught:
            consume(path)
        assert str(caught.value).startswith(f"{path} line 3: ")
        assert problem in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_message_of_the_style_guide(bed, monkeypatch, tmp_path):
    bed("chr1\t1\t2\n" * 217 + "chr1\t500\t400\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegionError, match=r"^peaks\.bed line 218: start 500 is after end 400$"):
        read("peaks.bed")


def test_records_before_the_fault_are_streamed(bed):
    regions = stream(bed("chr1\t1\t2\nchr1\t3\t2\n"))
    assert next(regions).end == 2
    with pytest.raises(RegionError, match="line 2: start 3 is after end 2"):
        next(regions)


def test_all_problems_are_reported_together(bed):
    path = bed("chr1\t3\t2\nchr1\t1\t2\nchr1\tx\t2\nchr1 1 2\n")
    with pytest.raises(RegionError) as caught:
        summary_of(path)
    assert str(caught.value).splitlines() == [
        f"3 lines of {path} are not BED:",
        "  line 1: start 3 is after end 2",
        "  line 3: start 'x' is not a whole number",
        "  line 4: columns are separated by spaces, but BED needs tabs: tr -s ' ' '\\t'",
    ]


def test_at_most_twenty_problems_are_listed(bed):
    with pytest.raises(RegionError) as caught:
        summary_of(bed("chr1\t3\t2\n" * 20))
    assert str(caught.value).splitlines()[-1] == "  line 20: start 3 is after end 2"
    with pytest.raises(RegionError) as caught:
        summary_of(bed("chr1\t3\t2\n" * 24))
    first, *shown, last = str(caught.value).splitlines()
    assert first.startswith("24 lines of ")
    assert (len(shown), last) == (20, "  ... and 4 more")


@pytest.mark.parametrize("content", [b"\x7fELF\x02\xff", b"chr1\0\t1\t2\n"])
def test_what_is_not_text_is_told(bed, content):
    with pytest.raises(RegionError, match=re.escape("line 1: bytes that are no text (UTF-8). Is this a BED file?")):
        read(bed(content))


@pytest.mark.parametrize(
    "content, words",
    [
        (b"\x89HDF\r\n\x1a\n\xff\n\xff", "is an HDF5 file, such as a model of Keras or a result"),
        (b"PK\x03\x04" + bytes(26) + b"metadata.json{\n\xff\n", "is a model of Keras"),
        (b"PK\x03\x04" + bytes(26) + b"peaks.bed", "is a zip archive: unpack it first"),
        (b"BZh91AY&SY", "is compressed by bzip2: unpack it first"),
        (b"\x87\x89\xf2\xeb\n", "is a bigBed file. A BED of it: bigBedToBed "),
        *(
            (BED6.encode(form), "is text in UTF-16. Save it as UTF-8: iconv")
            for form in ("utf-16", "utf-16-le", "utf-16-be")
        ),
        (b">chr1\nACGT\n", "is a FASTA. Give it by --fasta, and regions in BED by --bed."),
        (
            b"# MACS\nchr\tstart\tend\tlength\tabs_summit\nchr1\t11\t20\t10\t14\n",
            "is a table of MACS, whose positions count",
        ),
        (b"##gff-version 3\n", "is a GFF or GTF, whose positions are columns 4 and 5"),
        (b"#!x\nchr1\tsrc\texon\t100\t120\t.\t+\t.\tID=x\n" * 2, "A BED of it: awk -v OFS='\\t' -F '\\t'"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_another_format_is_told_in_one_line(bed, content, words, pack):
    path = bed(pack(content))
    with pytest.raises(RegionError, match=rf"^{re.escape(path)} is .*$") as caught:
        summary_of(path)
    assert words in caught.value.message


def test_the_bed_that_is_advised_for_a_gff_is_right(bed):
    gff = bed("chr1\tsrc\texon\t100\t120\t.\t-\t.\tID=x\n", "x.gff")
    with pytest.raises(RegionError) as caught:
        read(gff)
    command = str(caught.value).partition("A BED of it: ")[2]
    made = subprocess.run(f"{command} {gff}", shell=True, capture_output=True, check=True)
    assert read(bed(made.stdout)) == [Region("chr1", 99, 120, "exon", "-", None, 1)]


def test_summary(bed):
    text = "# h\nchr2\t1\t2\nchr1\t1\t2\nchr2\t5\t6\n"
    summary = summary_of(bed(text))
    assert summary.count == 3
    assert list(summary.contigs.items()) == [("chr2", 2), ("chr1", 3)]
    assert summary.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("text", ["", "# only a header\n", "\n"])
def test_a_file_without_records_is_valid(bed, text):
    path = bed(text)
    assert read(path) == []
    assert (summary_of(path).count, summary_of(path).contigs) == (0, {})


@pytest.mark.parametrize("name", ["peaks.bed.gz", "peaks.bed"])
def test_gzip_is_told_by_content(bed, name):
    compressed = gzip.compress(BED6.encode()) + gzip.compress(b"chr3\t1\t2\n")  # as bgzip writes: several members
    path = bed(compressed, name)
    assert read(path) == [*RECORDS, Region("chr3", 1, 2, "", ".", None, 3)]
    assert summary_of(path).sha256 == hashlib.sha256(compressed).hexdigest()


@pytest.mark.parametrize("damage", [lambda z: z[:-9], lambda z: z[:20] + b"\0\0\0\0" + z[24:], lambda z: z + b"junk"])
def test_damaged_gzip(bed, damage):
    path = bed(damage(gzip.compress(os.urandom(30) + BED6.encode() * 50)), "peaks.bed.gz")
    with pytest.raises(RegionError, match=re.escape(f"{path} is a damaged gzip file (")):
        summary_of(path)


def test_a_bgzip_that_is_cut_between_its_blocks(bed):
    """Whole blocks are left, so only the end marker tells."""
    head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff\x06\x00BC\x02\x00"
    packed = zlib.compress(BED6.encode(), wbits=-15)
    size = (len(head) + 2 + len(packed) + 8 - 1).to_bytes(2, "little")
    end = zlib.crc32(BED6.encode()).to_bytes(4, "little") + len(BED6).to_bytes(4, "little")
    block = head + size + packed + end
    assert read(bed(block + BGZF_END, "whole.bed.gz")) == RECORDS
    path = bed(block, "cut.bed.gz")
    with pytest.raises(RegionError, match=r"cut\.bed\.gz is a cut or damaged bgzip file: its end marker is missing\."):
        read(path)


def test_a_vcf_is_no_bed(bed):
    path = bed("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n1\t100\t4321\tA\tC\n")
    with pytest.raises(RegionError, match=rf"^{re.escape(path)} is a VCF\. fastism variants scores it; .*%POS0"):
        summary_of(path)


def test_summits_are_counted(bed):
    assert summary_of(bed(BED6)).summits == 0
    assert summary_of(bed(f"{PEAK}\n{PEAK[:-3]}-1\n{PEAK}\n")).summits == 2


def test_leading_zeros_are_read_as_they_are_meant(bed):
    path = bed("chr1\t0001000\t" + "0" * 5000 + "1400\nchr1\t000\t01\n")
    assert [region[:3] for region in read(path)] == [("chr1", 1000, 1400), ("chr1", 0, 1)]


def test_no_path_at_all():
    with pytest.raises(RegionError, match=r"^'' does not exist$"):
        read("")


def test_a_file_that_may_not_be_read(bed, monkeypatch):
    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    path = bed(BED6)
    monkeypatch.setattr("fastism_cli.genome.bed.open", refuse, raising=False)  # root may read everything
    with pytest.raises(RegionError, match=rf"^{re.escape(path)} cannot be read: Permission denied$"):
        summary_of(path)


def test_missing_file_and_folder(tmp_path):
    missing = str(tmp_path / "none.bed")
    for consume in (read, summary_of):
        with pytest.raises(RegionError, match=f"^{re.escape(missing)} does not exist$"):
            consume(missing)
        with pytest.raises(RegionError, match=f"^{re.escape(str(tmp_path))} cannot be read: Is a directory$"):
            consume(str(tmp_path))


def test_stdin_is_read_as_often_as_needed(stdin):
    stdin(BED6.encode())
    with BedSource("-") as source:
        assert source.name == "stdin"
        assert source.summary.count == 2
        assert source.sha256 == hashlib.sha256(BED6.encode()).hexdigest()
        assert list(source.regions()) == list(source.regions()) == RECORDS
        copy = source.path
        assert os.path.exists(copy)
    assert not os.path.exists(copy)


def test_stdin_may_be_gzipped_and_its_faults_have_lines(stdin):
    stdin(gzip.compress(b"chr1\t1\t2\nchr1\t2\t1\n"))
    with pytest.raises(RegionError, match=r"^stdin line 2: start 2 is after end 1$"):
        read("-")


def test_the_copy_of_stdin_is_removed_after_an_error(stdin, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stdin(b"chr1\t2\t1\n")
    with pytest.raises(RegionError):
        summary_of("-")
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_stdin(stdin, tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("shutil.copyfileobj", fail)
    stdin(BED6.encode())
    with pytest.raises(ResourceError, match=r"^stdin could not be copied to .*: No space left on device\. Set TMPDIR"):
        read("-")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_as_often_as_needed(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(BED6,))
    writer.start()
    with BedSource(str(pipe)) as source:
        assert source.name == str(pipe)
        assert source.summary.count == 2
        assert list(source.regions()) == RECORDS
    writer.join()


def test_abandoning_the_stream_closes_the_file(bed):
    regions = stream(bed(BED6))
    next(regions)
    regions.close()  # a ResourceWarning would fail this test


def test_memory_does_not_grow_with_the_file(bed):
    path = bed("".join(f"chr1\t{start}\t{start + 500}\tpeak{start}\t0\t+\n" for start in range(20_000)))
    next(stream(path))  # imports and caches
    tracemalloc.start()
    assert sum(1 for _ in stream(path)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_no_bedtools_binary_is_needed(bed, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert read(bed(BED6)) == RECORDS
