"""A VCF of another genome is told before anything is scored, with the mistake that it looks like."""

import logging

import numpy as np
import pysam
import pytest
from click.testing import CliRunner

from fastism_cli.cli import main
from fastism_cli.errors import GenomeError, RegionError
from fastism_cli.genome.alphabet import DNA, Alphabet
from fastism_cli.genome.fasta import open_fasta
from fastism_cli.genome.vcf_files import VariantSource
from fastism_cli.run.variants import variant_block
from fastism_cli.run.variants.variant_block import check_genome, contigs_in_fasta, length_differences

SIZE = 4000
COMPLEMENT = str.maketrans("ACGT", "TGCA")
OTHER = dict(zip("ACGT", "CGTA", strict=True))


def sequence(seed, size=SIZE):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), size))


OWN, ELSE = sequence(1), sequence(2)


@pytest.fixture
def fasta(tmp_path):
    """chr1 and chrM of 4,000 bases, chr2 of N."""
    path = tmp_path / "g.fa"
    path.write_text(f">chr1\n{OWN}\n>chrM\n{OWN}\n>chr2\n{SIZE * 'N'}\n")
    return str(path)


def rows(bases, n, *, chrom="chr1", shift=0):
    """Records every 7 bases from 100 on: contig, POS, REF, ALT."""
    places = [100 + 7 * i for i in range(n)]
    return [(chrom, p + 1 + shift, bases[p], OTHER[bases[p]]) for p in places]


def check(path, fasta, records, *, contigs=(), ref_mismatch="error", missing_contig="error"):
    header = "".join(f"##contig=<ID={name},length={length}>\n" for name, length in contigs)
    lines = [f"{c}\t{p}\t.\t{ref}\t{alt}\t.\t.\t.\n" for c, p, ref, alt in records]
    names = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (path / "v.vcf").write_text("##fileformat=VCFv4.2\n" + header + names + "".join(lines))
    with VariantSource(pysam, str(path / "v.vcf")) as source, open_fasta(fasta) as genome:
        contigs = contigs_in_fasta(source, genome, missing_contig)
        check_genome(source, genome, contigs, DNA, ref_mismatch)
        return contigs


@pytest.mark.parametrize(("n", "wrong"), [(1, 0), (3, 1), (10, 2), (100, 2), (100, 5), (400, 20), (0, 0)])
def test_errors_of_a_genome_are_no_alarm(tmp_path, fasta, n, wrong):
    records = rows(OWN, n)
    records[:wrong] = [(c, p, alt, OTHER[alt]) for c, p, _, alt in records[:wrong]]
    assert check(tmp_path, fasta, records) == ({"chr1": "chr1"} if n else {})


@pytest.mark.parametrize(("n", "wrong"), [(1, 1), (3, 3), (10, 3), (40, 4), (100, 6), (400, 21)])
def test_more_than_that_is_one(tmp_path, fasta, n, wrong):
    records = rows(OWN, n)
    records[:wrong] = [(c, p, alt, OTHER[alt]) for c, p, _, alt in records[:wrong]]
    with pytest.raises(
        GenomeError, match=rf"v.vcf: REF of {wrong} of {n} records \({100 * wrong / n:.0f} %\)"
    ) as error:
        check(tmp_path, fasta, records)
    assert error.value.exit_code == 1 and "\n" not in str(error.value) and 'ref_mismatch="skip"' in str(error.value)
    assert f"The first: chr1:101: REF {records[0][2]}, FASTA {OWN[100]}" in str(error.value)


