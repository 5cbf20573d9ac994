"""Load a Keras model from a file of any version: with Keras 3, then with repaired metadata, then with tf_keras.

Code in a model file is not run unless the user allows it: a Lambda layer is Python bytecode, and a configuration can
name any importable function. Both are found in the configuration before anything is built, in every format. Graphs of
TensorFlow are run only if all their operations are on the list of safe_files.py; they are read before
TensorFlow loads them. TensorFlow itself is no sandbox: run a model from a source that you do not trust in one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from fastism_cli.errors import FastISMError, ModelError, log_of
from fastism_cli.genome.input_files import printable
from fastism_cli.model.loading.assign_weights import copy_weights, load_weights, under_name
from fastism_cli.model.loading.config_entries import (
    Config,
    all_entries,
    is_foreign,
    is_layer_entry,
    load_custom_objects,
    numbers_in,
    plain_name,
    usual_names,
    written_for_keras2,
)
from fastism_cli.model.loading.file_kinds import (
    KERAS_FOLDER,
    KERAS_ZIP,
    LEGACY,
    SAVED_MODEL,
    ModelFile,
    read_model_file,
)
from fastism_cli.model.loading.repair_config import (
    HARD_SIGMOID,
    keras2_hard_sigmoid,
    plain_config,
    registered_objects,
    repair_config,
    use_own_functions,
    waiting_layers,
)
from fastism_cli.model.loading.safe_files import weights_that_fit
from fastism_cli.model.loading.saved_model import operations_off_the_list, saved_configs, served
from fastism_cli.model.loading.stored_code import listed, problems, stored_code
from fastism_cli.model.quiet import quiet_libraries
from fastism_cli.options.run_options import RunOptions

if TYPE_CHECKING:
    import keras

logger = log_of(__name__)

Objects = Mapping[str, object]

# Arguments of Keras' layers that are sizes of arrays, or steps in them.
SIZES = frozenset(
    "batch_input_shape batch_shape cropping depth_multiplier dilation_rate filters groups input_dim input_length "
    "key_dim kernel_size n num_heads output_dim output_padding padding pool_size rank size strides target_shape units "
    "value_dim".split()
)
LARGEST_SIZE = 2**31 - 1
NO_SUCH_CALL = "Could not find matching concrete function"
OF_KERAS = "Call arguments received"  # what Keras adds to an error inside a layer

# What Python says of bytecode that another version of it wrote.
OF_MARSHAL = ("marshal data", "EOF read where", "unknown opcode", "code() argument", "code expected at")
OTHER_PYTHON = (
    "another version of Python wrote the code of a Lambda layer; give a function with the layer's name in "
    "--custom-objects FILE.py, which is run in its place"
)

Rung = Callable[[ModelFile, Objects, bool], Any]


def load_model(
    path: str | Path,
    *,
    weights: str | Path | None = None,
    signature: str | None = None,
    custom_objects: Iterable[str] = (),
    allow_lambda: bool = False,
) -> keras.Model:
    """Load a model for inference: never compiled, so unknown losses, metrics and optimizers do not matter.

    Parameters
    ----------
    path : str or Path
        ``.keras``, HDF5 under any name, SavedModel folder, or architecture ``.json``: recognised by content.
    weights : str or Path, optional
        File of weights, required with a ``.json``; for a complete model, they replace its own weights.
    signature : str, optional
        Name of the graph to use, of a SavedModel. Default: its layers; if it lists none, ``serving_default``, or the
        only graph that it serves.
    custom_objects : iterable of str
        ``FILE.py``, ``package.module`` or ``package.module:name``: the user's layers and functions. A function with the
        name of a Lambda layer is run in place of the code that the file holds for it.
    allow_lambda : bool
        Run the Python code that Lambda layers store in the file.

    Returns
    -------
    keras.Model
        Or a ``tf_keras.Model`` if only tf_keras can build the layers.

    Raises
    ------
    ModelError
        The path is not a model, or layers of it cannot be loaded: names each, its class and the flag that helps.
    """
    file = read_model_file(path, weights, signature)
    refuse_keras1(file)
    objects = load_custom_objects(custom_objects)
    if file.config is not None:
        with _one_line(file.path):
            file = replace(file, config=use_own_functions(file.config, objects))
            refuse_code(file, objects, allow_lambda)
            refuse_sizes(file.config, file.path)
            refuse_names(file.config, file.path)
    import keras

    from fastism_cli.model.precision import usual_defaults

    fitting = weights_that_fit(keras.layers.Layer, _path_of_weights(file))
    with quiet_libraries(), usual_names(), usual_defaults(), fitting:
        return _with_plain_names(_climb(file, objects, allow_lambda))


def _with_plain_names(model: Any) -> Any:
    """The model, whose layers have names that can be scopes; those of inputs and heads stay."""
    from fastism_cli.model.keras_graph import all_layers, of_tf_keras

    for layer in [] if of_tf_keras(model) else all_layers(model):
        layer.name = plain_name(layer.name)
    return model


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """A configuration that is damaged in a way that nobody foresaw is refused, in one line that names the file."""
    try:
        yield
    except FastISMError:
        raise
    except Exception as error:
        raise ModelError(f"{path} has a damaged configuration ({type(error).__name__}: {_summary(error)})") from error


def _path_of_weights(file: ModelFile) -> Path:
    return file.weights.path if file.weights is not None else file.path


def refuse_keras1(file: ModelFile) -> None:
    if file.keras_version.startswith(("0.", "1.")):
        writer = f"Keras {file.keras_version}"
        raise ModelError(f"{file.path} was saved by {writer}: load and save it once with Keras 2.2, which reads it")


def refuse_code(file: ModelFile, objects: Objects, allow_lambda: bool) -> None:
    """Raise if building the model would run code or import modules without permission; lists other problems too."""
    known = {*registered_objects(), *objects}
    if stored_code(file.config, objects=known, allow_lambda=allow_lambda):
        raise ModelError(_headed(file.path, _problems(file, objects, allow_lambda)))


def _problems(file: ModelFile, objects: Objects, allow_lambda: bool) -> dict[str, str]:
    known = {**_legacy_layers(), **objects}
    return problems(_config(file), keras2=file.is_keras2, objects=known, allow_lambda=allow_lambda)


def _headed(path: Path, lines: Mapping[str, str]) -> str:
    layers = "1 layer" if len(lines) == 1 else f"{len(lines)} layers"
    return "\n  ".join([f"{layers} cannot be loaded from {path}:", *listed(lines)])


# --- the ladder -------------------------------------------------------------------------------------------------------


def _climb(file: ModelFile, objects: Objects, allow_lambda: bool) -> Any:
    failures: dict[str, Exception] = {}
    for name, rung in rungs(file).items():
        try:
            return rung(file, objects, allow_lambda)
        except Exception as error:  # an old file can make Keras raise anything
            failures[name] = error
    first = next(iter(failures.values()))
    with _one_line(file.path):
        explained = _explain(file, objects, allow_lambda, failures)
    raise explained from first


def _explain(file: ModelFile, objects: Objects, allow_lambda: bool, failures: Mapping[str, Exception]) -> ModelError:
    """The layers at fault if the configuration shows them, else the error of each rung of the ladder."""
    lines = _problems(file, objects, allow_lambda) if file.config is not None else {}
    if lines:
        return ModelError(_headed(file.path, lines))
    said = [f"{name}: {_summary(error)}" for name, error in failures.items()]
    own = next((error for error in failures.values() if isinstance(error, ModelError)), None)
    return (
        ModelError(_summary(own) if OF_KERAS in own.message else own.message)
        if own
        else ModelError("\n  ".join([f"{file.path} cannot be loaded:", *said]))
    )


def _summary(error: Exception, limit: int = 300) -> str:
    """The cause inside the nested messages of Keras, as one line without the configuration."""
    cause = str(error).rpartition("Exception encountered:")[2].partition(OF_KERAS)[0].strip() or type(error).__name__
    line = printable(" ".join(cause.partition("Full object config:")[0].split()))
    if any(said in line for said in OF_MARSHAL):
        return OTHER_PYTHON
    return line if len(line) <= limit else f"{line[:limit]}..."


def rungs(file: ModelFile) -> dict[str, Rung]:
    """The ways to load a file, best first.

    A file of Keras 2 never goes to Keras 3 unrepaired: `hard_sigmoid` and GRU would be accepted with another meaning,
    and layers of equal shape could be swapped. Weights by position in the model are safe only in the Keras that wrote
    them, so tf_keras comes first for these.
    """
    if file.kind == SAVED_MODEL:
        return {"tf_keras": from_saved_model}
    if not file.is_keras2:
        as_it_is = {"Keras": as_keras3} if file.has_own_weights and not _names_code(file) else {}
        return {**as_it_is, "Keras, repaired": as_repaired}
    if file.weights is not None and file.weights.kind == LEGACY:
        return {"Keras, repaired": as_repaired, "tf_keras": as_tf_keras}
    return {"tf_keras": as_tf_keras, "Keras, repaired": as_repaired}


def _names_code(file: ModelFile) -> bool:
    """Whether the file names code to run or import. (The configuration in memory names the user's choice instead.)

    Some versions of Keras 3 import the module that a class is said to live in; a repaired configuration names none. An
    inner model that was compiled names losses and metrics; a repaired configuration does not hold them.
    """
    return any(
        entry["class_name"] == "Lambda" or is_foreign(entry) or (entry is not file.config and "compile_config" in entry)
        for entry in all_entries(file.config)
    )


def as_keras3(file: ModelFile, objects: Objects, allow_lambda: bool) -> Any:
    """Rung 1: Keras 3 loads a file of Keras 3."""
    import keras

    suffix = {KERAS_ZIP: ".keras", KERAS_FOLDER: ""}.get(file.kind, ".h5")
    with under_name(file.path, suffix) as path:
        return keras.saving.load_model(path, custom_objects=dict(objects), compile=False, safe_mode=not allow_lambda)


def as_repaired(file: ModelFile, objects: Objects, allow_lambda: bool) -> Any:
    """Rung 2: build from repaired metadata, then assign the weights."""
    config = _repaired(_config(file), objects, keras2=file.is_keras2)
    model = build(config, objects, allow_lambda)
    if not model.built:
        raise ModelError(f"{file.path} does not say the shape of its input: save the model after calling it once")
    if file.weights is not None:
        load_weights(model, config, file.weights)
    return model


def build(config: Config, objects: Objects, allow_lambda: bool) -> Any:
    """Build a Keras 3 model from a repaired configuration; its weights are not assigned yet."""
    import keras

    own = {**_legacy_layers(), **objects, HARD_SIGMOID: keras2_hard_sigmoid}
    with keras.saving.custom_object_scope(own):
        return keras.saving.deserialize_keras_object(config, safe_mode=not allow_lambda)


def _repaired(config: Config, objects: Objects, *, keras2: bool = True) -> Config:
    return repair_config(config, keras2=keras2, objects={**_legacy_layers(), **objects})


def _legacy_layers() -> Objects:
    from fastism_cli.model.loading.keras2_layers import LEGACY_LAYERS

    return LEGACY_LAYERS


def _config(file: ModelFile) -> Config:
    assert file.config is not None, "only a SavedModel has no configuration, and it has its own rung"
    return file.config


# --- rung 3: tf_keras, imported only here -----------------------------------------------------------------------------


def as_tf_keras(file: ModelFile, objects: Objects, allow_lambda: bool) -> Any:
    """Rung 3: Keras 2 itself, and from there to a Keras 3 model."""
    tf_keras = _import_tf_keras()
    config = plain_config(_config(file), objects)
    refuse_waiting(config, file.path)
    # Lambda layers use names that their module in Keras 2 imports.
    own: dict[str, object] = {"K": tf_keras.backend, "keras": tf_keras} if allow_lambda else {}
    own |= written_for_keras2(objects)
    with _safe_mode(allow_lambda), weights_that_fit(tf_keras.layers.Layer, _path_of_weights(file)):
        model = tf_keras.models.model_from_json(json.dumps(config), custom_objects=own)
    if file.weights is not None:
        load_weights(model, config, file.weights)
    return lifted(model, objects, allow_lambda)


def refuse_sizes(config: Any, path: Path) -> None:
    """Raise :class:`ModelError` for a layer with a size that no array has: TensorFlow may end the process for it."""
    for entry in all_entries(config):
        found = entry["config"] if isinstance(entry["config"], dict) else {}
        for name in sorted(SIZES & set(found)):
            if not all(abs(number) <= LARGEST_SIZE for number in numbers_in(found[name])):
                layer = printable(str(found.get("name", entry["class_name"])))
                raise ModelError(f"{path} has a damaged configuration: {name} of layer {layer!r} is no size")


def refuse_names(config: Any, path: Path) -> None:
    """Raise :class:`ModelError` for a layer without a name, or with control characters in it: no backend runs it."""
    for entry in all_entries(config):
        name = entry["config"].get("name", "layer") if isinstance(entry["config"], dict) else "layer"
        if isinstance(name, str) and is_layer_entry(entry) and (not name or not name.isprintable()):
            raise ModelError(
                f"{path}: a layer of class {printable(entry['class_name'])} has the name {name!r:.80}. Rename it"
            )


def refuse_waiting(config: Any, path: Path) -> None:
    """Raise :class:`ModelError` for a graph whose calls wait for each other: tf_keras would never end."""
    for entry in all_entries(config):
        graph = entry["config"]
        if isinstance(graph, dict) and "input_layers" in graph and (waiting := waiting_layers(graph)):
            name = printable(str(waiting[0]))
            raise ModelError(f"{path} has a damaged configuration: layer {name!r} is called on what is never computed")


def from_saved_model(file: ModelFile, objects: Objects, allow_lambda: bool) -> Any:
    """Rung 3 for a SavedModel folder: its layers, or the graph that it serves if it lists none or one is asked for."""
    tf_keras = _import_tf_keras()
    configs = saved_configs(file.path)
    known = {*registered_objects(), *objects}
    with _one_line(file.path):
        lines = stored_code(configs, objects=known, allow_lambda=allow_lambda)
        refuse_waiting(configs, file.path)
        refuse_sizes(configs, file.path)
    if lines:
        raise ModelError(_headed(file.path, lines))
    if not allow_lambda and (found := operations_off_the_list(file.path)):
        named = printable(", ".join(found[:3])) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise ModelError(
            f"{file.path} holds TensorFlow operations that are no plain arithmetic: {named}; "
            "pass --allow-lambda if you trust it"
        )
    if not configs or file.signature is not None:
        return served(file.path, file.signature)
    try:
        with _safe_mode(allow_lambda), weights_that_fit(tf_keras.layers.Layer, file.path):
            model = tf_keras.models.load_model(file.path, custom_objects=_fit_for_tf_keras(objects), compile=False)
    except ValueError as error:
        if NO_SUCH_CALL in str(error):  # tf_keras does not find its own call of a layer on a list of one tensor
            return served(file.path)
        raise
    return lifted(model, objects, allow_lambda)


def _fit_for_tf_keras(objects: Objects) -> dict[str, object]:
    """The objects without layers of Keras 3, which tf_keras cannot call: it uses their saved graphs."""
    import keras

    def is_keras3(value: object) -> bool:
        return isinstance(value, type) and issubclass(value, keras.layers.Layer)

    return {name: value for name, value in objects.items() if not is_keras3(value)}


@contextmanager
def _safe_mode(allow_lambda: bool) -> Iterator[None]:
    """A second check: tf_keras refuses bytecode, too. It has its usual defaults: its import reads ``keras.json``."""
    from tf_keras.src.saving.serialization_lib import SafeModeScope

    from fastism_cli.model.precision import usual_defaults

    with SafeModeScope(not allow_lambda), usual_defaults():
        yield


def _import_tf_keras() -> Any:
    try:
        import tf_keras
    except ImportError as error:
        raise ModelError("this model needs tf_keras and TensorFlow: pip install tf-keras") from error
    return tf_keras


# Models of tf_keras for which no twin was found: it takes seconds to look for one, and the answer stays the same.
_WITHOUT_TWIN: WeakSet[Any] = WeakSet()


def in_keras3(model: Any) -> Any:
    """A model in memory: one of tf_keras as one of Keras 3 if that can be, any other as it is."""
    from fastism_cli.model.keras_graph import of_tf_keras

    return lifted(model, {}, allow_lambda=True) if of_tf_keras(model) else model


def lifted(model: Any, objects: Objects, allow_lambda: bool) -> Any:
    """The same model in Keras 3, which the engine can follow: from its configuration, else call by call.

    Either must predict what the model predicts. If neither does, the model itself is returned: a single opaque node.
    """
    if model in _WITHOUT_TWIN:
        return model
    with usual_names():
        for twin_of in (_from_configuration, _call_by_call):
            twin = _twin(twin_of, model, objects, allow_lambda)
            if twin is not None:
                return twin
    _WITHOUT_TWIN.add(model)
    return model


def _twin(build_twin: Callable[..., Any], model: Any, objects: Objects, allow_lambda: bool) -> Any | None:
    """The model in Keras 3; None if it cannot be built or predicts something else."""
    from fastism_cli.model.loading.from_tf_keras import same_predictions

    try:
        twin = build_twin(model, objects, allow_lambda)
    except Exception as error:  # an old model can make Keras raise anything
        logger.debug("%s does not become a model of Keras 3: %s", model.name, error)
        return None
    return twin if not getattr(model, "inputs", None) or same_predictions(model, twin) else None


def _from_configuration(model: Any, objects: Objects, allow_lambda: bool) -> Any:
    if any(type(layer).__module__.startswith("tf_keras.src.saving") for layer in model.submodules):
        raise ModelError("a layer was revived as a graph: its class may share the name of another")
    if not getattr(model, "inputs", None):
        raise ModelError("a subclass that hides its inputs: nothing shows that a class of Keras 3 computes the same")
    config = _repaired(use_own_functions(json.loads(model.to_json()), objects), objects)
    twin = build(config, objects, allow_lambda)
    copy_weights(model, twin, config)
    return twin


def _call_by_call(model: Any, objects: Objects, allow_lambda: bool) -> Any:
    from fastism_cli.model.loading.from_tf_keras import lift

    return lift(model, lambda entry: build(_repaired(entry, objects), objects, allow_lambda))


# --- the model that a user gives -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from. Only this class distinguishes a path from a model.

    Attributes
    ----------
    path : str or None
        The model file or folder; None for a model in memory.
    loaded : keras.Model or None
        The model itself, if there is no path.
    weights, signature, custom_objects, allow_lambda
        As in :class:`RunOptions`; used for a path only.
    """

    path: str | None
    loaded: Any = None
    weights: str | None = None
    signature: str | None = None
    custom_objects: Sequence[str] = ()
    allow_lambda: bool = False

    @classmethod
    def of(cls, model: Any, options: RunOptions | None = None) -> ModelSource:
        """The source of a path or a model; a source is returned as it is."""
        if isinstance(model, ModelSource):
            return model
        o = options or RunOptions()
        path = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
        loaded = None if path is not None else model
        return cls(path, loaded, o.weights, o.signature, o.custom_objects, o.allow_lambda)

    @property
    def name(self) -> str:
        """The path, or the name of the model."""
        return self.path if self.path is not None else str(getattr(self.loaded, "name", ""))

    @property
    def files(self) -> list[Path]:
        """The files of the model, sorted; none for a model in memory."""
        named = [Path(path) for path in (self.path, self.weights) if path is not None]
        return [file for path in named for file in _files(path)]

    def check(self) -> None:
        """Raise :class:`ModelError` unless the files are there and look like a model. Loads no Keras."""
        if self.path is not None:
            from fastism_cli.model.loading.file_kinds import read_model_file

            read_model_file(self.path, self.weights, self.signature)

    def load(self) -> Any:
        """The model: read from its file, or the loaded one; a model of tf_keras as one of Keras 3 if that can be."""

        if self.path is None:
            return in_keras3(self.loaded)
        return load_model(
            self.path,
            weights=self.weights,
            signature=self.signature,
            custom_objects=self.custom_objects,
            allow_lambda=self.allow_lambda,
        )


def _files(path: Path) -> list[Path]:
    # os.path: Path.is_dir raises an error for a name that is too long, or in a folder that cannot be entered
    return sorted(file for file in path.rglob("*") if os.path.isfile(file)) if os.path.isdir(path) else [path]
