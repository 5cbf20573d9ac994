"""Arrays of ``--input`` and ``--replace-with``: what is none is refused in one line with its option and its file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fastism_cli.engine.block_contents import content_of
from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import DNA
from fastism_cli.genome.input_files import array_in
from fastism_cli.run.inputs_and_targets import read_inputs

GOOD = np.arange(20, dtype="f4").reshape(5, 4)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("good.npy", GOOD)
    return tmp_path


def raw(data: bytes) -> None:
    Path("x.npy").write_bytes(data)


def archive() -> None:
    np.savez("x.npz", a=GOOD)
    os.rename("x.npz", "x.npy")


def header(text: str) -> bytes:
    """A file of version 1.0 with this header and 16 bytes of zeros."""
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + bytes(16)


FAULTS = {
    "gone": (lambda: None, "cannot be read: No such file or directory"),
    "a folder": (lambda: os.mkdir("x.npy"), "is no regular file"),
    "a pipe": (lambda: os.mkfifo("x.npy"), "is no regular file"),
    "empty": (lambda: raw(b""), "is no array, or an empty one"),
    "text": (lambda: raw(b"1 2 3\n"), "is no array, or an empty one"),
    "cut": (lambda: raw(Path("good.npy").read_bytes()[:-1]), "is no array, or an empty one"),
    "two arrays": (lambda: raw(2 * Path("good.npy").read_bytes()), "has 208 bytes behind its array of shape (5, 4)"),
    "an archive": (archive, "is an archive of arrays (.npz)"),
    "objects": (lambda: np.save("x.npy", np.array([1, None]), allow_pickle=True), "is no array, or an empty one"),
    "text of letters": (lambda: np.save("x.npy", np.array(["A"])), "holds values of type <U1, which are no numbers"),
    "complex": (lambda: np.save("x.npy", GOOD * 1j), "holds values of type complex64, which are no numbers"),
    "code": (lambda: raw(header("__import__('os').mkdir('made')")), "is no array, or an empty one"),
    "brackets": (lambda: raw(header("(" * 9000)), "is no array, or an empty one"),
    "more than memory": (
        lambda: raw(header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 99999), }")),
        "is no array, or an empty one",
    ),
    "a negative shape": (
        lambda: raw(header("{'descr': '<f8', 'fortran_order': False, 'shape': (-2, 1), }")),
        "is no array, or an empty one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_no_array_is_refused_by_option_and_file(case):
    make, message = FAULTS[case]
    make()
    for option, call in (
        ("inputs a:", lambda: read_inputs(["a=x.npy"])),
        ("replace_with", lambda: content_of("x.npy", DNA, 5, samples=1, seed=0)),
    ):
        with pytest.raises(UsageError) as found:
            call()
        assert str(found.value).startswith(f"{option} x.npy {message}") and "\n" not in str(found.value)
    assert not os.path.exists("made")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((5, 4), np.nan), "must hold finite numbers"),
        (np.full((5, 4), 1e300), "must hold finite numbers"),
        (np.zeros((5, 3)), r"must have shape \(4,\), \(width, 4\) or \(A, width, 4\) with width 5. Received: \(5, 3\)"),
        (np.zeros((1, 2, 5, 4)), r"must have shape .* Received: \(1, 2, 5, 4\)"),
        (np.zeros((6, 4)), r"must have shape .* Received: \(6, 4\)"),
        (np.zeros((0, 5, 4)), r"must have shape .* Received: \(0, 5, 4\)"),
    ],
)
def test_a_content_that_no_block_holds_is_refused_by_option_and_file(values, message):
    np.save("x.npy", values)
    with pytest.raises(UsageError, match=rf"^replace_with x\.npy: an array {message}"):
        content_of("x.npy", DNA, 5, samples=1, seed=0)


@pytest.mark.parametrize("kind", [">f4", "<f8", "float16", "uint8", "int64", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_every_type_and_order_are_read(kind, order):
    values = (GOOD % 2).astype(kind)
    np.save("x.npy", np.asarray(values, order=order))
    np.testing.assert_array_equal(array_in("x.npy", "x"), values)
    content = content_of("x.npy", DNA, 5, samples=1, seed=0)
    np.testing.assert_array_equal(content.rows(np.zeros(0), np.zeros(0))[0, 0, 0], GOOD % 2)
