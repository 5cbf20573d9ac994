"""What is said of files that are no models, or that cannot be loaded."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tf_keras import layers as k2

from fastism_cli.errors import ModelError
from fastism_cli.model.loading.file_kinds import read_model_file
from fastism_cli.model.loading.load import load_model
from fastism_cli.model.loading.stored_code import describe_problems
from tests.helpers.model_files import (
    FILE_WARNINGS,
    LENGTH,
    assert_same,
    conv_block,
    edit_config,
    kept_from_tensorflow,
    keras3_model,
    predictions,
    saved,
    sequential,
    unchanged,
)
from tests.helpers.model_files import fresh_names as fresh_names  # used by every test here

pytestmark = FILE_WARNINGS


def test_problems_of_every_kind_are_listed() -> None:
    config = {
        "class_name": "Sequential",
        "config": [
            {"class_name": "Conv1D", "config": {"name": "c", "filters": 2, "kernel_size": 3, "activation": "cube"}},
            {"class_name": "AttentionPooling1D", "config": {"name": "attention_1"}},
            {"class_name": "Lambda", "config": {"name": "logcounts", "function": ["4wE=", None, None]}},
            {"class_name": "Dense", "config": {"name": "d", "units": 1, "sparsity": 0.5}},
        ],
    }
    assert describe_problems(config) == [
        "'c': activation cube is not known; pass --custom-objects FILE.py",
        "'attention_1': class AttentionPooling1D is not known; pass --custom-objects FILE.py",
        "'logcounts': a Lambda layer runs code stored in the file; pass --allow-lambda if you trust it",
        "'d': Dense does not take sparsity=0.5; a class of that name in --custom-objects FILE.py may",
    ]


def cut(path: Path, keep: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def weights_only(folder: Path, name: str) -> Path:
    conv_block().save_weights(folder / name)
    return folder / name


def other_hdf5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["x"] = 1
    return path


def npz(path: Path) -> Path:
    np.savez(path, x=np.zeros(3))
    return path


def empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def keras1(path: Path) -> Path:
    saved(conv_block(), path)
    edit_config(path, unchanged, keras_version="1.2.2")
    return path


def checkpoint(path: Path) -> Path:
    written(path.with_name(f"{path.name}.index"), b"index")
    return path


def without(member: str, path: Path) -> Path:
    """A ``.keras`` file that lacks one of its members."""
    whole = saved(conv_block(), path.with_name("whole.keras"))
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w") as part:
        for name in archive.namelist():
            if name != member:
                part.writestr(name, archive.read(name))
    return path


def unpacked(archive: Path, folder: Path) -> Path:
    shutil.unpack_archive(archive, folder, "zip")
    return folder


WRONG = {
    "missing": (lambda folder: folder / "m.h5", "m.h5: no such file or folder"),
    "FASTA": (lambda folder: written(folder / "hg38.fa", b">chr1\nACGT\n"), "hg38.fa looks like FASTA; give a .keras"),
    "empty": (lambda folder: written(folder / "m.h5", b""), "m.h5 is empty"),
    "gzip": (lambda folder: written(folder / "m.h5.gz", b"\x1f\x8b\x08"), "is gzip-compressed: unpack it first"),
    "pickle": (lambda folder: written(folder / "m.pkl", b"\x80\x04\x95"), "is a Python pickle, which is never read"),
    "text": (lambda folder: written(folder / "m.yaml", b"class_name: Model"), "m.yaml is not a Keras model"),
    "half an HDF5": (lambda folder: cut(saved(conv_block(), folder / "m.h5"), 0.5), "m.h5 is damaged or incomplete"),
    "start of an HDF5": (lambda folder: cut(saved(conv_block(), folder / "m.h5"), 0.001), "is damaged or incomplete"),
    "half a zip": (
        lambda folder: cut(saved(conv_block(), folder / "m.keras"), 0.5),
        "is damaged or incomplete",
    ),
    "zip without weights": (
        lambda folder: without("model.weights.h5", folder / "m.keras"),
        "m.keras is incomplete: it has no model.weights.h5. Save or copy it again, or give the weights with weights",
    ),
    "folder without weights": (
        lambda folder: unpacked(without("model.weights.h5", folder / "x.keras"), folder / "m"),
        "m is incomplete: it has no model.weights.h5",
    ),
    "zip without a model": (
        lambda folder: without("config.json", folder / "m.keras"),
        "is a zip archive without a Kera",
    ),
    "other zip": (lambda folder: npz(folder / "m.npz"), "is a zip archive without a Keras model in it"),
    "other HDF5": (lambda folder: other_hdf5(folder / "x.h5"), "is an HDF5 file without a Keras model in it"),
    "weights only": (lambda folder: weights_only(folder, "w.h5"), "holds weights only: give the architecture .json"),
    "new weights": (lambda folder: weights_only(folder, "w.weights.h5"), "w.weights.h5 holds weights only"),
    "json only": (lambda folder: written(folder / "m.json", conv_block().to_json().encode()), "with weights FILE.h5"),
    "bad json": (lambda folder: written(folder / "m.json", b'{"class_name": '), "m.json is not readable JSON"),
    "other json": (lambda folder: written(folder / "m.json", b'{"a": 1}'), "m.json holds no Keras model"),
    "folder": (lambda folder: empty_folder(folder / "m"), "is a folder without saved_model.pb or config.json"),
    "Keras 1": (lambda folder: keras1(folder / "m.h5"), r"was saved by Keras 1\.2\.2: load and save it once"),
    "checkpoint": (lambda folder: checkpoint(folder / "m"), "is a TensorFlow checkpoint"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_a_model(what: str, tmp_path: Path) -> None:
    make, message = WRONG[what]
    path = make(tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_serving_graph_is_one_node(tmp_path: Path) -> None:
    model = keras3_model()
    model.export(tmp_path / "m", verbose=False)
    loaded = load_model(tmp_path / "m")
    assert kept_from_tensorflow(loaded) == ["saved_model"]
    assert_same(loaded, model)


def test_graph_that_reads_a_file_runs_only_when_allowed(tmp_path: Path) -> None:
    import tensorflow as tf

    (tmp_path / "secret").write_text("x")

    class Reader(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, LENGTH, 4), tf.float32, name="dna")])
        def serve(self, x: Any) -> Any:
            size = tf.strings.length(tf.io.read_file(str(tmp_path / "secret")))
            return {"out": tf.reduce_sum(x, axis=[1, 2])[:, None] + tf.cast(size, tf.float32)}

    module = Reader()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.serve)
    with pytest.raises(
        ModelError, match=r"no plain arithmetic: ReadFile \('ReadFile' in function '__inf.*; pass allow_lambda=True"
    ):
        load_model(tmp_path / "m")
    loaded = load_model(tmp_path / "m", allow_lambda=True)
    assert loaded.output_names == ["out"]
    np.testing.assert_allclose(predictions(loaded, [np.zeros((2, LENGTH, 4), "float32")])[0], [[1], [1]])


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(conv_block(), tmp_path / "m.h5")

    def denied(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ModelError, match=r"m\.h5 cannot be read: Permission denied"):
        read_model_file(path)


def test_weights_of_another_model(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(conv_block().to_json())
    sequential(k2.Dense(2, name="head")).save_weights(tmp_path / "other.h5")
    with pytest.raises(ModelError, match=r"1 layers, the model has 3 \(not in the file: .*; not in the model: head\)"):
        load_model(tmp_path / "m.json", weights=tmp_path / "other.h5")


def test_weights_of_another_shape(tmp_path: Path) -> None:
    path = saved(sequential(k2.Dense(2, name="head")), tmp_path / "m.h5")
    edit_config(path, lambda config: config["config"]["layers"][1]["config"].update(units=5))
    with pytest.raises(ModelError, match=r"layer 'head': .* holds a weight of shape \(4, 2\), not \(4, 5\)"):
        load_model(path)


def test_weights_in_another_file_are_not_followed(tmp_path: Path) -> None:
    path, other = saved(conv_block(), tmp_path / "m.h5"), saved(conv_block(), tmp_path / "other.h5")
    with h5py.File(path, "a") as file:
        del file["model_weights/conv1d"]
        file["model_weights/conv1d"] = h5py.ExternalLink(str(other), "model_weights/conv1d_1")
    with pytest.raises(ModelError, match="lies in another file, which is not followed"):
        load_model(path)


def test_saved_model_takes_no_weights(tmp_path: Path) -> None:
    conv_block().save(tmp_path / "m", save_format="tf")
    with pytest.raises(ModelError, match="has its own weights: leave weights out"):
        load_model(tmp_path / "m", weights=weights_only(tmp_path, "w.h5"))


def test_an_archive_without_weights_takes_those_of_another_file(tmp_path: Path) -> None:
    part = without("model.weights.h5", tmp_path / "m.keras")
    assert read_model_file(part, tmp_path / "whole.keras").weights is not None
    with pytest.raises(ModelError, match=r"m\.keras is incomplete"):
        read_model_file(tmp_path / "whole.keras", part)
