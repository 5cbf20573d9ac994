"""Bases through pyfaidx: any stretch of any contig, any state of the index, and a line for every bad file."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from Bio import bgzf
from hypothesis import given, settings
from hypothesis import strategies as st

from fastism_cli.errors import RegionError, SequenceError
from fastism_cli.genome import fasta as fasta_module
from fastism_cli.genome import fasta_index
from fastism_cli.genome.alphabet import DNA, RNA, Alphabet
from fastism_cli.genome.fasta import check_contigs, matched_contigs, open_fasta, renaming_line

REAL = Path(__file__).parents[3] / "shared" / "real"
CONTIGS = {"chr1": "ACGTNACGTA" * 7 + "acg", "chr2": "TTTT", "chrM": "GATTACA" * 10}


def to_fasta(contigs: dict[str, str], width: int = 10, newline: str = "\n", end: str = "\n") -> bytes:
    lines = []
    for name, bases in contigs.items():
        lines += [f">{name} description", *(bases[at : at + width] for at in range(0, len(bases), width))]
    return (newline.join(lines) + end.replace("\n", newline)).encode()


def write_bgzip(path: Path, content: bytes) -> Path:
    with bgzf.BgzfWriter(str(path)) as file:
        file.write(content)
    return path


def set_mtime(path: Path, seconds: float) -> None:
    os.utime(path, (seconds, seconds))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """The user's cache folder, empty."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.delenv("FASTISM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def genome_file(tmp_path) -> Path:
    path = tmp_path / "genome.fa"
    path.write_bytes(to_fasta(CONTIGS))
    return path


@pytest.fixture
def read_only(monkeypatch):
    """Make folders refuse new files, as a read-only mount does, also for root."""
    refused: list[str] = []
    make = tempfile.TemporaryDirectory

    def guarded(*, prefix, dir=None):
        if dir is not None and any(str(dir).startswith(folder) for folder in refused):
            raise OSError(30, "Read-only file system", str(dir))
        return make(prefix=prefix, dir=dir)

    monkeypatch.setattr(fasta_index.tempfile, "TemporaryDirectory", guarded)
    return lambda folder: refused.append(str(folder))


def chr2_of(path: Path) -> str:
    with open_fasta(path) as genome:
        return DNA.decode(genome.codes("chr2", 0, genome.sizes["chr2"]))


# --- bases -----------------------------------------------------------------------------------------------------------


def test_sizes_are_in_file_order(genome_file):
    with open_fasta(genome_file) as genome:
        assert list(genome.sizes.items()) == [("chr1", 73), ("chr2", 4), ("chrM", 70)]
        assert genome.path == str(genome_file)


def test_positions_past_either_end_are_unknown(genome_file):
    with open_fasta(genome_file) as genome:
        codes = genome.codes("chr2", -2, 7)
        assert codes.dtype == np.uint8
        assert DNA.decode(codes) == "NNTTTTNNN"
        assert DNA.decode(genome.codes("chr2", -9, -5)) == DNA.decode(genome.codes("chr2", 4, 8)) == "NNNN"


def test_letters_that_are_no_nucleotides_are_told_once(tmp_path, caplog):
    path = tmp_path / "g.fa"
    path.write_bytes(to_fasta({"dna": "acgtuRYSWKMBDHVNX-.*" * 2, "protein": "MKLVfeacd" * 3}))
    with open_fasta(path) as genome:
        genome.codes("dna", -5, 45)
        genome.codes("protein", 0, 27, Alphabet("ACDEFGHIKLMNPQRSTVWY"))
        assert not [record for record in caplog.records if record.levelname == "WARNING"]
        for _ in range(2):
            genome.codes("protein", 0, 27)
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith(f"{path}: protein holds letters that stand for no nucleotide (E, F, L) and are read as N.")


def test_the_alphabet_may_be_another(genome_file):
    with open_fasta(genome_file) as genome:
        assert RNA.decode(genome.codes("chr2", 0, 5, RNA)) == "UUUUN"


