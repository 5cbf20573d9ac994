"""Scores of variants equal plain Keras predictions of sequences that are put together by plain string operations."""

import csv
import gzip
import os
from pathlib import Path

import keras
import numpy as np
import pysam
import pytest
from click.testing import CliRunner, Result

from fastism_cli.cli import main
from fastism_cli.run.variants import score_variants
from fastism_cli.run.variants.variant_block import VariantWindows
from tests.helpers.small_run import LENGTH, LETTERS, Folder, contigs, predicted

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.one_in(2),
]

HEADER = """##fileformat=VCFv4.2
##INFO=<ID=AF,Number=A,Type=Float,Description="Allele frequency">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1
"""
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}


def base(chrom: str, position: int) -> str:
    sequence = contigs()[chrom].upper()
    return sequence[position] if 0 <= position < len(sequence) else "N"


def bases(chrom: str, start: int, stop: int) -> str:
    return "".join(base(chrom, position) for position in range(start, stop))


def substitution(chrom: str, position: int) -> tuple[str, int, str, str]:
    ref = base(chrom, position)
    return (chrom, position, ref, OTHER[ref])


def records() -> list[tuple[str, int, str, str]]:
    """Contig, position from 0, REF, ALT."""
    two = base("chrA", 70)
    return [
        substitution("chrA", 3),  # the window begins before the contig
        substitution("chrA", 50),
        substitution("chrA", 53),
        ("chrA", 60, bases("chrA", 60, 63), base("chrA", 60)),  # deletion
        ("chrA", 65, base("chrA", 65), base("chrA", 65) + "ACGTT"),  # insertion
        ("chrA", 70, two, ",".join(letter for letter in LETTERS if letter != two)),  # three alternates
        ("chrA", 80, bases("chrA", 80, 82), "".join(OTHER[x] for x in bases("chrA", 80, 82))),  # two bases
        ("chrA", 90, base("chrA", 90), base("chrA", 90) + 50 * "A"),  # longer than what is left of the window
        ("chrA", 100, bases("chrA", 100, 130), base("chrA", 100)),  # over an N
        ("chrA", 121, "N", "G"),
        substitution("chrB", 58),
    ]


def write_vcf(path: Path, rows: list[tuple], *, info: str = "AF=0.5") -> str:
    lines = [
        f"{c}\t{p + 1}\trs{i}\t{ref}\t{alt}\t9\tPASS\t{info}\tGT\t0/1\n" for i, (c, p, ref, alt) in enumerate(rows)
    ]
    path.write_text(HEADER + "".join(lines))
    return str(path)


def variants(folder: Folder, vcf: str, *more: object, model: str = "plain") -> Result:
    return CliRunner().invoke(
        main, [str(x) for x in ("variants", "-m", folder.models[model], "--vcf", vcf, "-f", folder.fasta, *more)]
    )


def alleles_of(record: tuple, alt: str, start: int) -> np.ndarray:
    """Codes (2, LENGTH) of the window as it is and with the alternate allele."""
    chrom, position, ref, _ = record
    reference = bases(chrom, start, start + LENGTH)
    alternate = bases(chrom, start, position) + alt + bases(chrom, position + len(ref), position + len(ref) + LENGTH)
    return np.array([[(LETTERS + "N").index(x) for x in text] for text in (reference, alternate[:LENGTH])])


def profiles(model: keras.Model, record: tuple, alt: str, start: int, others) -> np.ndarray:
    """The first head (2, n, T) of both, in float64."""
    return predicted(model, alleles_of(record, alt, start), others)[0].astype("float64")


def truth(model: keras.Model, record: tuple, alt: str, start: int, others=None) -> tuple[np.ndarray, np.ndarray]:
    """Predictions on the window as it is and with the alternate allele, all targets of all heads."""
    pair = alleles_of(record, alt, start)
    heads = [head.reshape(2, -1) if head.ndim == 2 else head.sum(1) for head in predicted(model, pair, others)]
    joined = np.concatenate(heads, axis=1)
    return joined[0], joined[1]