MISTAKES = {
    "another genome": (rows(ELSE, 60), "looks like another genome or build"),
    "from 0": (rows(OWN, 60, shift=-1), "POS seems to count from 0"),
    "one more": (rows(OWN, 60, shift=1), "POS seems to be one too large"),
    "swapped": ([(c, p, alt, ref) for c, p, ref, alt in rows(OWN, 60)], "REF and ALT seem to be swapped"),
    "strand": (
        [(c, p, ref.translate(COMPLEMENT), ref.translate(COMPLEMENT)[::-1] + "A") for c, p, ref, _ in rows(OWN, 60)],
        "REF seems to be on the - strand",
    ),
    "outside": (rows(ELSE, 60, shift=SIZE), "positions beyond the ends of contigs"),
    "symbolic": ([(c, p, ref, "<DEL>") for c, p, ref, _ in rows(ELSE, 60)], "looks like another genome or build"),
    "no ALT": ([(c, p, ref, ".") for c, p, ref, _ in rows(ELSE, 60)], "looks like another genome or build"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_mistake_is_named_unless_asked_to_go_on(tmp_path, fasta, mistake, caplog):
    records, told = MISTAKES[mistake]
    with pytest.raises(GenomeError, match=told):
        check(tmp_path, fasta, records)
    with caplog.at_level(logging.WARNING):
        assert check(tmp_path, fasta, records, ref_mismatch="skip") == {"chr1": "chr1"}
    assert told in caplog.text


def test_one_contig_of_another_sequence_is_told(tmp_path, fasta):
    """As chrM of hg19 among the others: a share of all records would not show it."""
    records = rows(OWN, 500) + rows(ELSE, 12, chrom="chrM")
    with pytest.raises(GenomeError, match=r"REF of \d+ of 12 records on chrM"):
        check(tmp_path, fasta, records)


def test_an_n_says_nothing(tmp_path, fasta):
    """N in REF stands for any base in VCFs of structural variants; N in the FASTA for what was masked."""
    records = [(c, p, "N", "<DEL>") for c, p, *_ in rows(ELSE, 20)] + rows(OWN, 20, chrom="chr2") + rows(OWN, 1)
    assert set(check(tmp_path, fasta, records)) == {"chr1", "chr2"}


def test_lengths_of_contigs_are_told_and_are_evidence(tmp_path, fasta, caplog):
    contigs = [("chr1", SIZE + 137), ("chr10", 5)]
    with caplog.at_level(logging.WARNING):
        check(tmp_path, fasta, rows(OWN, 20), contigs=contigs)
    assert "may be of another genome or build: chr1 has 4,137 bases in ##contig and 4,000 in" in caplog.text
    records = rows(OWN, 20)
    records[3] = (*records[3][:2], records[3][3], "A")
    assert check(tmp_path, fasta, records) and check(tmp_path, fasta, records, contigs=[("chr1", SIZE)])
    records[5] = (*records[5][:2], records[5][3], "A")
    with pytest.raises(GenomeError, match=r"2 of 20 records .*chr1 has 4,137 bases in ##contig and 4,000 in"):
        check(tmp_path, fasta, records, contigs=contigs)


def test_a_name_like_that_of_a_contig_of_another_length_is_another_contig(tmp_path, fasta, caplog):
    """MT of 16,569 bases is not chrM of 16,571."""
    records = rows(OWN, 5, chrom="MT")
    assert check(tmp_path, fasta, records) == check(tmp_path, fasta, records, contigs=[("MT", SIZE)]) == {"MT": "chrM"}
    with pytest.raises(
        RegionError, match=r"record 1: contig 'MT' \(3,998 bases .* not chrM of 4,000 bases\) is not in"
    ):
        check(tmp_path, fasta, records, contigs=[("MT", SIZE - 2)])
    assert check(tmp_path, fasta, records, contigs=[("MT", SIZE - 2)], missing_contig="skip") == {}
    assert "contig 'MT' is kept unscored (3,998 bases in its ##contig line" in caplog.text


def test_mt_as_long_as_the_chrm_of_hg19_is_that(tmp_path, fasta, monkeypatch):
    monkeypatch.setattr("fastism_cli.genome.fasta._CHRM_OF_HG19", SIZE)
    records = rows(OWN, 5, chrom="MT")
    assert check(tmp_path, fasta, records, contigs=[("MT", SIZE)]) == {"MT": "chrM"}
    with pytest.raises(RegionError, match="its chrM of 4,000 bases is another sequence"):
        check(tmp_path, fasta, records)


def test_several_lengths_are_counted(tmp_path, fasta):
    check(tmp_path, fasta, [], contigs=[])
    text = "".join(f"##contig=<ID={name},length=7>\n" for name in ("chr1", "chrM", "chrX", "chr2"))
    path = tmp_path / "w.vcf"
    path.write_text(f"##fileformat=VCFv4.2\n{text}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
    with VariantSource(pysam, str(path)) as source, open_fasta(fasta) as genome:
        assert length_differences(source, genome).endswith("g.fa, and 2 contigs more differ")


def test_an_alphabet_without_complements_is_checked_too(tmp_path, fasta):
    (tmp_path / "p.fa").write_text(">p\nMKLVNSTWYQ\n")
    names = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "p.vcf").write_text(f"{names}p\t2\t.\tW\tK\t.\t.\t.\n")
    with VariantSource(pysam, str(tmp_path / "p.vcf")) as source, open_fasta(tmp_path / "p.fa") as genome:
        with pytest.raises(GenomeError, match="REF of 1 of 1 records"):
            check_genome(source, genome, {"p": "p"}, Alphabet("ACDEFGHIKLMNPQRSTVWY"), "error")


def test_the_help_has_the_shares_that_are_refused():
    of_file = f"{variant_block.MAX_SHARE:.0%} of the records ({variant_block.FEW} or more"
    of_contig = f"{variant_block.MAX_SHARE_OF_CONTIG:.0%} of one contig, {variant_block.FEW_OF_CONTIG} or more)"
    words = f"more than {of_file}; or {of_contig} have a REF that is not in the FASTA"
    help_text = CliRunner().invoke(main, ["variants", "--help"]).stdout
    assert words.replace("%", " %") in " ".join(help_text.split())
