"""Model files that reach out, lie about their size, or are damaged: refused in one line, and nothing in them runs."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from click.testing import CliRunner
from tf_keras import layers as k2

from fastism_cli.cli import main
from fastism_cli.errors import ModelError
from fastism_cli.model.loading import safe_files
from fastism_cli.model.loading.config_entries import decode
from fastism_cli.model.loading.file_kinds import KERAS_ZIP, read_model_file
from fastism_cli.model.loading.load import load_model
from fastism_cli.model.loading.repair_config import waiting_layers
from fastism_cli.model.loading.safe_files import FUNCTIONS, OPERATIONS, SAVER_OPERATIONS, is_function
from fastism_cli.model.loading.saved_model import operations_off_the_list
from fastism_cli.model.loading.stored_code import describe_problems, stored_code
from tests.helpers.model_files import FILE_WARNINGS, LENGTH, edit_config, edit_zip, saved
from tests.helpers.model_files import fresh_names as fresh_names  # used by every test here

pytestmark = FILE_WARNINGS


def small(writer: Any = keras) -> Any:
    return writer.Sequential([writer.Input((LENGTH, 4)), writer.layers.Dense(3, name="head"), writer.layers.Flatten()])


# --- operations of TensorFlow in configurations -----------------------------------------------------------------------


def write_file(path: Path) -> dict[str, Any]:
    """A layer that writes a file whenever it is called: while the model is built, too."""
    constants = {"0": str(path), "1": "written"}
    node = {"name": "write", "op": "WriteFile", "input": ["write/name", "write/contents"]}
    return {"name": "write", "node_def": node, "constants": constants, "trainable": False, "dtype": "float32"}


def with_operation(path: Path) -> Callable[[dict[str, Any]], None]:
    def edit(config: dict[str, Any]) -> None:
        entry = {"class_name": "TensorFlowOpLayer", "config": write_file(path)}
        config["config"]["layers"].insert(2, entry)

    return edit


def json_with_weights(model: Any, folder: Path, edit: Callable[[dict[str, Any]], None]) -> list[Path]:
    config = json.loads(model.to_json())
    edit(config)
    (folder / "m.json").write_text(json.dumps(config))
    model.save_weights(folder / "m.weights.h5")
    return [folder / "m.json", folder / "m.weights.h5"]


def edited_hdf5(model: Any, folder: Path, edit: Callable[[dict[str, Any]], None]) -> list[Path]:
    edit_config(saved(model, folder / "m.h5"), edit)
    return [folder / "m.h5"]


def edited_keras(model: Any, folder: Path, edit: Callable[[dict[str, Any]], None]) -> list[Path]:
    return [edit_zip(saved(model, folder / "m.keras"), edit)]


@pytest.mark.parametrize("writer", [keras, tf_keras], ids=["keras 3", "keras 2"])
@pytest.mark.parametrize("make", [edited_hdf5, edited_keras, json_with_weights])
def test_an_operation_off_the_list_does_not_run(make: Any, writer: Any, tmp_path: Path) -> None:
    path, *weights = make(small(writer), tmp_path, with_operation(tmp_path / "trace"))
    said = r"'write': a TensorFlowOpLayer layer runs WriteFile of TensorFlow, .*; pass allow_lambda=True if"
    with pytest.raises(ModelError, match=said):
        load_model(path, weights=weights[0] if weights else None)
    assert not (tmp_path / "trace").exists()


OF_LAYERS = {
    "a function": ("TFOpLambda", {"function": "io.write_file"}, "io.write_file"),
    "its file of words": ("TFOpLambda", {"function": "random.fixed_unigram_candidate_sampler"}, "random.fixed_unigram"),
    "a slice that is none": ("SlicingOpLambda", {"function": "raw_ops.ReadFile"}, "raw_ops.ReadFile"),
    "a method as a property": ("InstanceProperty", {"attr_name": "numpy"}, "numpy"),
    "an operation": ("TensorFlowOpLayer", {"node_def": {"op": "CacheDatasetV2"}}, "CacheDatasetV2"),
    "as bytes": ("TensorFlowOpLayer", {"node_def": "\n\x01a\x12\x0fDebugIdentityV2"}, "DebugIdentityV2"),
    "a restored tensor": ("TensorFlowOpLayer", {"node_def": {"op": "RestoreV2"}}, "RestoreV2"),
    "no operation": ("TensorFlowOpLayer", {"node_def": 3}, "an operation that cannot be read"),
    "a called function": (
        "TensorFlowOpLayer",
        {"node_def": {"op": "PartitionedCall", "attr": {"f": {"func": {"name": "other"}}}}},
        "PartitionedCall",
    ),
}


@pytest.mark.parametrize("what", OF_LAYERS)
def test_layers_that_name_something_of_tensorflow(what: str) -> None:
    cls, config, operation = OF_LAYERS[what]
    entry = {"class_name": cls, "config": {"name": "odd", **config}}
    (line,) = stored_code({"class_name": "Sequential", "config": {"layers": [entry]}}).values()
    assert line.startswith(f"a {cls} layer runs {operation}")
    assert not stored_code(entry, allow_lambda=True)


def test_an_arithmetic_operation_layer_is_allowed() -> None:
    node = {"op": "AddV2", "attr": {"T": {"type": "DT_FLOAT"}}}
    assert not stored_code({"class_name": "TensorFlowOpLayer", "config": {"name": "a", "node_def": node}})
    assert is_function("compat.v1.math.log")


def test_the_lists_hold_names_of_tensorflow() -> None:
    from tensorflow.python.framework import op_def_registry
    from tensorflow.python.util.tf_export import get_symbol_from_name

    assert not {name for name in OPERATIONS | SAVER_OPERATIONS if op_def_registry.get(name) is None}
    functions = {name for name in FUNCTIONS if not name.startswith("__operators__")}
    assert not {name for name in functions if not (get_symbol_from_name(name) or is_of_v1(name))}
    assert not {op for op in OPERATIONS if "string" in str(op_def_registry.get(op).input_arg).lower()}
    assert not {"Dataset", "File", "Queue", "Table", "PyFunc", "Debug", "Summary"} & {
        part
        for part in ("Dataset", "File", "Queue", "Table", "PyFunc", "Debug", "Summary")
        for op in OPERATIONS
        if part in op
    }


def is_of_v1(name: str) -> bool:
    from tensorflow.python.util.tf_export import get_symbol_from_name

    return get_symbol_from_name(f"compat.v1.{name}") is not None


# --- code under other names in configurations of Keras ----------------------------------------------------------------

LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wE=", "defaults": None, "closure": None}}
HIDDEN = {
    "dotted": {"module": "keras", "class_name": "layers.Lambda", "config": {"name": "odd", "function": LAMBDA}},
    "in keras.src": {"module": "keras.src.layers.core.lambda_layer", "class_name": "Lambda", "config": {"name": "odd"}},
    "dotted TFSMLayer": {
        "module": "keras",
        "class_name": "layers.TFSMLayer",
        "config": {"name": "odd", "filepath": "x"},
    },
    "TorchModuleWrapper": {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"name": "odd"}},
    "JaxLayer": {"module": "keras.src.utils.jax_layer", "class_name": "JaxLayer", "config": {"name": "odd"}},
    "file of words": {
        "module": "keras.layers",
        "class_name": "StringLookup",
        "config": {"name": "odd", "vocabulary": "/x"},
    },
    "dotted download": {"module": "keras", "class_name": "utils.get_file", "config": {"name": "odd"}},
    "a function as a class": {"module": "keras.models", "class_name": "load_model", "config": {"name": "odd"}},
    "the package's own": {"module": "keras", "class_name": "saving.load_model", "config": {"name": "odd"}},
    "in build_config": {"class_name": "Dense", "config": {"name": "odd"}, "build_config": {"input_shape": LAMBDA}},
}


@pytest.mark.parametrize("allow_lambda", [False, True])
@pytest.mark.parametrize("what", HIDDEN)
def test_code_under_another_name(what: str, allow_lambda: bool) -> None:
    wrapped = {"class_name": "Bidirectional", "module": "keras.layers", "config": {"name": "b", "layer": HIDDEN[what]}}
    (line,) = stored_code(wrapped, allow_lambda=allow_lambda).values() or [""]
    can_be_allowed = "--allow-lambda" in next(iter(stored_code(wrapped).values()))
    assert bool(line) == (not allow_lambda or not can_be_allowed)


@pytest.mark.parametrize("name", ["get", "deserialize"])
def test_an_activation_is_a_function_on_tensors(name: str) -> None:
    assert stored_code({"class_name": "Dense", "config": {"name": "d", "activation": name}})


@pytest.mark.parametrize(
    "around",
    [
        lambda entry: {"type": entry, "value": 1},
        lambda entry: {"class_name": "__tuple__", "items": [], "config": entry},
        lambda entry: {"class_name": "TensorShape", "items": [], "more": [entry]},
    ],
)
@pytest.mark.parametrize("make", [edited_hdf5, edited_keras])
def test_code_beside_what_is_unwrapped(around: Any, make: Any, tmp_path: Path) -> None:
    """Keras reads all of the configuration, and so does the check: nothing is left out when it is unwrapped."""
    odd = {"module": "keras", "class_name": "utils.get_file", "config": {"name": "odd"}, "registered_name": None}

    def edit(config: dict[str, Any]) -> None:
        config["config"]["layers"][1]["config"]["kernel_initializer"]["config"]["seed"] = around(odd)

    (path,) = make(small(), tmp_path, edit)
    with pytest.raises(ModelError, match=r"1 layer cannot be loaded from .*\n  'odd': class utils.get_file is not"):
        load_model(path)


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        ({"class_name": "__tuple__", "items": [1, {"class_name": "TensorShape", "items": [None, 4]}]}, [1, [None, 4]]),
        ({"type": "ndarray", "value": [1, 2]}, [1, 2]),
        ({"a": {"type": "float32", "value": 0.5}}, {"a": 0.5}),
    ],
)
def test_what_earlier_encoders_wrapped(stored: Any, meant: Any) -> None:
    assert decode(stored) == meant


def test_losses_of_an_inner_model_are_not_given_to_keras(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((LENGTH, 4)), keras.layers.Dense(3)], name="inner")
    inner.compile("adam", "mse")
    model = keras.Sequential([keras.Input((LENGTH, 4)), inner])

    def edit(config: dict[str, Any]) -> None:
        config["config"]["layers"][1]["compile_config"]["loss"] = LAMBDA

    loaded = load_model(edit_zip(saved(model, tmp_path / "m.keras"), edit))
    assert not loaded.layers[-1].compiled


# --- SavedModels ------------------------------------------------------------------------------------------------------


class WriterOfKeras2(k2.Layer):
    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(**options)
        self.path = path

    def call(self, x: Any) -> Any:
        tf.io.write_file(self.path, "written")
        return x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "path": self.path}


class WriterOfKeras3(keras.layers.Layer):
    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(**options)
        self.trace = path

    def call(self, x: Any) -> Any:
        tf.io.write_file(self.trace, "written")
        return x


def test_an_operation_in_a_saved_model_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    old = tf_keras.Sequential([k2.Input((LENGTH, 4)), WriterOfKeras2(str(trace), name="writer"), k2.Flatten()])
    old.save(tmp_path / "old", save_format="tf")
    new = keras.Sequential([keras.Input((LENGTH, 4)), WriterOfKeras3(str(trace), name="writer")])
    new.export(tmp_path / "new", verbose=False)
    trace.unlink(missing_ok=True)
    for folder in (tmp_path / "old", tmp_path / "new"):
        with pytest.raises(
            ModelError, match=r"WriteFile \('.*writer.*' in function .*; pass allow_lambda=True if you"
        ) as caught:
            load_model(folder)
        assert "\n" not in str(caught.value)
        assert "; pass --allow-lambda if you" in caught.value.message
        assert not trace.exists()


def module_with(call: Callable[[Any], Any], folder: Path) -> Path:
    module = tf.Module()
    module.serve = tf.function(call, input_signature=[tf.TensorSpec((None, LENGTH, 4), tf.float32, name="dna")])
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    return folder


def in_a_branch(x: Any) -> Any:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: read_to(x))


def read_to(x: Any) -> Any:
    return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


def in_a_loop(x: Any) -> Any:
    return tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, read_to(y)), [0, x])[1]


def restored(x: Any) -> Any:
    return x + tf.raw_ops.RestoreV2(prefix="/x", tensor_names=["w"], shape_and_slices=[""], dtypes=[tf.float32])[0]


HIDDEN_IN_GRAPHS = {
    "branch": (in_a_branch, "ReadFile"),
    "loop": (in_a_loop, "ReadFile"),
    "restore": (restored, "RestoreV2"),
    "dataset": (lambda x: x + tf.data.Dataset.range(3).cache("/tmp/x").reduce(0.0, lambda a, b: a), "CacheDatasetV2"),
    "debug": (lambda x: tf.raw_ops.DebugIdentityV2(input=x, debug_urls=["file:///x"]), "DebugIdentityV2"),
}


@pytest.mark.parametrize("what", HIDDEN_IN_GRAPHS)
def test_operations_inside_functions_of_functions(what: str, tmp_path: Path) -> None:
    call, operation = HIDDEN_IN_GRAPHS[what]
    found = operations_off_the_list(module_with(call, tmp_path / "m"))
    assert any(line.startswith(f"{operation} (") for line in found)


def test_the_saver_is_for_saving_alone(tmp_path: Path) -> None:
    """The same operations are refused where anything but the saver calls them."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    folder = module_with(lambda x: tf.nn.relu(x), tmp_path / "m")
    assert operations_off_the_list(folder) == []
    stored = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = stored.meta_graphs[0].graph_def
    saver = next(node for node in graph.node if node.name == stored.meta_graphs[0].saver_def.restore_op_name)
    output = stored.meta_graphs[0].signature_def["serving_default"].outputs["output_0"].name.partition(":")[0]
    serving = next(node for node in graph.node if node.name == output)
    serving.attr["f"].func.name = saver.attr["f"].func.name
    (folder / "saved_model.pb").write_bytes(stored.SerializeToString())
    assert operations_off_the_list(folder)


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def link_out(file: h5py.File, folder: Path, where: str) -> None:
    file[f"{where}/odd"] = h5py.ExternalLink(str(folder / "other.h5"), "x")