def table_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def check(model, path: Path, rows: list[tuple], *, share: int = 1, others=None, heads=("",)) -> None:
    """Compare the VCF and the table with plain Keras."""
    lines = iter(table_of(path.with_name(path.name.replace(".vcf.gz", ".tsv"))))
    with pysam.VariantFile(str(path)) as file:
        found = list(file)
    assert len(found) == len(rows)
    for record, written in zip(rows, found, strict=True):
        start = VariantWindows(LENGTH, share).start(record[1])
        assert (written.chrom, written.start, written.ref) == record[:3] and "ISM_STATUS" not in written.info
        for number, alt in enumerate(record[3].split(",")):
            reference, alternate = truth(model, record, alt, start, others)
            for k, head in enumerate(heads):
                line = next(lines)
                assert (line["chrom"], int(line["pos"]) - 1, line["ref"], line["alt"]) == (*record[:3], alt)
                delta = written.info[f"ISM_DELTA{head}"][number]
                assert line["status"] == "ok" and np.float32(line["delta"]) == np.float32(delta)
                np.testing.assert_allclose(delta, alternate[k] - reference[k], rtol=1e-4, atol=1e-6)
                np.testing.assert_allclose(written.info[f"ISM_REF{head}"], reference[k], rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(float(line["reference"]), reference[k], rtol=1e-5, atol=1e-6)
    assert next(lines, None) is None


@pytest.mark.parametrize("share", [1, 8])
def test_scores_are_those_of_plain_keras(folder, tmp_path, share):
    vcf, out = write_vcf(tmp_path / "v.vcf", records()), tmp_path / "o.vcf.gz"
    result = variants(folder, vcf, "-o", out, "--share", share)
    assert result.exit_code == 0, result.stderr
    model = keras.models.load_model(folder.models["plain"])
    check(model, out, records(), share=share, heads=("_out_0", "_out_1", "_out_2"))
    n_windows = len({(chrom, VariantWindows(LENGTH, share).start(position)) for chrom, position, *_ in records()})
    assert n_windows == (11 if share == 1 else 9)  # of 3 and of 50, 53: one stretch of 8 each
    assert f"11 records, 13 alleles scored in {n_windows} windows -> {out}" in result.stderr.replace("\n", " ") or (
        f"scored in {n_windows} windows" in result.stderr
    )
    assert out.with_name("o.vcf.gz.tbi").exists()


def test_several_heads_other_inputs_and_chosen_targets(folder, tmp_path):
    vcf, out = write_vcf(tmp_path / "v.vcf", records()), tmp_path / "o.vcf.gz"
    features = np.array([0.5, -1.0], "float32")
    np.save(tmp_path / "f.npy", features)
    more = ("--input", f"features={tmp_path / 'f.npy'}", "--reduce", "sum", "-o", out)
    assert variants(folder, vcf, *more, model="pair").exit_code == 0
    model = keras.models.load_model(folder.models["pair"])
    others = {"features": features}
    check(model, out, records(), others=others, heads=("_profile_0", "_profile_1", "_count"))
    assert variants(folder, vcf, *more, "--targets", "profile=0", "--overwrite", model="pair").exit_code == 0
    check(model, out, records(), others=others)


@pytest.mark.one_in(36)
@pytest.mark.parametrize("share", [1, 8])
def test_reductions_that_compare_with_the_reference(folder, tmp_path, share):
    """The alternate's profile against the reference's, position by position; single bases by the engine."""
    vcf, out = write_vcf(tmp_path / "v.vcf", records()), tmp_path / "o.vcf.gz"
    features = np.array([0.5, -1.0], "float32")
    np.save(tmp_path / "f.npy", features)
    more = ("--input", f"features={tmp_path / 'f.npy'}", "--reduce", "profile=l2,jsd", "--share", share, "-o", out)
    result = variants(folder, vcf, *more, model="pair")
    assert result.exit_code == 0, result.stderr
    model = keras.models.load_model(folder.models["pair"])
    lines = iter(table_of(tmp_path / "o.tsv"))
    for record in records():
        start = VariantWindows(LENGTH, share).start(record[1])
        for alt in record[3].split(","):
            r, y = profiles(model, record, alt, start, {"features": features})
            p, q = (np.exp(x) / np.exp(x).sum(0) for x in (r, y))
            m = (p + q) / 2
            jsd = (p * np.log(p / m) + q * np.log(q / m)).sum(0) / 2
            for wanted in (*np.sqrt(((y - r) ** 2).sum(0)), *jsd):
                line = next(lines)
                assert line["alt"] == alt and float(line["reference"]) == 0
                np.testing.assert_allclose(float(line["delta"]), wanted, rtol=1e-3, atol=1e-7)
            next(lines)  # count
    assert next(lines, None) is None


def test_an_input_with_a_row_for_each_record(folder, tmp_path):
    rows = [*records()[1:4], *records()[1:4]]  # the same windows twice, with other values
    vcf, out = write_vcf(tmp_path / "v.vcf", rows), tmp_path / "o.vcf.gz"
    features = np.arange(12, dtype="float32").reshape(6, 2) / 5
    np.save(tmp_path / "f.npy", features)
    more = ("--input", f"features={tmp_path / 'f.npy'}", "--reduce", "sum", "--targets", "count=0", "-o", out)
    result = variants(folder, vcf, *more, model="pair")
    assert result.exit_code == 0 and "is not sorted, so" in result.stderr, result.stderr
    model = keras.models.load_model(folder.models["pair"])
    lines = table_of(tmp_path / "o.tsv")
    for i, (record, line) in enumerate(zip(rows, lines, strict=True)):
        start = record[1] - LENGTH // 2
        reference, alternate = truth(model, record, record[3], start, {"features": features[i]})
        np.testing.assert_allclose(float(line["delta"]), (alternate - reference)[2], rtol=1e-4, atol=1e-6)


def test_what_is_kept_unscored_says_why(folder, tmp_path):
    good = substitution("chrA", 40)
    ref = base("chrA", 45)
    rows = [
        good,
        ("chrA", 45, OTHER[ref], ref),
        ("chrA", 47, base("chrA", 47), f"<DEL>,{OTHER[base('chrA', 47)]},*"),
        ("chrA", 48, base("chrA", 48), "R"),
        ("chrA", 49, base("chrA", 49), f"{base('chrA', 49)}[chrB:5["),
        ("chrA", 51, base("chrA", 51), "."),
        ("chrA", 298, bases("chrA", 298, 300) + "A", "A"),  # REF passes the end
        ("chrQ", 10, "A", "C"),
    ]
    vcf, out = write_vcf(tmp_path / "v.vcf", rows), tmp_path / "o.vcf.gz"
    refused = variants(folder, vcf, "-o", out)
    assert refused.exit_code == 2 and "record 8: contig 'chrQ' is not in" in refused.stderr
    result = variants(folder, vcf, "-o", out, "--missing-contig", "skip", "--targets", "0")
    assert result.exit_code == 0, result.stderr
    assert "8 records, 2 alleles scored in 2 windows" in result.stderr
    assert f"not scored: 2 alleles whose REF is not in the FASTA, first chrA:46: REF {OTHER[ref]}, FASTA {ref}" in (
        result.stderr
    )
    assert (
        "not scored: 3 symbolic, 1 with letters that are not bases, 1 on contigs that the FASTA lacks" in result.stderr
    )
    with pysam.VariantFile(str(out)) as file:
        statuses = [record.info.get("ISM_STATUS") for record in file]
    assert statuses == [
        None,
        ("ref_mismatch",),
        ("symbolic", "ok", "symbolic"),
        ("not_bases",),
        ("symbolic",),
        None,
        ("ref_mismatch",),
        ("missing_contig",),
    ]
    lines = table_of(tmp_path / "o.tsv")
    assert [line["status"] for line in lines].count("ok") == 2
    assert all((line["delta"] == "") == (line["status"] != "ok") for line in lines)


def test_other_columns_are_kept_and_a_second_run_replaces_the_first(folder, tmp_path):
    vcf, out = write_vcf(tmp_path / "v.vcf", records()[1:3]), tmp_path / "o.vcf"
    assert variants(folder, vcf, "-o", out, "--targets", "1", "--no-check").exit_code == 0
    first = out.read_text()
    assert [line.split("\t")[:7] for line in first.splitlines()[-2:]] == [
        line.split("\t")[:7] for line in Path(vcf).read_text().splitlines()[-2:]
    ]
    assert all(line.split("\t")[7].startswith("AF=0.5;ISM_DELTA=") for line in first.splitlines()[-2:])
    assert all(line.endswith("\tGT\t0/1") for line in first.splitlines()[-2:])
    assert variants(folder, str(out), "-o", tmp_path / "o2.vcf", "--targets", "1", "--no-check").exit_code == 0
    assert (tmp_path / "o2.vcf").read_text() == first


def test_contigs_are_matched_with_and_without_chr(folder, tmp_path):
    rows = [("A", *substitution("chrA", 50)[1:])]
    vcf = write_vcf(tmp_path / "v.vcf", rows)
    pysam.tabix_compress(vcf, vcf + ".gz")
    result = variants(folder, vcf + ".gz", "-o", tmp_path / "o.vcf.gz")
    assert result.exit_code == 0 and "v.vcf.gz have other names in" in result.stderr and "A is chrA" in result.stderr
    assert table_of(tmp_path / "o.tsv")[0]["chrom"] == "A" and table_of(tmp_path / "o.tsv")[0]["status"] == "ok"


def test_scores_do_not_depend_on_the_other_variants(folder, tmp_path):
    one = write_vcf(tmp_path / "one.vcf", records()[2:3])
    both = write_vcf(tmp_path / "all.vcf", records())
    for vcf in (one, both):
        out = tmp_path / f"{Path(vcf).stem}.out.vcf"
        assert variants(folder, vcf, "--share", 8, "-o", out, "--no-check").exit_code == 0
    key = lambda line: (line["chrom"], line["pos"], line["alt"], line["target"])  # noqa: E731
    alone, among = (table_of(tmp_path / f"{name}.out.tsv") for name in ("one", "all"))
    deltas = {key(line): float(line["delta"]) for line in among}
    np.testing.assert_allclose(
        [float(line["delta"]) for line in alone], [deltas[key(line)] for line in alone], atol=1e-6
    )


def test_a_vcf_of_another_genome_is_refused_unless_asked_to_go_on(folder, tmp_path):
    """A quarter of the bases fits by chance: nothing is scored. Case 25 of public reports, in small."""
    rows = [substitution("chrA", position) for position in range(10, 110, 4)]
    rows = [(chrom, position, "ACGT"[position % 4], "ACGT"[position // 4 % 4]) for chrom, position, *_ in rows]
    rows = [row for row in rows if row[2] != row[3]]
    fit = sum(base(chrom, position) == ref for chrom, position, ref, _ in rows)
    vcf, out = write_vcf(tmp_path / "v.vcf", rows), tmp_path / "o.vcf"
    result = variants(folder, vcf, "-o", out, "--no-check")
    assert fit > 0 and result.exit_code == 1 and not out.exists()
    assert f"REF of {len(rows) - fit} of {len(rows)} records" in result.stderr and len(result.stderr.splitlines()) == 1
    result = variants(folder, vcf, "-o", out, "--no-check", "--ref-mismatch", "skip")
    assert result.exit_code == 0 and f"Warning: {vcf}: REF of {len(rows) - fit} of" in result.stderr
    assert [line["status"] for line in table_of(tmp_path / "o.tsv")].count("ok") == 3 * fit
    result = variants(folder, write_vcf(tmp_path / "w.vcf", [("chrA", 9999, "A", "C")]), "-o", tmp_path / "p.vcf")
    assert result.exit_code == 1 and f"chrA:10000: chrA has {len(contigs()['chrA']):,} bases" in result.stderr


NOTHING = {
    "missing": (
        [("9", 10, "A", "C")],
        "the FASTA lacks their contigs, as in a VCF of another genome: the VCF has 9, the",
    ),
    "mismatch": (
        [("chrA", 50, OTHER[base("chrA", 50)], "A")],
        "REF is not in the FASTA, as in a VCF of another genome",
    ),
    "symbolic": ([("chrA", 50, base("chrA", 50), "<DEL>,*")], "their alleles are symbolic, without a sequence"),
    "letters": ([("chrA", 50, base("chrA", 50), "R")], "their alleles have letters that are not bases"),
    "no_alt": ([("chrA", 50, base("chrA", 50), ".")], "ALT is . in all of them"),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_a_run_that_scores_nothing_ends_with_1_and_says_why(folder, tmp_path, kind):
    rows, message = NOTHING[kind]
    more = ("--missing-contig", "skip", "--ref-mismatch", "skip", "--targets", "0", "--no-check")
    result = variants(folder, write_vcf(tmp_path / "v.vcf", rows), "-o", tmp_path / "o.vcf", *more)
    assert result.exit_code == 1 and f"Error: no allele was scored: {message}" in result.stderr
    with pysam.VariantFile(str(tmp_path / "o.vcf")) as file:
        assert len(list(file)) == 1


ODD_HEADER = """##fileformat=VCFv4.2
##contig=<ID=chrA10,length=7>
##contig=<ID=HLA-DRB1*04:03:01 length=15246>
##INFO=<ID=AF,Number=A,Type=Float,Description="na\udcefve, \x85 and \u2028">
##INFO=<ID=RS,Number=1,Type=Integer,Description="dbSNP">
##INFO=<ID=DB,Number=0,Type=Flag,Description="Flag">
##ALT=<ID=NON_REF,Description="any">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=GP,Number=G,Type=Float,Description="Posterior">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\tS\udce9
"""
ODD = [  # QUAL, FILTER, INFO, FORMAT, two samples: what htslib reads as numbers and writes back otherwise
    ("30.0", "PASS", "AF=3.618826", "GT:GP", "0|1:0.12345678,0.5,0.37654322", "0/1"),
    ("1234567.8", ".", "RS=2148352434;DB", "GT", "1", "./."),
    ("1e10", "PASS", "RS=1e+06", "GT:GP", "0/1", "0/1:."),
    ("255.00", "q10;s50", "AF=1.20781e-48", "GT", "1|1", "2|0"),
    ("0.00001", "PASS", "UNDEFINED=7.123456789;AF=0.30000001192", "GT", "0/1", "."),
    (".", "PASS", ".", "GT", "0/1", "0/1"),
    ("007", "PASS", "AF=.;;DB;", "GT", "0/1", "0/1"),
    ("9", "PASS", "ISM_DELTA_MINE=5;TEXT=na\udcefve a,b:c", "GT", "0/1", "0/1"),
]


def odd_lines() -> list[str]:
    place = [substitution("chrA", 40 + 2 * i) for i in range(len(ODD))]
    place[3] = ("chrA", 46, base("chrA", 46).lower(), f"*,{OTHER[base('chrA', 46)].lower()},<NON_REF>")
    place[5] = ("chrA", 50, base("chrA", 50), ".")
    return [
        "\t".join([chrom, f"0{position + 1}", f"rs{i};x", ref, alt, *rest])
        for i, ((chrom, position, ref, alt), rest) in enumerate(zip(place, ODD, strict=True))
    ]


def as_text(path: Path) -> list[str]:
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    return raw.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")


@pytest.mark.parametrize(("ends", "output"), [("\n", "o.vcf.gz"), ("\r\n", "o.vcf")])
def test_all_that_is_not_ours_comes_through_as_its_text_was(folder, tmp_path, ends, output):
    text = ODD_HEADER + "".join(line + "\n" for line in odd_lines())
    (tmp_path / "v.vcf").write_bytes(text.replace("\n", ends).encode("utf-8", "surrogateescape"))
    more = ("--targets", "1", "--no-check")
    result = variants(folder, str(tmp_path / "v.vcf"), "-o", tmp_path / output, *more)
    assert result.exit_code == 0, result.stderr
    lines, header = as_text(tmp_path / output), ODD_HEADER.removesuffix("\n").split("\n")
    assert lines[: len(header) - 1] == header[:-1] and lines[len(header) + 3] == header[-1]
    assert lines[len(header) - 1] == "##contig=<ID=chrA,length=300>"  # chrA10 does not hide it
    assert [line.split(",")[0] for line in lines[len(header) : len(header) + 3]] == [
        f"##INFO=<ID=ISM_{key}" for key in ("DELTA", "REF", "STATUS")
    ]
    written = [line.split("\t") for line in lines[len(header) + 4 :]]
    for columns, line in zip(written, odd_lines(), strict=True):
        wanted = line.split("\t")
        before, _, ours = columns[7].rpartition(";ISM_DELTA=")
        if wanted[7] == ".":
            before, ours = ".", columns[7]
        assert [*columns[:7], before, *columns[8:]] == wanted
        assert ours.count(",") == {3: 4, 5: 0}.get(odd_lines().index(line), 0)
    assert written[3][7].endswith(";ISM_STATUS=symbolic,ok,symbolic") and "ISM_DELTA=.,0." in written[3][7].replace(
        "-", ""
    )
    assert written[5][7] == "."
    again = variants(folder, str(tmp_path / output), "-o", tmp_path / "again.vcf", *more)
    assert again.exit_code == 0 and "had ISM_DELTA, ISM_REF, ISM_STATUS in INFO: replaced" in again.stderr
    assert as_text(tmp_path / "again.vcf") == lines


def test_every_allele_has_a_value_and_symbols_have_none(folder, tmp_path):
    """Stars, NON_REF, breakends, lower case: as many values as ALT, in its order. Other readers read them."""
    five = base("chrA", 40)
    rows = [
        ("chrA", 40, five, f"*,{five}AC,{OTHER[five]},{five}AAAGAACT,<NON_REF>"),
        ("chrA", 50, bases("chrA", 50, 55), f"{base('chrA', 50)},*{bases('chrA', 51, 55)}"),
        ("chrA", 60, base("chrA", 60).lower(), f"{OTHER[base('chrA', 60)].lower()},<*>"),
        ("chrA", 61, base("chrA", 61), f"<DEL>,{OTHER[base('chrA', 61)]},<INS:ME:ALU>"),
        ("chrA", 62, base("chrA", 62), "."),
        ("chrA", 63, base("chrA", 63), f"{base('chrA', 63)}[chrB:5["),
        ("chrA", 64, base("chrA", 64), f".{base('chrA', 64)}"),
        ("chrA", 65, base("chrA", 65), base("chrA", 65)),
        ("chrA", 66, base("chrA", 66), f"{OTHER[base('chrA', 66)]},N"),
    ]
    out = tmp_path / "o.vcf.gz"
    assert variants(folder, write_vcf(tmp_path / "v.vcf", rows), "-o", out, "--targets", "0").exit_code == 0
    scored = [(0, 1, 1, 1, 0), (1, 0), (1, 0), (0, 1, 0), (), (0,), (0,), (1,), (1, 0)]
    with pysam.VariantFile(str(out)) as file:
        for record, wanted in zip(file, scored, strict=True):
            delta, status = record.info.get("ISM_DELTA", ()), record.info.get("ISM_STATUS", ("ok",) * len(wanted))
            assert tuple(int(x is not None) for x in delta) == tuple(int(x == "ok") for x in status) == wanted
    assert [line["status"] == "ok" for line in table_of(tmp_path / "o.tsv")] == [bool(x) for row in scored for x in row]


def test_a_position_that_no_index_can_hold(folder, tmp_path):
    rows = [substitution("chrA", 50 + i) for i in range(60)] + [("chrA", 9_999_999_998, "A", "C")]
    result = variants(folder, write_vcf(tmp_path / "v.vcf", rows), "-o", tmp_path / "o.vcf.gz", "--no-check")
    assert result.exit_code == 0 and "has no index: a POS of 9,999,999,999 does not fit into one" in result.stderr


def test_a_gzipped_vcf_is_read_like_a_plain_one(folder, tmp_path):
    plain = Path(write_vcf(tmp_path / "v.vcf", records()[:3]))
    (tmp_path / "g.vcf.gz").write_bytes(gzip.compress(plain.read_bytes()))
    for vcf, name in ((plain, "a"), (tmp_path / "g.vcf.gz", "b")):
        result = variants(folder, str(vcf), "-o", tmp_path / f"{name}.vcf", "--no-check")
        assert result.exit_code == 0, result.stderr
    assert table_of(tmp_path / "a.tsv") == table_of(tmp_path / "b.tsv") != []
    (tmp_path / "g.vcf.gz").write_bytes(gzip.compress(plain.read_bytes())[:-12])
    result = variants(folder, str(tmp_path / "g.vcf.gz"), "-o", tmp_path / "c.vcf")
    assert result.exit_code == 2 and "g.vcf.gz" in result.stderr


def test_an_empty_vcf_gives_empty_files(folder, tmp_path):
    vcf = write_vcf(tmp_path / "v.vcf", [])
    result = variants(folder, vcf, "-o", tmp_path / "o.vcf.gz")
    assert result.exit_code == 0 and f"Warning: {vcf} has no records" in result.stderr, result.stderr
    assert list(pysam.VariantFile(str(tmp_path / "o.vcf.gz"))) == [] and table_of(tmp_path / "o.tsv") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--share", "41"], "--share must be at most the length of the model's input, 40."),
        (["-o", "x.txt"], "--output must end in .vcf.gz or .vcf. Received: x.txt"),
    ],
)
def test_refusals(folder, tmp_path, arguments, message):
    vcf = write_vcf(tmp_path / "v.vcf", records())
    output = () if "-o" in arguments else ("-o", tmp_path / "o.vcf")
    result = variants(folder, vcf, *output, *arguments)
    assert result.exit_code == 2 and message in result.stderr


@pytest.mark.parametrize("old", [".tbi", ".csi"])
def test_no_index_of_an_older_vcf_stays_beside_one_that_is_not_sorted(folder, tmp_path, old):
    vcf, index = write_vcf(tmp_path / "v.vcf", records()[2:0:-1]), tmp_path / f"o.vcf.gz{old}"
    index.write_text("of an older VCF")
    result = variants(folder, vcf, "-o", tmp_path / "o.vcf.gz", "--no-check", "--overwrite")
    assert result.exit_code == 0 and "is not sorted" in result.stderr, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.tsv", "o.vcf.gz", "v.vcf"]


@pytest.mark.parametrize(
    ("which", "when"),
    [("v.vcf", "blocks_of"), ("genome.fa", "blocks_of"), ("plain.keras", "blocks_of"), ("v.vcf", "check_genome")],
)
def test_an_input_that_changes_meanwhile_is_told(folder, tmp_path, monkeypatch, which, when):
    """While the records are scored, or while they are checked."""
    path = {"v.vcf": tmp_path / which}.get(which, folder.path / which)
    vcf = write_vcf(tmp_path / "v.vcf", records()[1:2])
    call, state = getattr(score_variants, when), os.stat(path)

    def changed(*arguments):
        os.utime(path, (0, 0))
        return call(*arguments)

    monkeypatch.setattr(score_variants, when, changed)
    result = variants(folder, vcf, "-o", tmp_path / "o.vcf.gz", "--no-check")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert result.exit_code == 2 and f"{path} has changed since this run began. Nothing was" in result.stderr
    assert os.listdir(tmp_path) == ["v.vcf"]


def test_a_folder_without_a_model_is_refused_before_anything_looks_into_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "rglob", lambda *arguments: pytest.fail("looked into it"))
    result = CliRunner().invoke(main, ["variants", "-m", str(tmp_path), "--vcf", "gone.vcf", "-f", "gone.fa"])
    assert result.exit_code == 2 and f"{tmp_path} is a folder without saved_model.pb" in result.stderr


def test_what_is_no_vcf_is_refused(folder, tmp_path):
    result = variants(folder, folder.bed, "-o", tmp_path / "o.vcf")
    assert result.exit_code == 2 and "is not a VCF" in result.stderr
    result = variants(folder, str(tmp_path / "no.vcf"), "-o", tmp_path / "o.vcf")
    assert result.exit_code == 2 and "no.vcf does not exist or is not a file" in result.stderr


# --- beside the delta -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chances(tmp_path_factory) -> str:
    """inp -> C -> GAP -> D, sigmoid -> chance (2 targets)"""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    inp = keras.Input((LENGTH, 4), name="dna")
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(6, 5, activation="relu")(inp))
    path = str(tmp_path_factory.mktemp("chances") / "chances.keras")
    keras.Model(inp, layers.Dense(2, "sigmoid", name="chance")(x)).save(path)
    return path


def scored_chances(folder: Folder, model: str, tmp_path: Path, *more: object) -> tuple[Path, list[dict[str, str]]]:
    vcf, out = write_vcf(tmp_path / "v.vcf", records()), tmp_path / "o.vcf"
    asked = ("variants", "-m", model, "--vcf", vcf, "-f", folder.fasta, "-o", out, "--overwrite", *more)
    result = CliRunner().invoke(main, [str(x) for x in asked])
    assert result.exit_code == 0, result.stderr
    return out, table_of(tmp_path / "o.tsv")


def both_predicted(model: keras.Model, share: int = 1) -> np.ndarray:
    """Predictions of all alleles by plain Keras, (alleles, 2, K)."""
    rows = [(record, alt) for record in records() for alt in record[3].split(",")]
    return np.array([truth(model, r, alt, VariantWindows(LENGTH, share).start(r[1])) for r, alt in rows], "float64")


@pytest.mark.parametrize(
    ("scale", "of", "words"),
    [
        ("logit", lambda p: np.log(p / (1 - p)), " (as logit)"),
        ("chance=log2:0.5", lambda p: np.log2(p + 0.5), " (as log2(y + 0.5))"),
        (None, lambda p: p, ""),
    ],
)
def test_scores_on_another_scale_and_what_the_header_says(folder, chances, tmp_path, scale, of, words):
    out, lines = scored_chances(folder, chances, tmp_path, *(["--scale", scale] if scale else []))
    values = of(both_predicted(keras.models.load_model(chances)))
    found = np.array([[float(line[name]) for name in ("reference", "delta")] for line in lines]).reshape(-1, 2, 2)
    np.testing.assert_allclose(found[..., 0], values[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[..., 1], values[:, 1] - values[:, 0], atol=5e-6)
    text = out.read_text()
    assert f'Description="Prediction on ALT minus prediction on REF{words}: chance/0"' in text
    assert f'Description="Prediction on REF{words}: chance/1"' in text


@pytest.mark.parametrize("share", [1, 8])
def test_fold_changes_and_the_largest_delta_around(folder, chances, tmp_path, share):
    around = 7
    out, lines = scored_chances(folder, chances, tmp_path, "--fold-change", "--around", around, "--share", share)
    model = keras.models.load_model(chances)
    values = both_predicted(model, share)
    found = np.array([[float(line["log2_fold_change"])] for line in lines]).reshape(-1, 2)
    np.testing.assert_allclose(found, np.log2(values[:, 1] / values[:, 0]), atol=5e-6)
    rows = [(record, alt) for record in records() for alt in record[3].split(",")]
    for (record, alt), pair in zip(rows, zip(lines[::2], lines[1::2], strict=True), strict=True):
        start = VariantWindows(LENGTH, share).start(record[1])
        first = record[1] - start - around // 2
        for side, codes in zip(("around_ref", "around_alt"), alleles_of(record, alt, start), strict=True):
            changed = [codes.copy() for _ in range(4 * around)]
            for i, row in enumerate(changed):
                position, letter = first + i // 4, i % 4
                if 0 <= position < LENGTH and codes[position] < 4:
                    row[position] = letter
            predictions = predicted(model, np.array([codes, *changed]))[0].astype("float64")
            largest = np.abs(predictions[1:] - predictions[0]).max(0)
            np.testing.assert_allclose([float(line[side]) for line in pair], largest, atol=2e-6)
    with pysam.VariantFile(str(out)) as file:
        record = next(iter(file))
        keys = ("ISM_LFC_chance_0", "ISM_AROUND_REF_chance_1", "ISM_AROUND_ALT_chance_1")
        assert all(len(record.info[key]) == 1 for key in keys)
        assert "sequence of ALT: chance/1" in str(file.header)
    _, again = scored_chances(folder, chances, tmp_path)
    assert "log2_fold_change" not in again[0]


def test_a_fold_change_needs_two_numbers_above_zero():
    from fastism_cli.run.variants.allele_scores import fold_changes

    reference, delta = np.float32([2, -1, 0, 1, np.nan]), np.float32([[2, 3, 1, -1, 0], [-1, np.nan, 0, 3, 1]])
    expected = [[1, np.nan, np.nan, np.nan, np.nan], [-1, np.nan, np.nan, 2, np.nan]]
    np.testing.assert_allclose(fold_changes(reference, delta), expected)


def test_a_fold_change_on_a_scale_is_refused(folder, chances, tmp_path):
    vcf = write_vcf(tmp_path / "v.vcf", records())
    asked = ("variants", "-m", chances, "--vcf", vcf, "-f", folder.fasta, "--fold-change", "--scale", "log2")
    result = CliRunner().invoke(main, [*asked, "-o", str(tmp_path / "o.vcf")])
    assert result.exit_code == 2 and "Give one of the two" in result.stderr


def test_more_bases_around_than_the_input_has_are_refused(folder, chances, tmp_path):
    vcf = write_vcf(tmp_path / "v.vcf", records())
    asked = ("variants", "-m", chances, "--vcf", vcf, "-f", folder.fasta, "--around", str(LENGTH + 1))
    result = CliRunner().invoke(main, [*asked, "-o", str(tmp_path / "o.vcf")])
    assert (
        result.exit_code == 2 and f"--around must be at most the length of the model's input, {LENGTH}" in result.stderr
    )


def test_alleles_of_a_model_that_gives_no_number_fail(folder, tmp_path):
    """One weight is NaN: so is every prediction, also where the engine's delta does not meet it."""
    inp = keras.Input((LENGTH, 4), name="dna")
    model = keras.Model(inp, keras.layers.Dense(1, name="out")(keras.layers.Flatten()(inp)))
    kernel, bias = model.get_weights()
    kernel[0] = np.nan
    model.set_weights([kernel, bias])
    model.save(tmp_path / "nan.keras")
    vcf = write_vcf(tmp_path / "in.vcf", [substitution("chrA", position) for position in range(20, 24)])
    call = ["variants", "-m", str(tmp_path / "nan.keras"), "--vcf", vcf, "-f", folder.fasta, "--no-check"]
    result = CliRunner().invoke(main, [*call, "-o", str(tmp_path / "o.vcf")])
    assert result.exit_code == 1, result.output
    assert "for which the model gave NaN or infinity" in result.stderr
    assert {line["status"] for line in table_of(tmp_path / "o.tsv")} == {"failed"}
