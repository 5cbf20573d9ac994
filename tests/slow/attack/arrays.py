"""Arrays of ``--input`` and ``--replace-with`` against a reader of its own."""

from __future__ import annotations

import ast
import io
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fastism_cli.engine.block_contents import content_of
from fastism_cli.engine.inputs_and_scores import OtherInput
from fastism_cli.genome.alphabet import DNA
from fastism_cli.run.inputs_and_targets import fit_inputs, read_inputs
from tests.slow.attack.genomes import UNDAMAGED, still_read
from tests.slow.attack.mutations import BYTES, mutated, replace_number
from tests.slow.attack.outcome import Kind, Outcome, read

MAGIC = b"\x93NUMPY"
TYPES = ("<f4", "<f4", "<f8", ">f4", "<f2", "|u1", "<i8", ">u2", "|b1")
LARGEST = float(np.finfo("float32").max)
SHAPES = {"input": ((3,), (2, 3)), "content": ((4,), (3, 4), (2, 3, 4))}
WIDTH, ROWS = 3, 2


def array_text(draw: Random, what: str) -> bytes:
    """An array as NumPy saves it, of any type and order, with whole numbers."""
    values = [draw.randrange(5) for _ in range(24)]
    shape = draw.choice(SHAPES[what])
    array = np.array(values[: prod(shape)]).reshape(shape).astype(draw.choice(TYPES))
    file = io.BytesIO()
    array = np.asfortranarray(array) if draw.random() < 0.2 else array
    np.lib.format.write_array(file, array, version=draw.choice(((1, 0), (1, 0), (2, 0), (3, 0))))
    return file.getvalue()


def judged(data: bytes) -> np.ndarray | None:
    """The array of a file, whose header is read by the description of the format; None if it is none."""
    try:
        form, at = ("<H", 10) if data[6:7] == b"\1" else ("<I", 12)
        length = struct.unpack_from(form, data, 8)[0]
        is_known = data[:6] == MAGIC and data[6:8] in (b"\1\0", b"\2\0", b"\3\0")
        header = ast.literal_eval(data[at : at + length].decode("utf-8" if data[6] == 3 else "latin-1"))
        if not is_known or set(header) != {"descr", "fortran_order", "shape"}:
            return None
        kind, shape = np.dtype(header["descr"]), header["shape"]
        is_array = kind.kind in "biuf" and all(type(n) is int and n > 0 for n in shape)
        if not is_array or type(header["fortran_order"]) is not bool or at + length > len(data):
            return None
        if prod(shape) * kind.itemsize != len(data) - at - length:
            return None
        return np.frombuffer(data[at + length :], kind).reshape(shape, order="CF"[header["fortran_order"]])
    except Exception:  # a header that is no Python, no type, no shape
        return None


def finite(array: np.ndarray | None) -> np.ndarray | None:
    """The array, if every number is finite in float32."""
    if array is None or not (np.abs(array.astype("float64")) <= LARGEST).all():
        return None
    return array.astype("float64")


def attempt_input(_: None, draw: Random, folder: Path) -> Outcome:
    """Give the array to an input of floats, of integers, or of an Embedding."""
    port = draw.choice((OtherInput((3,)), OtherInput((3,), "int32"), OtherInput((3,), "int32", 5)))

    def fits(array: np.ndarray | None) -> np.ndarray | None:
        if array is None or array.shape not in ((3,), (ROWS, 3)):
            return None
        most = 4 if port.integers else np.iinfo("int32").max if port.dtype == "int32" else LARGEST
        least = 0 if port.integers else -most - 1
        is_whole = port.dtype != "int32" or (array == np.floor(array)).all()
        return np.broadcast_to(array, (ROWS, 3)) if is_whole and least <= array.min() <= array.max() <= most else None

    def rows(path: Path) -> np.ndarray:
        given = fit_inputs(read_inputs([f"x={path}"]), {"x": port}, ROWS)
        return given.rows(range(ROWS))["x"].astype("float64")

    return _attempt(draw, folder, "input", fits, rows)


def attempt_content(_: None, draw: Random, folder: Path) -> Outcome:
    """Put the array into blocks."""

    def fits(array: np.ndarray | None) -> np.ndarray | None:
        is_content = array is not None and array.shape[-1:] == (4,) and 1 <= array.ndim <= 3
        if array is None or not is_content or (array.ndim > 1 and array.shape[-2] != WIDTH):
            return None
        found = array.astype("float32").astype("float64")
        return np.broadcast_to(found, (len(found) if found.ndim == 3 else 1, WIDTH, 4))

    def rows(path: Path) -> np.ndarray:
        found: Any = content_of(str(path), DNA, WIDTH, samples=1, seed=0)
        return found.values.astype("float64")

    return _attempt(draw, folder, "content", fits, rows)


def _attempt(draw: Random, folder: Path, what: str, fits: Any, rows: Any) -> Outcome:
    path, original = folder / "x.npy", array_text(draw, what)
    data = original if draw.random() < UNDAMAGED else mutated(draw, original, (*BYTES, replace_number, replace_number))
    path.write_bytes(data)
    array = finite(judged(data))
    expected = fits(array)

    def wrong(found: np.ndarray) -> str:
        known = fits(finite(judged(original))) if expected is None else expected
        is_same = known is not None and found.shape == known.shape and np.array_equal(found, known)
        return "" if is_same else f"{found.tolist()} are not {known}: {data!r}"

    is_whole = data == original and expected is not None  # numbers that the input does not take are refused
    return still_read(read(lambda: rows(path), [path.name], wrong), is_whole)


def kinds() -> Iterator[Kind]:
    yield Kind("npy-input", lambda folder: None, attempt_input)
    yield Kind("npy-content", lambda folder: None, attempt_content)