@settings(max_examples=50, deadline=None)
@given(
    contigs=st.lists(st.text("ACGTNacgt", min_size=1, max_size=60), min_size=1, max_size=4),
    width=st.integers(1, 20),
    newline=st.sampled_from(["\n", "\r\n"]),
    end=st.sampled_from(["\n", "", "\n\n"]),
    compressed=st.booleans(),
    data=st.data(),
)
def test_codes_are_a_padded_slice(contigs, width, newline, end, compressed, data):
    named = {f"c{i}": bases for i, bases in enumerate(contigs)}
    if newline == "\r\n" and end == "\n\n":
        end = "\n"  # pyfaidx refuses a blank line in a file with Windows line ends, and says so
    content = to_fasta(named, width, newline, end)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "g.fa.gz" if compressed else "g.fa")
        write_bgzip(path, content) if compressed else path.write_bytes(content)
        with open_fasta(path) as genome:
            assert genome.sizes == {name: len(bases) for name, bases in named.items()}
            for _ in range(5):
                name = data.draw(st.sampled_from(list(named)))
                start = data.draw(st.integers(-30, 90))
                stop = start + data.draw(st.integers(0, 70))
                expected = "".join(
                    named[name][at].upper() if 0 <= at < len(named[name]) else "N" for at in range(start, stop)
                )
                assert DNA.decode(genome.codes(name, start, stop)) == expected


def test_bgzip_is_read_across_blocks(tmp_path, rng):
    """Blocks of Biopython hold 65,536 bytes: one starts exactly at a base that is asked for."""
    bases = "".join(rng.choice(list("ACGT"), 150_000))
    content = to_fasta({"c": bases}, width=50)
    with open_fasta(write_bgzip(tmp_path / "g.fa.gz", content)) as genome:
        codes = DNA.encode(bases)
        first_of_block = (65_536 - len(">c description\n")) * 50 // 51
        for start in [*range(first_of_block - 120, first_of_block + 10), 0, 149_000]:
            stop = min(start + 137, len(bases))
            np.testing.assert_array_equal(genome.codes("c", start, stop), codes[start:stop])


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_bgzip_has_both_indexes(tmp_path):
    path = write_bgzip(tmp_path / "g.fa.gz", to_fasta(CONTIGS))
    assert chr2_of(path) == "TTTT"
    assert sorted(os.listdir(tmp_path)) == ["g.fa.gz", "g.fa.gz.fai", "g.fa.gz.gzi"]
    (tmp_path / "g.fa.gz.gzi").write_bytes(b"\5")  # a job was killed while it wrote
    set_mtime(tmp_path / "g.fa.gz.gzi", os.stat(path).st_mtime + 5)
    assert chr2_of(path) == "TTTT"


# --- the index -------------------------------------------------------------------------------------------------------


def test_the_index_is_made_beside_the_file_and_used_again(genome_file, tmp_path, monkeypatch):
    assert chr2_of(genome_file) == "TTTT"
    assert sorted(os.listdir(tmp_path)) == ["genome.fa", "genome.fa.fai"]
    assert (tmp_path / "genome.fa.fai").read_text().splitlines()[1] == "chr2\t4\t117\t4\t5"
    monkeypatch.setattr(fasta_module, "build_index", None)  # would fail if it were built again
    assert chr2_of(genome_file) == "TTTT"


def test_an_old_index_is_not_trusted(genome_file, caplog, monkeypatch):
    chr2_of(genome_file)
    genome_file.write_bytes(to_fasta({"chr1": "A" * 5, "chr2": "CCGG"}))
    set_mtime(genome_file, os.stat(genome_file).st_mtime + 100)  # also: a clock that is ahead
    assert chr2_of(genome_file) == "CCGG"
    assert f"{genome_file}.fai is older than {genome_file} or does not fit it: not used" in caplog.text
    assert caplog.text.count("not used") == 1
    monkeypatch.setattr(fasta_module, "build_index", None)  # the one in the cache fits
    assert chr2_of(genome_file) == "CCGG"


@pytest.mark.parametrize("wrong", [".gzi", ".fai"])
@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"x" * 24), lambda path: set_mtime(path, 1.0)])
def test_the_one_of_two_indexes_that_is_wrong_is_named(tmp_path, caplog, wrong, spoil):
    path = write_bgzip(tmp_path / "g.fa.gz", to_fasta(CONTIGS))
    open_fasta(path).close()
    spoil(Path(f"{path}{wrong}"))
    with open_fasta(path):
        assert f"{path}{wrong} is older than {path} or does not fit it: not used" in caplog.text
        assert caplog.text.count("not used") == 1


def test_an_index_that_is_somebodys_stays(genome_file):
    Path(f"{genome_file}.fai").write_text("somebody's\n")
    assert chr2_of(genome_file) == "TTTT"
    assert Path(f"{genome_file}.fai").read_text() == "somebody's\n"


@pytest.mark.parametrize(
    "content", ["", "junk\n", "chr1\t73\t18\t10\n", "chr1\t10\t18\t10\t11\n", "chr2\t9999\t18\t10\t11\n"]
)
def test_an_index_that_cannot_be_of_this_file_is_not_trusted(genome_file, content):
    """Young enough, but empty, damaged, or of a file that was replaced by one with an older date."""
    Path(f"{genome_file}.fai").write_text(content)
    set_mtime(Path(f"{genome_file}.fai"), os.stat(genome_file).st_mtime + 100)
    assert chr2_of(genome_file) == "TTTT"