def soft_link(file: h5py.File, folder: Path, where: str) -> None:
    file[f"{where}/odd"] = h5py.SoftLink("/nowhere")


def external_numbers(file: h5py.File, folder: Path, where: str) -> None:
    file.create_dataset(f"{where}/odd", (4,), "f4", external=[(str(folder / "numbers"), 0, 16)])


def virtual(file: h5py.File, folder: Path, where: str) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (4,))
    file.create_virtual_dataset(f"{where}/odd", layout)


@pytest.mark.parametrize("add", [link_out, soft_link, external_numbers, virtual])
@pytest.mark.parametrize("place", ["model", "weights", "zip"])
def test_nothing_outside_of_hdf5_is_followed(place: str, add: Any, tmp_path: Path) -> None:
    model, weights = small(), None
    path = saved(model, tmp_path / ("m.keras" if place == "zip" else "m.h5"))
    if place == "zip":
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        stream = io.BytesIO(members["model.weights.h5"])
        with h5py.File(stream, "a") as file:
            add(file, tmp_path, "layers")
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**members, "model.weights.h5": stream.getvalue()}.items():
                archive.writestr(name, content)
    else:
        (tmp_path / "m.json").write_text(model.to_json())
        with h5py.File(path, "a") as file:
            add(file, tmp_path, "model_weights")
        path, weights = (tmp_path / "m.json", path) if place == "weights" else (path, None)
    with pytest.raises(
        ModelError, match=r"/odd (lies in another file|is a link to another place), which is not followed"
    ) as e:
        read_model_file(path, weights)
    assert "\n" not in str(e.value)


