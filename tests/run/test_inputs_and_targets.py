"""``--input``, ``--targets`` and ``--target-names``, and how they fit a model."""

import numpy as np
import pytest

from fastism_cli.engine.inputs_and_scores import OtherInput
from fastism_cli.errors import UsageError
from fastism_cli.model.heads import choose_heads
from fastism_cli.run import inputs_and_targets
from fastism_cli.run.inputs_and_targets import fit_inputs, parse_targets, read_inputs, read_target_names, stored_heads

PAIR = OtherInput((2,))


def test_values_of_other_inputs(tmp_path):
    np.save(tmp_path / "same.npy", [1.0, 2.0])
    np.save(tmp_path / "rows.npy", np.arange(6.0).reshape(3, 2))
    given = read_inputs([f"a={tmp_path}/same.npy", f"b={tmp_path}/rows.npy", "c=ones"])
    rows = fit_inputs(given, {"a": PAIR, "b": PAIR, "c": OtherInput((1, 2))}, 3).rows([2, 0])
    np.testing.assert_array_equal(rows["a"], [[1, 2], [1, 2]])
    np.testing.assert_array_equal(rows["b"], [[4, 5], [0, 1]])
    np.testing.assert_array_equal(rows["c"], np.ones((2, 1, 2)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"The model has an input beside the sequence: 'a' \(2,\). Give each its values: inputs NAME=zeros"),
        ({"a": 0.0, "b": 1.0}, r"inputs b: the model has no such input beside the sequence. Those it has: 'a' \(2,\)"),
        ({"a": np.zeros((4, 2))}, r"shape \(2,\).*or \(3, 2\) \(a row for each of the 3 regions\). Received: \(4, 2\)"),
    ],
)
def test_inputs_that_do_not_fit(given, message):
    with pytest.raises(UsageError, match=message):
        fit_inputs(given, {"a": PAIR}, 3)


# What a file holds, what the model's input is, and the message, which begins with the option, the input and the file.
WRONG_ARRAYS = {
    "nan": ([[0, 1], [2, np.nan]], PAIR, r", row 1 \(from 0\): nan at \[1, 1\]\. Values must be finite"),
    "inf, the same for all": ([0, -np.inf], PAIR, r", row 1 \(from 0\): -inf at \[1\]\. Values must be finite"),
    "too large": (np.array([[1.0, 2.0], [3.0, 1e39]]), PAIR, r", row 1 .*: 1e\+39 at \[1, 1\]\. .* at most 3\.4e\+38"),
    "too large, of half": (np.array([1, np.inf], "float16"), PAIR, r", row 1 .*: inf at"),
    "of longdouble": (np.array([1, np.nan], "longdouble"), PAIR, r", row 1 .*: nan at"),
    "shape": (np.zeros((4, 2)), PAIR, r": the array must have shape \(2,\) .* or \(3, 2\) .* Received: \(4, 2\)"),
    "no axes": (np.float32(1), PAIR, r": the array must have shape \(2,\).*Received: \(\)"),
    "empty": (np.zeros((3, 0)), PAIR, r": the array must have shape .*Received: \(3, 0\)"),
    "complex": (np.zeros(2, complex), PAIR, r" holds values of type complex128, which are no numbers"),
    "text": (np.array(["1", "2"]), PAIR, r" holds values of type <U1, which are no numbers"),
    "dates": (np.array(["2020-01-01"], "datetime64[D]"), PAIR, r" holds values of type datetime64\[D\]"),
    "records": (np.zeros(2, [("x", "f4"), ("y", "f4")]), PAIR, r" holds values of type \[.*, which are no numbers"),
    "half an integer": ([1, 1.5], OtherInput((2,), "int32"), r", row 1 .*: 1\.5 at \[1\]\. .*takes integers \(int32\)"),
    "beyond int8": ([[1, 1], [1, 1], [1, 128]], OtherInput((2,), "int8"), r", row 2 .*: 128 at \[2, 1\]\."),
    "below uint8": ([1, -1], OtherInput((2,), "uint8"), r", row 1 .*: -1 at \[1\]\. The input takes integers \(uint8"),
    "beyond an Embedding": ([0, 5], OtherInput((2,), "float32", 5), r", row 1 .*: 5 at \[1\]\. .* from 0 to 4, which"),
    "below an Embedding": ([-1, 0], OtherInput((2,), "int32", 5), r", row 0 .*: -1 at \[0\]\. .* from 0 to 4, which"),
    "no truth": ([0, 2], OtherInput((2,), "bool"), r", row 1 .*: 2 at \[1\]\. The input takes truth values, 0 or 1"),
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_arrays_that_an_input_cannot_hold_are_refused_by_input_file_and_row(case, tmp_path, monkeypatch):
    array, port, message = WRONG_ARRAYS[case]
    monkeypatch.setattr(inputs_and_targets, "NUMBERS_AT_ONCE", 2)  # a row or two of each file at a time
    np.save(tmp_path / "x.npy", np.asarray(array))
    with pytest.raises(UsageError, match=f"^inputs a: {tmp_path}/x.npy{message}") as found:
        fit_inputs(read_inputs([f"a={tmp_path}/x.npy"]), {"a": port}, 3)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("dtype", [">f4", ">i8", "float16", "longdouble", "bool", "uint64"])
def test_numbers_of_any_type_and_byte_order_are_taken(dtype, tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0, 1], [1, 1], [1, 0]], dtype))
    for port in (PAIR, OtherInput((2,), "int32"), OtherInput((2,), "bool"), OtherInput((2,), "int64", 2)):
        rows = fit_inputs(read_inputs([f"a={tmp_path}/x.npy"]), {"a": port}, 3).rows([2, 0])["a"]
        np.testing.assert_array_equal(rows.astype(port.dtype), [[1, 0], [0, 1]])