def test_a_read_only_folder_puts_the_index_in_the_cache(genome_file, tmp_path, cache, read_only, monkeypatch):
    read_only(tmp_path)
    assert chr2_of(genome_file) == "TTTT"
    assert os.listdir(tmp_path) == ["genome.fa"]
    assert len(list(cache.rglob("genome.fa.fai"))) == 1
    monkeypatch.setattr(fasta_module, "build_index", None)
    assert chr2_of(genome_file) == "TTTT"


def test_the_cache_may_be_another_folder(genome_file, tmp_path, tmp_path_factory, cache, read_only, monkeypatch):
    own = tmp_path_factory.mktemp("own")
    monkeypatch.setenv("FASTISM_CACHE", str(own))
    read_only(tmp_path)
    assert chr2_of(genome_file) == "TTTT"
    assert len(list(own.rglob("fasta-index/*/genome.fa.fai"))) == 1 and not list(cache.rglob("*"))
    monkeypatch.setattr(fasta_module, "build_index", None)
    assert chr2_of(genome_file) == "TTTT"


def test_nothing_is_kept_or_found_where_the_cache_is_off(
    genome_file, tmp_path, tmp_path_factory, cache, read_only, monkeypatch
):
    read_only(tmp_path)
    assert chr2_of(genome_file) == "TTTT"
    (kept,) = cache.rglob("genome.fa.fai")
    kept.write_text(kept.read_text().replace("chr2", "chr3"))
    monkeypatch.setenv("FASTISM_CACHE", "off")
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    assert chr2_of(genome_file) == "TTTT"
    assert len(list(cache.rglob("*.fai"))) == 1 and not list(temporary.rglob("*"))


def test_a_read_only_folder_with_an_old_index(genome_file, tmp_path, read_only):
    chr2_of(genome_file)
    genome_file.write_bytes(to_fasta({"chr1": "A" * 50, "chr2": "CCGG"}))
    set_mtime(genome_file, os.stat(genome_file).st_mtime + 100)
    old = (tmp_path / "genome.fa.fai").read_bytes()
    read_only(tmp_path)
    assert chr2_of(genome_file) == "CCGG"
    assert (tmp_path / "genome.fa.fai").read_bytes() == old


@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
def test_nothing_can_be_written_but_a_temporary_folder(tmp_path, cache, read_only, monkeypatch, name):
    path, temporary = tmp_path / "data" / name, tmp_path / "tmp"
    path.parent.mkdir()
    temporary.mkdir()
    path.write_bytes(to_fasta(CONTIGS)) if name == "g.fa" else write_bgzip(path, to_fasta(CONTIGS))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    read_only(path.parent)
    read_only(cache)
    with open_fasta(path) as genome:
        assert DNA.decode(genome.codes("chr2", 0, 4)) == "TTTT"
        assert len(os.listdir(temporary)) == 1
    assert os.listdir(temporary) == []
    assert os.listdir(path.parent) == [name]


