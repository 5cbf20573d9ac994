"""A VCF is read as text: right, or refused in one line that names the file, the line and the fault."""

import gzip
import os
import tempfile
import threading

import pysam
import pytest

from fastism_cli.errors import FastISMError, SequenceError, UsageError
from fastism_cli.genome.vcf_files import VariantSource, header_field, info_keys

META = '##fileformat=VCFv4.2\n##contig=<ID=chr1,length=2000>\n##INFO=<ID=X,Number=1,Type=String,Description="a, b">\n'
NAMES = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
RECORDS = "chr1\t501\trs1\tG\tA,*\t30.0\tPASS\tX=1\nchr1\t601\t.\tac\t.\t.\t.\t.\n"
SOUND = META + NAMES + RECORDS


def read(path):
    with VariantSource(pysam, str(path)) as source:
        assert source.summary.count == len(list(source.variants()))
        return source.header, list(source.variants())


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path):
    """The message of the refusal: one line, or one for each record under a heading."""
    with pytest.raises(UsageError) as error:
        read(path)
    assert str(path) in str(error.value).splitlines()[0]
    return str(error.value)


def third(line):
    return SOUND + line + "\n"


FAULTS = {
    "utf16": (SOUND.encode("utf-16"), "is text in UTF-16. Save it as UTF-8: iconv"),
    "bzip2": (b"BZh91AY&SY", "is compressed by bzip2: unpack it first"),
    "no_fileformat": (SOUND.partition("\n")[2], "line 1: no ##fileformat line"),
    "other_format": (
        SOUND.replace("VCFv", "BEDv"),
        "line 1: '##fileformat=BEDv4.2' names no version of VCF that can be read",
    ),
    "no_header": (RECORDS, "line 1: no ##fileformat line and no #CHROM line: the header is missing"),
    "no_names": (META + RECORDS, "line 4: no #CHROM line before 'chr1"),
    "only_meta": (META, "line 3: no #CHROM line, the file ends in its header"),
    "tab_after_info": (SOUND.replace("INFO\n", "INFO\t\n"), "line 4: a tab after INFO"),
    "tab_after_sample": (META + NAMES.replace("\n", "\tFORMAT\tS1\t\n"), "line 4: a tab after S1"),
    "blanks": (META + (NAMES + RECORDS).replace("\t", " "), "line 4: columns separated by blanks"),
    "blanks_in_names": (SOUND.replace("POS\tID", "POS ID"), "line 4: columns separated by blanks"),
    "blanks_in_record": (third("chr1 701 . A C . . ."), "line 7, record 3: columns separated by blanks"),
    "sheet_quotes": (
        META.replace("##INFO", '"##INFO') + NAMES + RECORDS,
        "line 3: quotes and tabs as a spreadsheet writes them",
    ),
    "sheet_tabs": (SOUND.replace("4.2\n", "4.2" + 7 * "\t" + "\n"), "line 1: quotes and tabs as a spreadsheet"),
    "sheet_record": (third('"chr1"\t701\t"."\t"A"\t"C"\t.\t.\t.'), "line 7, record 3: quotes and tabs as a spread"),
    "names": (SOUND.replace("\tID\tREF", "\tREF\tID"), "line 4: column 3 is 'REF' instead of ID"),
    "seven": (SOUND.replace("\tINFO", ""), "line 4: the #CHROM line has 7 columns, without INFO"),
    "format": (META + NAMES.replace("\n", "\tS1\n"), "line 4: column 9 is 'S1' instead of FORMAT"),
    "twice": (META + NAMES.replace("\n", "\tFORMAT\tS\tS\n"), "line 4: 'S' names two columns"),
    "blank_in_header": (SOUND.replace("##INFO", "\n##INFO"), "line 3: a blank line in the header"),
    "blank_line": (SOUND + "\n" + "chr1\t701\t.\tA\tC\t.\t.\t.\n", "line 7, record 3: the line is blank"),
    "header_again": (SOUND + NAMES, "line 7, record 3: a header line among the records"),
    "letters_in_pos": (third("chr1\t7O1\t.\tA\tC\t.\t.\t."), "line 7, record 3: POS '7O1' is no number"),
    "negative": (third("chr1\t-1\t.\tA\tC\t.\t.\t."), "line 7, record 3: POS '-1' is negative"),
    "digits": (
        third(f"chr1\t{5000 * '7'}\t.\tA\tC\t.\t.\t."),
        f"line 7, record 3: POS '{30 * '7'}'... (5,000 characters) is too large",
    ),
    "short": (third("chr1\t701\t.\tA"), "line 7, record 3 has 4 columns; the #CHROM line names 8"),
    "samples": (SOUND.replace("INFO\n", "INFO\tFORMAT\tS1\n"), "line 5, record 1 has 8 columns; the #CHROM line names"),
    "tab_at_end": (third("chr1\t701\t.\tA\tC\t.\t.\t.\t"), "record 3 has 9 columns, the last of them empty"),
    "empty_alt": (third("chr1\t701\t.\tA\t\t.\t.\t."), "line 7, record 3: ALT is empty"),
    "empty_info": (third("chr1\t701\t.\tA\tC\t.\t.\t"), "line 7, record 3: INFO is empty"),
    "empty_chrom": (third("\t701\t.\tA\tC\t.\t.\t."), "line 7, record 3: CHROM is empty"),
    "empty_allele": (third("chr1\t701\t.\tA\tC,,T\t.\t.\t."), "line 7, record 3: ALT 'C,,T' has an empty allele"),
    "ref": (third("chr1\t701\t.\tA C\tC\t.\t.\t."), "line 7, record 3: REF 'A C' is no sequence"),
    "alt": (third("chr1\t701\t.\tA\tC \t.\t.\t."), "line 7, record 3: ALT 'C ' holds a character"),
    "chrom": (third("chr 1\t701\t.\tA\tC\t.\t.\t."), "line 7, record 3: CHROM 'chr 1' holds a blank"),
    "mac": (SOUND.replace("\n", "\r"), "line 1: a carriage return inside of the line"),
    "carriage_return": (third("chr1\t701\t.\tA\tC\t.\t.\tX=1\rY=2"), "line 7, record 3: a carriage return inside"),
    "nul": (third("chr1\t701\t.\tA\tC\t.\t.\tX=\0"), "line 7, record 3: a NUL byte"),
    "nothing": ("", "is empty"),
    "binary": (bytes(range(256)) * 9, "line 1: bytes that are no text"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_in_one_line_with_its_line(tmp_path, name):
    text, message = FAULTS[name]
    told = refusal(written(tmp_path / "v.vcf", text))
    assert message in told
    assert "\n" not in told or "2 of 2 records" in told
    assert "b'" not in told and len(told) < 500


def test_all_records_that_are_wrong_are_listed(tmp_path):
    wrong = [f"chr1\t{i}x\t.\tA\tC\t.\t.\t.\n" for i in range(30)]
    told = refusal(written(tmp_path / "v.vcf", SOUND + "".join(wrong))).splitlines()
    assert "30 of 32 records of" in told[0] and len(told) == 22
    assert told[2].strip() == "line 8, record 4: POS '1x' is no number." and told[-1].strip() == "... and 10 more"


FORMS = {
    "plain": lambda text: text,
    "no_last_newline": lambda text: text.removesuffix(b"\n"),
    "windows": lambda text: text.replace(b"\n", b"\r\n"),
    "byte_order_mark": lambda text: b"\xef\xbb\xbf" + text,
    "gzip": gzip.compress,
    "two_members": lambda text: gzip.compress(text[:99]) + gzip.compress(text[99:]),
    "bgzip": lambda text: bgzipped(text),
}


def bgzipped(text):
    with tempfile.NamedTemporaryFile(suffix=".gz") as file:
        with pysam.BGZFile(file.name, "wb") as packed:
            packed.write(text)
        return file.read()


@pytest.mark.parametrize("form", FORMS)
def test_lines_are_the_same_in_every_form(tmp_path, form):
    """Also an HLA contig without a comma, names of other alphabets, and bytes that end lines in Python only."""
    text = SOUND.replace(
        "##INFO", "##contig=<ID=HLA-DRB1*04:03:01 length=15246>\n##x=\x0b\x0c\x1c\x85\u2028\n##INFO"
    ).encode()
    text += "ж1\t7\tжд\tA\tC\t1e10\t.\t".encode() + b"N=\xe9\x85 na\xefve\n"
    header, variants = read(written(tmp_path / "v", FORMS[form](text)))
    lines = text.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
    assert header == lines[:6] and ["\t".join(variant.columns) for variant in variants] == lines[6:]
    first, second, last = variants
    assert (first.number, first.chrom, first.position, first.name, first.ref) == (0, "chr1", 500, "rs1", "G")
    assert first.alts == ("A", "*") and second.alts == () and second.ref == "ac"
    assert last.place == "ж1:7" and last.columns[7].encode("utf-8", "surrogateescape") == b"N=\xe9\x85 na\xefve"


def test_a_bcf_has_the_text_that_htslib_makes_of_it(tmp_path):
    """Also Latin-1 in its header; what is left of it behind a damaged byte is refused by the name of the file."""
    plain = written(tmp_path / "v.vcf", SOUND.replace("a, b", "na\xefve").encode("latin-1"))
    with (
        pysam.VariantFile(str(plain)) as file,
        pysam.VariantFile(str(tmp_path / "v.bcf"), "wb", header=file.header) as out,
    ):
        for record in file:
            out.write(record)
    written(tmp_path / "u.bcf", gzip.decompress((tmp_path / "v.bcf").read_bytes()))
    written(tmp_path / "g.bcf", gzip.compress((tmp_path / "u.bcf").read_bytes()))
    for name in ("v.bcf", "u.bcf", "g.bcf"):
        header, variants = read(tmp_path / name)
        assert any("na\udcefve" in line for line in header) and header[-1] == NAMES.strip()
        assert [variant.columns[:5] for variant in variants] == [variant.columns[:5] for variant in read(plain)[1]]
    raw = (tmp_path / "v.bcf").read_bytes()
    assert "damaged" in refusal(written(tmp_path / "d.bcf", raw[:60] + bytes([raw[60] ^ 16]) + raw[61:]))
    raw = (tmp_path / "u.bcf").read_bytes()
    assert "is a damaged BCF: record 2" in refusal(written(tmp_path / "e.bcf", raw[:-5]))


@pytest.mark.parametrize("compress", [gzip.compress, bgzipped])
def test_a_damaged_file_is_called_damaged(tmp_path, compress):
    """One flipped bit anywhere, and a cut anywhere: the same records, or a refusal that says so."""
    text = SOUND + "".join(f"chr1\t{700 + i}\tid{i * 7919}\tA\tC\t{i}\t.\tX={i * i}\n" for i in range(300))
    raw, path = compress(text.encode()), tmp_path / "v.vcf.gz"
    right, told = read(written(path, raw)), []
    for i in [*range(30), *range(30, len(raw), 211)]:
        for damaged in (raw[:i] + bytes([raw[i] ^ 1 << i % 8]) + raw[i + 1 :], raw[:i]):
            try:
                assert read(written(path, damaged)) == right
            except FastISMError as error:
                told.append(str(error))
                assert str(error).startswith(str(path)) and "\n" not in str(error)
                assert i < 2 or "damaged" in str(error) or "is empty" in str(error)
    assert len(told) > 50


def test_a_bgzip_that_is_cut_between_its_blocks_is_told(tmp_path):
    raw = bgzipped(SOUND.encode())
    assert "is a cut or damaged bgzip file: its end marker is missing" in refusal(written(tmp_path / "v.gz", raw[:-28]))


def test_a_file_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    assert "does not exist or is not a file" in refusal(tmp_path)
    assert "does not exist or is not a file" in refusal(tmp_path / "no.vcf")
    path = written(tmp_path / os.fsdecode(b"\xe9.vcf"), SOUND)
    assert len(read(path)[1]) == 2

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    assert refusal(path).endswith("cannot be read: Permission denied")


def test_a_pipe_is_read(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(SOUND,))
    writer.start()
    assert len(read(path)[1]) == 2
    writer.join()


def test_the_summary_has_what_an_index_needs(tmp_path):
    path = written(tmp_path / "v.vcf", third("chr2\t5\t.\tA\tC\t.\t.\t."))
    with VariantSource(pysam, str(path)) as source:
        assert source.summary.contigs == {"chr1": 0, "chr2": 2}
        assert (source.summary.count, source.summary.largest, source.summary.is_sorted) == (3, 601, True)
        assert source.contig_lengths == {"chr1": 2000}
    with VariantSource(pysam, str(written(path, third("chr1\t5\t.\tA\tC\t.\t.\t.")))) as source:
        assert not source.summary.is_sorted


@pytest.mark.parametrize(
    ("line", "name", "length"),
    [
        ("##contig=<ID=chr10,length=5>", "chr10", "5"),
        ("##contig=<length=5,ID=chr1>", "chr1", "5"),
        ('##contig=<ID=a,Description="x,length=9,ID=b > \\",length=8",length=7>', "a", "7"),
        ("##contig=<ID=HLA-DRB1*04:03:01 length=15246>", "HLA-DRB1*04:03:01 length=15246", ""),
    ],
)
def test_fields_of_a_header_line(line, name, length):
    assert (header_field(line, "ID"), header_field(line, "length")) == (name, length)


def test_every_target_has_its_own_key():
    labels = ["a b", "a_b", "a_b_0", "a-b", "a_b_1"]
    assert len(set(info_keys("D", labels))) == 5 and info_keys("D", ["x"]) == ["D"]


def test_a_fault_stops_the_reading_of_variants(tmp_path):
    path = written(tmp_path / "v.vcf", third("chr1\tx\t.\tA\tC\t.\t.\t."))
    with VariantSource(pysam, str(path)) as source, pytest.raises(SequenceError, match="record 3: POS 'x'"):
        list(source.variants())