def test_a_dataset_larger_than_its_file(tmp_path: Path) -> None:
    with h5py.File(path := saved(small(), tmp_path / "m.h5"), "a") as file:
        file.create_dataset("model_weights/odd", (10**9,), "f8", chunks=(1000,))
    with pytest.raises(ModelError, match=r"/odd says that it holds 8,000,000,000 bytes, but the file has 0 for it"):
        load_model(path)


def spin(*_: Any) -> str:
    while True:
        pass


def crash(*_: Any) -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return ""


@pytest.mark.parametrize(("reader", "said"), [(spin, "reading it does not end"), (crash, "makes the library that")])
def test_reading_that_never_ends_or_crashes(reader: Any, said: str, tmp_path: Path, monkeypatch: Any) -> None:
    path = saved(small(), tmp_path / "m.h5")
    monkeypatch.setattr(safe_files, "_read_hdf5", reader)
    monkeypatch.setattr(safe_files, "SECONDS", 1)
    with pytest.raises(ModelError, match=rf"m\.h5 is damaged: .*{said}"):
        read_model_file(path)


def test_a_command_tells_reading_that_never_ends(tmp_path: Path, monkeypatch: Any) -> None:
    """A command has a handler for the signal that ends such a process, and the process begins with it."""
    with monkeypatch.context() as patched:
        patched.setattr(safe_files, "_read_hdf5", spin)
        patched.setattr(safe_files, "SECONDS", 1)
        found = CliRunner().invoke(main, ["inspect", str(saved(small(), tmp_path / "m.h5"))])
    assert "is damaged: reading it does not end" in found.output