def test_no_folder_at_all(genome_file, tmp_path, cache, monkeypatch):
    def refuse(**_options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(fasta_index.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(SequenceError, match=r"genome\.fa cannot be indexed: .*Read-only file system\. Run samtools"):
        open_fasta(genome_file)


def test_a_link_uses_the_index_of_its_target(genome_file, tmp_path, monkeypatch):
    chr2_of(genome_file)
    link = tmp_path / "work" / "staged.fa"
    link.parent.mkdir()
    link.symlink_to(genome_file)
    monkeypatch.setattr(fasta_module, "build_index", None)
    assert chr2_of(link) == "TTTT"
    assert os.listdir(link.parent) == ["staged.fa"]


def test_a_link_to_a_file_without_index(genome_file, tmp_path):
    link = tmp_path / "work" / "staged.fa"
    link.parent.mkdir()
    link.symlink_to(genome_file)
    assert chr2_of(link) == "TTTT"
    assert sorted(os.listdir(link.parent)) == ["staged.fa", "staged.fa.fai"]
    assert not (tmp_path / "genome.fa.fai").exists()


@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
def test_many_jobs_open_one_file_at_once(tmp_path, name):
    path = tmp_path / name
    content = to_fasta({"chr1": "ACGT" * 5000, "chr2": "TTTT"})
    path.write_bytes(content) if name == "g.fa" else write_bgzip(path, content)
    barrier, answers = threading.Barrier(8), []

    def job():
        barrier.wait()
        answers.append(chr2_of(path))

    threads = [threading.Thread(target=job) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["TTTT"] * 8
    expected = {name, f"{name}.fai"} | ({f"{name}.gzi"} if name.endswith("gz") else set())
    assert set(os.listdir(tmp_path)) == expected


def test_the_index_can_be_read_by_others(genome_file, tmp_path):
    chr2_of(genome_file)
    umask = os.umask(0)
    os.umask(umask)
    assert os.stat(tmp_path / "genome.fa.fai").st_mode & 0o777 == 0o666 & ~umask


# --- bad files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"chr1\t1\t2\n", "does not begin with '>'. Is it a FASTA file?"),
        (b"BZh91AY&SY", "is compressed by bzip2: unpack it first"),
        (b"\x43\x27\x41\x1a\0\0\0\0", "is a 2bit file. A FASTA of it: twoBitToFa OLD.2bit NEW.fa"),
        (">a\nACGT\n".encode("utf-16"), "is text in UTF-16. Save it as UTF-8: iconv -f UTF-16 -t UTF-8 OLD > NEW"),
        (b"@r1\nACGT\n+\nIIII\n", "begins with '@', as FASTQ does. A FASTA of it: seqtk seq -a OLD > NEW"),
        (b"PK\x03\x04" + bytes(26) + b"metadata.json", "is a model of Keras"),
        (b">a\nAC\n>b\nAC\n>a\nA\n", "has more than one record named 'a'. Names of contigs must differ."),
        (
            b">a\nACGT\nAC\nACGT\n",
            "x.fa line 4: record 'a' goes on after line 3, which has 2 bases, and the lines before it have 4. Make all",
        ),
        (b">\nACGT\n", "x.fa line 1: '>' is followed by no name"),
        (b">a\nAC\xff\xfe\n", "x.fa line 2: record 'a' holds '\\xff', which is no letter"),
    ],
)
def test_not_a_fasta(tmp_path, content, problem):
    path = tmp_path / "x.fa"
    path.write_bytes(content)
    with pytest.raises(SequenceError) as caught:
        open_fasta(path)
    assert str(caught.value).startswith(str(path))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["x.fa"]


def test_plain_gzip_is_refused(tmp_path):
    path = tmp_path / "x.fa.gz"
    path.write_bytes(gzip.compress(to_fasta(CONTIGS)))
    with pytest.raises(SequenceError, match=r"x\.fa\.gz is compressed by gzip, which cannot be .* gunzip .* bgzip > "):
        open_fasta(path)


def test_names_and_contents_must_agree(tmp_path):
    with pytest.raises(SequenceError, match=r"compressed by bgzip, but its name does not end in \.gz\. Rename it"):
        open_fasta(write_bgzip(tmp_path / "x.fa", to_fasta(CONTIGS)))
    (tmp_path / "y.fa.gz").write_bytes(to_fasta(CONTIGS))
    with pytest.raises(SequenceError, match=r"y\.fa\.gz is not compressed, but its name ends as if it were"):
        open_fasta(tmp_path / "y.fa.gz")


def test_truncated_bgzip(tmp_path):
    path = write_bgzip(tmp_path / "x.fa.gz", to_fasta(CONTIGS))
    path.write_bytes(path.read_bytes()[:-28])
    with pytest.raises(SequenceError, match=r"is a cut or damaged bgzip file: its end marker is missing"):
        open_fasta(path)


def test_damaged_bgzip(tmp_path, rng):
    path = write_bgzip(tmp_path / "x.fa.gz", to_fasta({"c": "".join(rng.choice(list("ACGT"), 1000))}))
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(SequenceError, match=r"x\.fa\.gz "):
        open_fasta(path)
    assert os.listdir(tmp_path) == ["x.fa.gz"]


def test_a_file_that_shrinks_while_it_is_open(genome_file):
    with open_fasta(genome_file) as genome:
        os.truncate(genome_file, 30)
        with pytest.raises(SequenceError, match=r"chr1:0-73 holds \d+ bases instead of 73\. Is the file truncated\?"):
            genome.codes("chr1", 0, 73)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(SequenceError, match=rf"^{re.escape(str(tmp_path))}/none\.fa does not exist$"):
        open_fasta(tmp_path / "none.fa")
    with pytest.raises(SequenceError, match=rf"^{re.escape(str(tmp_path))} is not a regular file"):
        open_fasta(tmp_path)
    (tmp_path / "loop.fa").symlink_to(tmp_path / "loop.fa")
    with pytest.raises(SequenceError, match=r"loop\.fa cannot be read: Too many levels of symbolic links"):
        open_fasta(tmp_path / "loop.fa")


# --- contigs ---------------------------------------------------------------------------------------------------------


def test_missing_contigs(genome_file):
    with open_fasta(genome_file) as genome:
        with pytest.raises(RegionError, match=rf"^contig 'chrZ' is not in {re.escape(str(genome_file))}$"):
            genome.codes("chrZ", 0, 1)
        with pytest.raises(RegionError, match=r"^contig 'MT' is not in .*, which names it 'chrM'$"):
            genome.codes("MT", 0, 1)
        with pytest.raises(RegionError, match=r"^chr1:5-4: start 5 is after end 4$"):
            genome.codes("chr1", 5, 4)


def test_check_contigs_reports_all_with_lines(genome_file):
    with open_fasta(genome_file) as genome:
        check_contigs(genome, {"chr1": 1, "chrM": 7, "2": 8, "MT": 9}, "peaks.bed")
        with pytest.raises(RegionError) as caught:
            check_contigs(genome, {"1": 3, "3": 4}, "peaks.bed")
        assert str(caught.value) == f"peaks.bed line 4: contig '3' is not in {genome_file}"
        with pytest.raises(RegionError) as caught:
            check_contigs(genome, {"3": 3, "chr1": 5, "chrUn": 9}, "peaks.bed")
        assert str(caught.value).splitlines() == [
            f"2 contigs of peaks.bed are not in {genome_file}:",
            "  line 3: contig '3'",
            "  line 9: contig 'chrUn'",
        ]
        with pytest.raises(RegionError, match=r"and 10 more$"):
            check_contigs(genome, {f"x{line}": line for line in range(30)}, "peaks.bed")


def test_ucsc_names_are_matched_with_ensembl_names(tmp_path):
    path = tmp_path / "ensembl.fa"
    path.write_bytes(to_fasta({"1": "ACGT", "chr2": "ACGT", "2": "ACGT", "MT": "ACGT"}))
    with open_fasta(path) as genome:
        names = ["chr1", "1", "chr2", "2", "chrM", "MT", "chrUn", "M"]
        matched = matched_contigs(genome, names)
        assert matched == {"chr1": "1", "1": "1", "chr2": "chr2", "2": "2", "chrM": "MT", "MT": "MT"}
        line = renaming_line(genome, matched, "peaks.bed")
        assert line == f"contigs of peaks.bed have other names in {path}: chr1 is 1 there"
        assert renaming_line(genome, {"1": "1"}, "peaks.bed") == ""


def test_chrm_of_hg19_is_not_mt(tmp_path):
    path = tmp_path / "hg19.fa"
    path.write_bytes(to_fasta({"chr1": "ACGT", "chrM": 16_571 * "A"}))
    with open_fasta(path) as genome:
        assert matched_contigs(genome, ["1", "MT", "chrM"]) == {"1": "chr1", "chrM": "chrM"}
        by_length = {length: matched_contigs(genome, ["MT"], {"MT": length}) for length in (16_569, 16_571)}
        assert by_length == {16_569: {}, 16_571: {"MT": "chrM"}}  # a VCF says the length of its contigs
        said = r"line 2: contig 'MT' is not in .*hg19\.fa \(its chrM of 16,571 bases is another sequence\)$"
        with pytest.raises(RegionError, match=said):
            check_contigs(genome, {"1": 1, "MT": 2}, "peaks.bed")
        with pytest.raises(RegionError, match=r"contig 'MT' is not in .* is another sequence\)$"):
            genome.codes("MT", 0, 1)


def test_an_index_that_is_a_pipe_is_not_waited_for(genome_file):
    os.mkfifo(f"{genome_file}.fai")
    with open_fasta(genome_file) as genome:
        assert "chr1" in genome.sizes


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.exists(), reason="no real data beside this checkout")
def test_real_genome(tmp_path):
    compressed = Path(shutil.copy(REAL / "hg38_chr1_0_1Mb.fa.gz", tmp_path))
    plain = tmp_path / "hg38.fa"
    plain.write_bytes(gzip.decompress(compressed.read_bytes()))
    with open_fasta(compressed) as one, open_fasta(plain) as other:
        assert one.sizes == other.sizes == {"chr1": 1_000_000}
        np.testing.assert_array_equal(one.codes("chr1", -5, 1_000_005), other.codes("chr1", -5, 1_000_005))
        codes = one.codes("chr1", 0, 1_000_000)
        assert (codes[:10_000] == DNA.unknown).all()  # the telomere is not assembled
        assert DNA.decode(codes[10_000:10_012]) == "TAACCCTAACCC"
