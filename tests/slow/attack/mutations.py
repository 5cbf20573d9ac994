"""Changes of bytes, lines, JSON and HDF5, as copying, editors, spreadsheets, old versions and bad disks make them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

Mutation = Callable[[Random, bytes], bytes]

WIDE_5 = "\uff15"  # a digit to Python, but not to others
ODD = (
    *(bytes([code]) for code in (0, 9, 10, 11, 12, 13, 26, 28, 32, 127, 0x85, 0xA0, 0xE9, 0xFF)),
    *(text.encode() for text in ("7", ">", "#", ";", ",", "|", '"', "-", "*", ".", "N")),
    *(text.encode() for text in ("\ufeff", "é", "\u2028", "\u00a0", WIDE_5)),
    *(b"  ", b"\t\t", b"\r\n", b"\n\n", b"\n>", b"12345"),
)  # fmt: skip
NUMBERS = (
    *(b"", b"-1", b"0", b"1", b"1e5", b"1e+05", b"1.0", b"1,000", b"1_000", b"+7", b" 7", b"007", b"0x10", b"nan"),
    *(b"inf", b"1000L", WIDE_5.encode(), b"2147483648", b"4294967296", b"99999999999999999999", b"9" * 5000),
)  # fmt: skip


# --- bytes ------------------------------------------------------------------------------------------------------------


def flip_bit(draw: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def replace_byte(draw: Random, data: bytes) -> bytes:
    at = draw.randrange(max(len(data), 1))
    return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]


def insert_odd(draw: Random, data: bytes) -> bytes:
    at = draw.choice((0, len(data), draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)))
    return data[:at] + draw.choice(ODD) + data[at:]


def delete(draw: Random, data: bytes) -> bytes:
    start, stop = _stretch(draw, data)
    return data[:start] + data[stop:]


def repeat(draw: Random, data: bytes) -> bytes:
    start, stop = _stretch(draw, data)
    return data[:stop] + data[start:]


def zero(draw: Random, data: bytes) -> bytes:
    start, stop = _stretch(draw, data)
    return data[:start] + bytes(stop - start) + data[stop:]


def zero_all(draw: Random, data: bytes) -> bytes:
    return bytes(len(data))


def truncate(draw: Random, data: bytes) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _stretch(draw: Random, data: bytes) -> tuple[int, int]:
    start = draw.randrange(len(data) + 1)
    return start, min(start + draw.choice((1, 1, 2, 7, 60, 512, 4096)), len(data))


BYTES: tuple[Mutation, ...] = (flip_bit, flip_bit, replace_byte, insert_odd, delete, repeat, zero, truncate)


# --- lines of text ----------------------------------------------------------------------------------------------------


def swap_lines(draw: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    a, b = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


def repeat_line(draw: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    lines.insert(draw.randrange(len(lines)), draw.choice(lines))
    return b"\n".join(lines)


def delete_line(draw: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    del lines[draw.randrange(len(lines))]
    return b"\n".join(lines)


def join_lines(draw: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    return b"\n".join([*lines[:at], b"".join(lines[at : at + 2]), *lines[at + 2 :]])


def end_of_line(draw: Random, data: bytes) -> bytes:
    """One line gets white space at its end."""
    lines = data.split(b"\n")
    lines[draw.randrange(len(lines))] += draw.choice((b" ", b"\t", b"\r", b"  \t", b"\x0b", b"\xc2\xa0"))
    return b"\n".join(lines)


def line_ends(draw: Random, data: bytes) -> bytes:
    """Line ends of Windows, of an old Mac, or of both kinds in one file; white space at the end of all lines."""
    if draw.random() < 0.2:
        half = len(data) // 2
        return data[:half] + data[half:].replace(b"\n", b"\r\n")
    return data.replace(b"\n", draw.choice((b"\r\n", b"\r", b"\n\n", b" \n", b"\t\n", b"\r\r\n", b"\n\r")))


def edit_columns(draw: Random, data: bytes) -> bytes:
    """Swap, repeat or remove columns of one line, or separate them by something else."""
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    columns = lines[at].split(b"\t")
    a, b = draw.randrange(len(columns)), draw.randrange(len(columns))
    action = draw.randrange(5)
    if action == 0:
        columns[a], columns[b] = columns[b], columns[a]
    elif action == 1:
        columns.insert(a, columns[b])
    elif action == 2:
        del columns[a]
    elif action == 3:
        columns[a] = b'"' + columns[a] + b'"'
    separator = draw.choice((b" ", b"  ", b",", b"\t\t")) if action == 4 else b"\t"
    lines[at] = separator.join(columns)
    return b"\n".join(lines)


def replace_number(draw: Random, data: bytes) -> bytes:
    places = list(re.finditer(rb"\d+", data))
    if not places:
        return data
    place = draw.choice(places)
    number = draw.choice((*NUMBERS, str(int(place[0][:18]) + draw.choice((-1, 1))).encode()))
    return data[: place.start()] + number + data[place.end() :]


LINES: tuple[Mutation, ...] = (
    *(swap_lines, repeat_line, delete_line, join_lines, end_of_line, line_ends),
    *(edit_columns, edit_columns, replace_number, replace_number),
)
TEXT: tuple[Mutation, ...] = (*BYTES, *LINES)


def mutated(draw: Random, data: bytes, mutations: tuple[Mutation, ...]) -> bytes:
    """One to three changes."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        data = draw.choice(mutations)(draw, data)
    return data