def test_files_that_hold_no_array_are_refused_by_input_and_file(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(2))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    np.save(tmp_path / "objects.npy", np.array([None]))
    for path, message in {
        tmp_path / "x.npz": "is an archive of arrays",
        tmp_path / "cut.npy": "is no array, or an empty one",
        tmp_path / "objects.npy": "is no array, or an empty one",
        tmp_path: "is no regular file",
        "/dev/null": "is no regular file",
        tmp_path / "none.npy": "cannot be read: No such file",
    }.items():
        with pytest.raises(UsageError, match=f"^inputs a: {path} {message}"):
            read_inputs([f"a={path}"])


def test_target_lists():
    assert parse_targets(["0,3-5"]) == {None: (0, 3, 4, 5)}
    assert parse_targets(["a=1", "b=all"]) == {"a": (1,), "b": None}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["x"], "'x' is neither a number nor a range"),
        (["1,,2"], "'' is neither a number nor a range"),
        (["5-3"], "5-3 ends before it starts"),
        (["0-4,2"], "2 comes twice"),
        (["a=1", "a=2"], "targets names 'a' twice"),
        (["1", "a=2"], "either one list for the only head, or HEAD=LIST"),
    ],
)
def test_wrong_target_lists(values, message):
    with pytest.raises(UsageError, match=message):
        parse_targets(values)


@pytest.mark.parametrize(
    ("targets", "names", "message"),
    [
        ({None: (0,)}, {}, "targets: the model has several heads. Name one: a=..., b=..."),
        ({"c": (0,)}, {}, "targets: the model has no head 'c'. Its heads: a, b."),
        ({"a": (2,)}, {}, "targets: head 'a' has 2 targets, numbered from 0. Received: 2"),
        ({}, {"b": ["x"]}, "target_names: head 'b' has 3 targets. Received: 1 names"),
    ],
)
def test_targets_that_the_model_does_not_have(targets, names, message):
    with pytest.raises(UsageError, match=message):
        stored_heads(choose_heads({"a": (2,), "b": (3,)}, None, targets, substitutions=4), names)


@pytest.mark.parametrize("head", ["a=", ""])
def test_a_head_has_one_file_of_names(tmp_path, head):
    (tmp_path / "names.txt").write_text("x\ny\n")
    value = f"{head}{tmp_path}/names.txt"
    with pytest.raises(UsageError, match=f"target_names is given twice for {repr('a') if head else 'the only head'}"):
        read_target_names([value, value])
    with pytest.raises(UsageError, match="target_names: give one value for the only head, with or without its name"):
        stored_heads(choose_heads({"a": (2,)}, None, {}, substitutions=4), {None: ["x", "y"], "a": ["y", "x"]})


def test_names_of_targets_may_come_from_windows(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfK562\r\nHepG2\r\n")
    assert read_target_names([f"a={tmp_path}/names.txt"]) == {"a": ("K562", "HepG2")}
