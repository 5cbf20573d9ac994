"""`make test-attack`, in small: what it counts, and that it is not blind to a reader that is broken."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fastism_cli.errors import RegionError, ResourceError
from fastism_cli.genome.annotations import Gene
from fastism_cli.genome.bed import BedSource
from fastism_cli.genome.bigwig import BigWig
from fastism_cli.genome.fasta import Genome
from fastism_cli.results.ism_file import IsmFile
from fastism_cli.results.scores import Scores
from fastism_cli.run.inputs_and_targets import OtherInputs
from tests.slow.attack import annotations, arrays
from tests.slow.attack.__main__ import repeat, table
from tests.slow.attack.child import Child, Tries, all_kinds
from tests.slow.attack.outcome import RAW, REFUSED, RIGHT, WRONG, Kind, Outcome, read

CHEAP = {name: kind for name, kind in all_kinds().items() if not kind.needs_keras}
TRIES = 12


@pytest.fixture(autouse=True)
def no_index_in_the_cache(monkeypatch):
    monkeypatch.setenv("FASTISM_CACHE", "off")


def counted(tries: Tries, name: str, number: int = TRIES) -> Counter[str]:
    return Counter(tries.outcome(name, 0, i).word for i in range(number))


def one_base_further(method: Callable[..., Any]) -> Callable[..., Any]:
    """A reader that begins one base too far to the right."""
    return lambda self, chrom, start, end, *more: method(self, chrom, start + 1, end + 1, *more)


def from_one(method: Callable[..., Any]) -> Callable[..., Any]:
    """A reader that takes the start of a BED for a position that counts from 1."""
    return lambda self: (region._replace(start=region.start - 1) for region in method(self))


def a_little_more(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *given: method(self, *given) + 1e-6


def ends_before(method: Callable[..., Any]) -> Callable[..., Any]:
    """A reader that takes the last base of a GTF for one that is left out."""

    def shorter(gene: Gene) -> Gene:
        return gene._replace(exons=tuple((start, end - 1) for start, end in gene.exons))

    return lambda *given: {chrom: list(map(shorter, genes)) for chrom, genes in method(*given).items()}


def one_more(method: Callable[..., Any]) -> Callable[..., Any]:
    """A reader of datasets or of arrays by name whose numbers are one too large."""

    def changed(*given: Any) -> Any:
        found = method(*given)
        return {name: values + 1 for name, values in found.items()} if isinstance(found, dict) else found[:] + 1

    return changed


def other_content(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given, **options: replace(found := method(*given, **options), values=found.values + 1)


BREAKS = (
    ("track", BedSource, "regions", from_one),
    ("bigWig", BigWig, "values", one_base_further),
    ("npy-input", OtherInputs, "rows", one_more),
    ("npy-content", arrays, "content_of", other_content),
    ("result-pairs", IsmFile, "pairs", one_more),
    ("result-means", IsmFile, "spread", one_more),
    ("result-blocks", Scores, "predictions", a_little_more),
    ("BED", BedSource, "regions", from_one),
    ("FASTA", Genome, "codes", one_base_further),
    ("fai", Genome, "codes", one_base_further),
    ("gzi", Genome, "codes", one_base_further),
    ("GTF", annotations, "read_genes", ends_before),
    ("result-gzip", Scores, "predictions", a_little_more),
    ("result-virtual", Scores, "predictions", a_little_more),
)


@pytest.mark.one_in(48)
@pytest.mark.parametrize(("name", "owner", "method", "broken"), BREAKS, ids=[b[0] for b in BREAKS])
def test_a_broken_reader_is_found(tmp_path, monkeypatch, name, owner, method, broken):
    tries = Tries(CHEAP, tmp_path)
    tries.prepare(name)
    monkeypatch.setattr(owner, method, broken(getattr(owner, method)))
    assert any(tries.outcome(name, 0, i).word == WRONG for i in range(10 * TRIES))


def test_a_reader_that_refuses_everything_is_found(tmp_path, monkeypatch):
    def refuse(self, *_):
        raise RegionError(f"{self.name} is not BED")

    monkeypatch.setattr(BedSource, "regions", refuse)
    counts = counted(Tries(CHEAP, tmp_path), "BED", 200)
    assert counts[RIGHT] == 0
    assert counts[WRONG] > 0
    assert counts[REFUSED] > 100


@pytest.mark.parametrize(
    ("error", "word", "detail"),
    [
        (RegionError("peaks.bed line 3: no"), REFUSED, "peaks.bed line 3: no"),
        (RegionError("2 lines of peaks.bed are not BED:\n  line 1: no\n  line 2: no"), REFUSED, "2 lines of"),
        (KeyError("x"), RAW, "KeyError: 'x'"),
        (RegionError("line 3: no"), RAW, "names no file"),
        (RegionError("peaks.bed is bad\nand more"), RAW, "several lines"),
        (RegionError("peaks.bed\0 is bad"), RAW, "control characters"),
        (ResourceError("peaks.bed is too large"), RAW, "exit code 1"),
    ],
)
def test_what_counts_as_refused(error, word, detail):
    def reader():
        raise error

    outcome = read(reader, ["peaks.bed"], str)
    assert outcome.word == word
    assert detail in outcome.detail


def test_what_counts_as_wrong():
    assert read(lambda: 3, ["x"], lambda found: "") == Outcome(RIGHT)
    assert read(lambda: 3, ["x"], lambda found: f"{found}, not 4") == Outcome(WRONG, "3, not 4")


def test_a_try_is_the_same_again(tmp_path):
    outcomes = [[Tries(CHEAP, tmp_path / str(n)).outcome(k, 3, 7).word for k in ("BED", "fai")] for n in range(2)]
    assert outcomes[0] == outcomes[1]
    assert repeat(3, "BED", 7) == "python -m tests.slow.attack --seed 3 --only BED --number 7"


def test_table_has_a_line_for_each_kind_and_all():
    lines = table({"BED": Counter({RIGHT: 1200, WRONG: 1}), "fai": Counter({REFUSED: 2})})
    assert [line.split() for line in lines] == [
        ["kind", "tried", "right", "refused", "wrong", "raw"],
        ["BED", "1,201", "1,200", "0", "1", "0"],
        ["fai", "2", "0", "2", "0", "0"],
        ["all", "1,203", "1,200", "2", "1", "0"],
    ]


# --- a process that is killed -----------------------------------------------------------------------------------------


def bad_ends() -> dict[str, Kind]:
    """Tries that do not come to an end of their own."""
    ends = {"spins": lambda *_: time.sleep(60), "crashes": lambda *_: os._exit(3), "works": lambda *_: Outcome(RIGHT)}
    return {name: Kind(name, str, attempt) for name, attempt in ends.items()}


@pytest.mark.exhaustive
def test_a_try_without_an_end_is_raw_and_the_next_goes_on():
    child = Child(["spins", "crashes", "works"], bad_ends, seconds=1)
    child.start()
    try:
        assert child.outcome("spins", 0, 0) == Outcome(RAW, "no end after 1 s")
        assert child.outcome("crashes", 0, 0) == Outcome(RAW, "the process ended with status 3")
        assert child.outcome("works", 0, 0) == Outcome(RIGHT)
    finally:
        child.stop()


# --- a random model that takes too long -------------------------------------------------------------------------------


def test_a_random_model_that_takes_too_long_is_reported(monkeypatch):
    from tests.models.stacks import Stack
    from tests.slow import fuzz

    monkeypatch.setattr(fuzz, "failure_of", lambda stack: time.sleep(stack.seed))
    quick, slow = Stack(9, (), (), seed=0), Stack(9, (), (), seed=30)
    began = time.monotonic()
    assert fuzz.fault_of(slow, 0.1) == "takes longer than 0.1 s"
    assert fuzz.fault_of(quick, 0.1) is None
    assert time.monotonic() - began < 20