# --- JSON -------------------------------------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 0.5, 10**6, 10**12, 10**40, 1e308, float("nan")),
    *("", "x", "relu", "Dense", "float16", "\ud800", "a/b"),
    *([], {}, [0], [[]], [None, 41, 4], {"class_name": "Dense"}, {"class_name": "Lambda", "config": {}}),
)  # fmt: skip


def mutated_json(draw: Random, text: bytes) -> bytes:
    """Replace, remove, repeat or swap values; now and then, a thousand brackets around one."""
    tree = json.loads(text)
    for _ in range(draw.choice((1, 1, 1, 2))):
        tree = _edited(draw, tree)
    written = json.dumps(tree).encode()
    return written if draw.random() > 0.02 else b"[" * 100_000 + written


def _edited(draw: Random, tree: Any) -> Any:
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return draw.choice(VALUES)
    holder, key = draw.choice(places)
    action = draw.randrange(6)
    if action == 0:
        del holder[key]
    elif action == 1:
        other, at = draw.choice(places)
        holder[key] = copy.deepcopy(other[at])
    elif action == 2 and isinstance(holder, list):
        holder.insert(draw.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    else:
        holder[key] = draw.choice(VALUES)
    return tree


def _places(tree: Any) -> Any:
    """Every (container, key) of a tree."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def edit_hdf5(draw: Random, path: Path) -> None:
    """Remove, retype, reshape or replace one dataset, group or attribute of a file."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        attributes = [(name, key) for name in ("/", *names) for key in file[name].attrs]
        if attributes and draw.random() < 0.5:
            _edit_attribute(draw, file, *draw.choice(attributes))
        elif names:
            _edit_item(draw, file, draw.choice(names))


def _edit_attribute(draw: Random, file: h5py.File, name: str, key: str) -> None:
    attributes = file[name].attrs
    before = attributes[key]
    del attributes[key]
    values = (
        None,
        0,
        -1,
        2**40,
        1.5,
        float("nan"),
        "",
        "x",
        "\u00e9",
        b"\xff\xfe",
        [1, 2],
        ["a", "b"],
        h5py.Empty("f"),
    )
    value = draw.choice((*values, [before]))
    if value is not None:
        attributes[draw.choice((key, key, key, f"{key}_"))] = value


def _edit_item(draw: Random, file: h5py.File, name: str) -> None:
    item = file[name]
    values = item[()] if isinstance(item, h5py.Dataset) else None
    action = draw.choice(("remove", "group", "soft", "external", "move", "type", "shape", "shape"))
    if action == "move":
        return file.move(name, f"{name}_")
    del file[name]
    if action == "group":
        file.create_group(name)
    elif action == "soft":
        file[name] = h5py.SoftLink(draw.choice(("/nowhere", "/", "/seq")))
    elif action == "external":
        file[name] = h5py.ExternalLink(draw.choice(("/nowhere.h5", "/proc/self/mem", Path(file.filename).name)), "/")
    elif action in ("type", "shape"):
        file[name] = _other_type(draw, values) if action == "type" else _other_shape(draw, values)
    return None


def _other_type(draw: Random, values: Any) -> Any:
    if values is None or np.asarray(values).dtype.kind in "OS":
        return draw.choice((np.zeros(np.shape(values), "float32"), np.zeros(np.shape(values), "int64"), 3, "text"))
    return np.asarray(values).astype(draw.choice(("S3", "float16", "float64", "complex64", "int8", "bool")))


def _other_shape(draw: Random, values: Any) -> Any:
    array = np.asarray(0 if values is None else values)
    if array.dtype.kind == "O":
        array = array.astype("S")
    forms = (array[None], array.ravel(), array[..., None], np.zeros(0, array.dtype), np.zeros((), array.dtype))
    return draw.choice((*forms, array[:-1], array[1:]) if array.ndim else forms[:4])