def test_large_weights_are_read_once(tmp_path: Path, monkeypatch: Any) -> None:
    """32 MB in 500 arrays: going back to the start of the archive's member for each would be gigabytes."""
    path = saved(small(), tmp_path / "m.keras")
    with h5py.File(weights := tmp_path / "model.weights.h5", "w") as file:
        for i in range(500):
            file[f"layers/dense_{i}/vars/0"] = np.full(16_000, i, "float32")
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.write(weights, weights.name)
    monkeypatch.setattr(safe_files, "SECONDS", 3)
    assert read_model_file(path).kind == KERAS_ZIP


# --- archives and JSON ------------------------------------------------------------------------------------------------


def rezipped(path: Path, change: Callable[[zipfile.ZipFile, dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        change(archive, members)
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def a_link(archive: zipfile.ZipFile, members: dict[str, bytes]) -> None:
    info = zipfile.ZipInfo("assets/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def large_json(archive: zipfile.ZipFile, members: dict[str, bytes]) -> None:
    members["config.json"] = b" " * (65 << 20) + members["config.json"]


def bomb(archive: zipfile.ZipFile, members: dict[str, bytes]) -> None:
    members["model.weights.h5"] += bytes(70 << 20)


ARCHIVES = {
    "outside": (lambda archive, _: archive.writestr("../x", "x"), "holds '../x', a path that leads out"),
    "absolute": (lambda archive, _: archive.writestr("/x", "x"), "holds '/x', a path that leads out"),
    "twice": (lambda archive, _: archive.writestr("config.json", "{}"), "holds config.json twice"),
    "link": (a_link, "holds assets/link, a link, which is not followed"),
    "large JSON": (large_json, r"holds config.json, whose [\d,]+ bytes unpack to [\d,]+, which is not read"),
    "bomb": (bomb, r"holds model.weights.h5, whose [\d,]+ bytes unpack to [\d,]+, which is not read"),
}


@pytest.mark.one_in(48)
@pytest.mark.parametrize("what", ARCHIVES)
def test_archives(what: str, tmp_path: Path) -> None:
    change, said = ARCHIVES[what]
    path = rezipped(saved(small(), tmp_path / "m.keras"), change)
    with pytest.raises(ModelError, match=said) as caught:
        read_model_file(path)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_zipped_weights_is_found(tmp_path: Path) -> None:
    """Keras reads on without the checksum, and the numbers would be wrong."""
    path = saved(small(), tmp_path / "m.keras")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("model.weights.h5")
    content[info.header_offset + 30 + len(info.filename) + info.file_size - 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"Bad CRC-32 for file 'model\.weights\.h5'"):
        load_model(path)


@pytest.mark.parametrize("text", ['{"a":' * 200 + "1" + "}" * 200, "[" * 200_000 + "]" * 200_000])
def test_deep_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(f'{{"class_name": "Sequential", "config": {text}}}')
    with pytest.raises(ModelError, match=r"m\.json holds JSON with more than 150 lists and mappings inside each other"):
        read_model_file(tmp_path / "m.json")


@pytest.mark.parametrize("version", [3, None, [], "", "abc", "²", b"\xff", "3" * 5000, {"a": 1}])
def test_a_version_that_is_none_is_ignored(version: Any, tmp_path: Path) -> None:
    path = saved(small(tf_keras), tmp_path / "m.keras")
    metadata = version if isinstance(version, bytes) else json.dumps({"keras_version": version}).encode()
    rezipped(path, lambda _, members: members.update({"metadata.json": metadata}))
    assert read_model_file(path).keras_version == ""
    assert read_model_file(path).is_keras2


@pytest.mark.parametrize("version", [3, 2.5, [1, 2], "", "abc", "²", b"\xff", "3" * 5000])
def test_a_version_that_is_none_is_ignored_in_hdf5_and_json(version: Any, tmp_path: Path) -> None:
    model = small(tf_keras)
    path = saved(model, tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = version
    (tmp_path / "m.json").write_text(
        json.dumps({**json.loads(model.to_json()), "keras_version": None if isinstance(version, bytes) else version})
    )
    for found in (read_model_file(path), read_model_file(tmp_path / "m.json", path)):
        assert found.keras_version == "" and found.is_keras2


@pytest.mark.parametrize("metadata", [b"[]", b"no json", b"3", b"[" * 100_000])
def test_metadata_that_are_none_are_ignored(metadata: bytes, tmp_path: Path) -> None:
    path = rezipped(
        saved(small(), tmp_path / "m.keras"), lambda _, members: members.update({"metadata.json": metadata})
    )
    assert not read_model_file(path).is_keras2


@pytest.mark.parametrize("writer", [keras, tf_keras], ids=["keras 3", "keras 2"])
def test_a_size_that_the_file_cannot_hold_takes_no_memory(writer: Any, tmp_path: Path) -> None:
    def huge(config: dict[str, Any]) -> None:
        config["config"]["layers"][1]["config"]["units"] = 10**9

    path = saved(small(writer), tmp_path / "m.h5")
    edit_config(path, huge)
    with pytest.raises(ModelError, match=r"layer 'head' asks for a weight of shape \(4, 1000000000\)"):
        load_model(path)


@pytest.mark.parametrize("key", ["module", "registered_name", "build_config", "inbound_nodes"])
def test_a_configuration_damaged_in_any_way(key: str, tmp_path: Path) -> None:
    def damage(config: dict[str, Any]) -> None:
        config["config"]["layers"][1][key] = {"odd": [{}]}

    path = edit_zip(saved(small(), tmp_path / "m.keras"), damage)
    try:
        load_model(path)
    except ModelError as error:
        assert str(path) in str(error)


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "said"), [("", "names no file"), (" ", "names no file"), ("a\0b", "names no file")])
def test_a_name_that_is_none(path: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_model_file(path)


@pytest.mark.parametrize("path", ["/", ".", ".."])
def test_folders_that_are_no_models(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(ModelError, match=r"is a folder without saved_model.pb or config.json"):
        read_model_file(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.h5")
    with pytest.raises(ModelError, match="is no regular file but a pipe"):
        read_model_file(tmp_path / "m.h5")


OTHERS = {
    "m.onnx": (b"\x08\x07\x12\x07pytorch", "looks like an ONNX model"),
    "m.tflite": (b"\x1c\0\0\0TFL3", "is a TensorFlow Lite model"),
    "m.safetensors": (b"\x40\0\0\0\0\0\0\0{", "looks like safetensors"),
    "m.html": (b"<!DOCTYPE html>", "looks like a web page"),
    "m.txt": (b"weights\n", "is not a Keras model but text"),
    os.fsdecode(b"\xff.h5"): (b"\x01\x02", "is not a Keras model"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_other_programs(name: str, tmp_path: Path) -> None:
    content, said = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=said):
        read_model_file(tmp_path / name)


def test_a_file_of_pytorch(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(ModelError, match="is a PyTorch file"):
        read_model_file(tmp_path / "m.pt")


# --- what the error lists ---------------------------------------------------------------------------------------------


def test_one_line_for_each_class_and_no_false_alarm() -> None:
    own = [{"class_name": "Own", "module": "lab", "config": {"name": f"own_{n}"}} for n in range(90)]
    norm = keras.saving.serialize_keras_object(keras.layers.LayerNormalization(name="norm"))
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [norm, *own]}}
    assert describe_problems(config, keras2=False) == [
        "90 layers ('own_0', 'own_1', 'own_2', ...): class Own is not known; pass --custom-objects FILE.py"
    ]


def test_a_listed_name_has_no_control_characters() -> None:
    entry = {"class_name": "Own", "module": "lab", "config": {"name": "a\n\x1b[2J"}}
    assert describe_problems(entry) == ["'a??[2J': class Own is not known; pass --custom-objects FILE.py"]


@pytest.mark.parametrize("name", ["profile out", "block1/conv", "_x", "é"])
def test_a_listed_name_is_that_of_the_file(name: str) -> None:
    entry = {"class_name": "Own", "module": "lab", "config": {"name": name}}
    assert describe_problems(entry) == [f"'{name}': class Own is not known; pass --custom-objects FILE.py"]


def test_names_registered_by_an_imported_module_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that is named imports the one that registers, and defines another thing itself."""

    @keras.saving.register_keras_serializable(package="lab")
    class Doubled(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2

    path = saved(keras.Sequential([keras.Input((LENGTH, 4)), Doubled(name="doubled")]), tmp_path / "m.keras")
    (tmp_path / "own.py").write_text("def other(x):\n    return x\n")
    try:
        assert load_model(path, custom_objects=[str(tmp_path / "own.py")]).layers[-1].name == "doubled"
    finally:
        del keras.saving.get_custom_objects()["lab>Doubled"]


def test_bytecode_of_another_python_is_explained(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((LENGTH, 4)), keras.layers.Lambda(lambda x: x, name="same")])
    path = saved(model, tmp_path / "m.keras")

    def cut(config: dict[str, Any]) -> None:
        config["config"]["layers"][1]["config"]["function"]["config"]["code"] = "4wE="

    with pytest.raises(ModelError, match=r"another version of Python wrote the code of a Lambda .* custom_objects"):
        load_model(edit_zip(path, cut), allow_lambda=True)


@pytest.mark.parametrize("seen", [1, 7, 2.5, "0", None])
def test_a_call_that_waits_for_ever_is_refused(tmp_path: Path, seen: Any) -> None:
    """tf_keras tries such a call again without end."""
    model = tf_keras.Sequential([tf_keras.Input((LENGTH, 4)), tf_keras.layers.Dense(2, name="first")])
    graph = tf_keras.Model(model.inputs, tf_keras.layers.Dense(1, name="second")(model.output))
    graph.save_weights(tmp_path / "m.weights.h5")
    config = json.loads(graph.to_json())
    config["config"]["layers"][-1]["inbound_nodes"][0][0][1] = seen
    (tmp_path / "m.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"m\.json .*'second' is called on what is never computed"):
        load_model(tmp_path / "m.json", weights=tmp_path / "m.weights.h5")


def test_calls_in_a_circle_are_refused_and_a_nested_model_is_not() -> None:
    inputs = tf_keras.Input((LENGTH, 4))
    inner = tf_keras.Sequential([tf_keras.Input((LENGTH, 4)), tf_keras.layers.Dense(4)], name="inner")
    shared = tf_keras.layers.Dense(4, name="shared")
    outputs = tf_keras.layers.Add(name="sum")([shared(inner(shared(inner(inputs)))), inputs])
    config = json.loads(tf_keras.Model(inputs, outputs).to_json())["config"]
    assert waiting_layers(config) == []
    by_name = {layer["name"]: layer for layer in config["layers"]}
    by_name["inner"]["inbound_nodes"][0][0][:2] = ["sum", 0]
    assert waiting_layers(config) == ["inner", "shared", "sum"]


@pytest.mark.parametrize("value", [10**12, [10**5000], [1, float("inf")], [None, -(2**40)]])
def test_a_size_that_no_array_has_is_refused(tmp_path: Path, value: Any) -> None:
    """TensorFlow ends the process for a stride of 10**12."""
    model = keras.Sequential([keras.Input((LENGTH, 4)), keras.layers.Conv1D(2, 3, name="motifs")])
    path = saved(model, tmp_path / "m.keras")

    def stride(config: dict[str, Any]) -> None:
        config["config"]["layers"][1]["config"]["strides"] = value

    sys.set_int_max_str_digits(0)
    try:
        edit_zip(path, stride)
    finally:
        sys.set_int_max_str_digits(4300)
    with pytest.raises(ModelError, match=r"m\.keras"):
        load_model(path)
