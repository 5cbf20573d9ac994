"""Letters to codes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastism_cli.errors import FastISMError, SequenceError
from fastism_cli.genome.alphabet import DNA, RNA, Alphabet

PROTEIN = Alphabet("ACDEFGHIKLMNPQRSTVWY")
IUPAC_AMBIGUOUS = "RYSWKMBDHVN"


def test_default_is_dna():
    assert Alphabet() == DNA
    assert (DNA.letters, DNA.size, DNA.unknown) == ("ACGT", 4, 4)


def test_encode_ignores_case_and_reads_the_other_t():
    np.testing.assert_array_equal(DNA.encode("ACGTacgtUu"), [0, 1, 2, 3, 0, 1, 2, 3, 3, 3])
    np.testing.assert_array_equal(RNA.encode("ACGUacguTt"), [0, 1, 2, 3, 0, 1, 2, 3, 3, 3])


def test_u_is_not_t_among_amino_acids():
    assert PROTEIN.encode("T")[0] == PROTEIN.letters.index("T")
    assert PROTEIN.encode("U")[0] == PROTEIN.unknown


def test_encode_is_uint8_of_the_same_length():
    codes = DNA.encode(b"ACGTN")
    assert codes.dtype == np.uint8
    assert codes.shape == (5,)
    assert DNA.encode("").shape == (0,)


@pytest.mark.parametrize("letter", IUPAC_AMBIGUOUS + IUPAC_AMBIGUOUS.lower() + "-*. é")
def test_anything_else_is_unknown(letter):
    np.testing.assert_array_equal(DNA.encode(f"A{letter}C"), [0, 4, 1])


def test_order_of_letters_is_the_order_of_codes():
    np.testing.assert_array_equal(Alphabet("TGCA").encode("ACGTN"), [3, 2, 1, 0, 4])
    assert Alphabet("acgt") == DNA


@given(st.text(alphabet="ACGTN"))
def test_decode_undoes_encode(sequence):
    assert DNA.decode(DNA.encode(sequence)) == sequence


@given(st.text())
def test_every_text_has_one_code_a_character(text):
    codes = DNA.encode(text)
    assert len(codes) == len(text)
    assert all(DNA.decode([code]) == (letter.upper().replace("U", "T") if letter in "acgtuACGTU" else "N")
               for letter, code in zip(text, codes, strict=True))  # fmt: skip


@given(st.text(alphabet="ACGTN"))
def test_one_hot_is_the_definition(sequence):
    expected = np.array([[letter == base for base in "ACGT"] for letter in sequence]).reshape(-1, 4)
    one_hot = DNA.one_hot(DNA.encode(sequence))
    assert one_hot.dtype == np.float32
    np.testing.assert_array_equal(one_hot, expected)


def test_one_hot_keeps_leading_axes():
    codes = np.array([[[0, 4], [3, 1]]], dtype=np.uint8)
    assert DNA.one_hot(codes).shape == (1, 2, 2, 4)
    np.testing.assert_array_equal(DNA.one_hot(codes).sum(-1), [[[1, 0], [1, 1]]])
    assert DNA.one_hot(np.zeros((3, 0), np.uint8)).shape == (3, 0, 4)


@given(st.text(alphabet="ACGTN"))
def test_reverse_complement_is_the_definition(sequence):
    codes = DNA.encode(sequence)
    expected = sequence.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    assert DNA.decode(DNA.reverse_complement(codes)) == expected
    np.testing.assert_array_equal(DNA.reverse_complement(DNA.reverse_complement(codes)), codes)


def test_reverse_complement_of_rna_and_of_several_rows():
    assert RNA.decode(RNA.reverse_complement(RNA.encode("AACU"))) == "AGUU"
    rows = np.stack([DNA.encode("AACG"), DNA.encode("TNNC")])
    assert [DNA.decode(row) for row in DNA.reverse_complement(rows)] == ["CGTT", "GNNA"]
    assert Alphabet("TGCA").decode(Alphabet("TGCA").reverse_complement([0, 0, 1, 4])) == "NCAA"


def test_unknown_amino_acid_is_x():
    assert PROTEIN.decode(PROTEIN.encode("MNBZ")) == "MNXX"


@pytest.mark.parametrize("letters", ["", "AACG", "ACGt T", "AaCG", "AC1", "ACGé"])
def test_bad_alphabet(letters):
    with pytest.raises(SequenceError, match=r"distinct letters A-Z, such as ACGT\. Received: '"):
        Alphabet(letters)


def test_no_complement_of_protein():
    with pytest.raises(SequenceError, match="Only ACGT and ACGU have a reverse complement"):
        PROTEIN.reverse_complement(PROTEIN.encode("MK"))


@pytest.mark.parametrize("codes", [[5], [-1], [0.5]])
def test_bad_codes(codes):
    with pytest.raises(FastISMError, match="Codes of ACGT are integers from 0 to 4"):
        DNA.one_hot(codes)
