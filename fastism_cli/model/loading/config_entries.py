"""Read the configuration of a model (JSON): its entries, the classes that they name, and the names that it needs."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from types import FunctionType, ModuleType
from typing import Any

from fastism_cli.errors import ModelError

Config = dict[str, Any]

EVERY_LAYER_TAKES = {"name", "dtype", "trainable", "activity_regularizer", "autocast"}
MODEL_MODULES = {
    "Sequential": "keras.src.models.sequential",
    "Functional": "keras.src.models.functional",
}


@dataclass(frozen=True)
class Context:
    """Facts that repairs need besides the layer: the user's objects by name, and whether Keras 2 wrote the file."""

    objects: Mapping[str, object] = field(default_factory=dict)
    keras2: bool = True


def objects_in(value: Any) -> Iterator[Config]:
    """The nearest ``{"class_name", "config"}`` entries inside a value, outermost only."""
    if isinstance(value, dict) and isinstance(value.get("class_name"), str) and "config" in value:
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from objects_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from objects_in(inner)


def all_entries(value: Any) -> Iterator[Config]:
    """Every entry at any depth, outer before inner."""
    for entry in objects_in(value):
        yield entry
        for inner in (entry["config"], entry.get("inbound_nodes")):
            yield from all_entries(inner)


def numbers_in(value: Any) -> Iterator[float]:
    """Every number inside of lists and mappings."""
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(inner)


def is_layer_entry(entry: Config) -> bool:
    """Whether an entry can be a layer, and is no stored function, tensor or tuple."""
    stored_value = entry["class_name"] == "function" or entry["class_name"].startswith("__")
    return not stored_value and isinstance(entry["config"], (dict, list))


def decode(value: Any) -> Any:
    """Undo the wrappings of earlier JSON encoders: tuples, tensor shapes, arrays.

    Nothing that could be an entry is dropped: Keras reads the configuration as it was.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") in ("__tuple__", "TensorShape") and set(value) == {"class_name", "items"}:
        return [decode(item) for item in value["items"]]
    if set(value) == {"type", "value"} and isinstance(value["type"], str):
        return decode(value["value"])
    return {key: decode(item) for key, item in value.items()}


def function_name(value: Any) -> str:
    """The name of a stored function: a bare string in Keras 2, an entry of class "function" in Keras 3."""
    if isinstance(value, dict):
        value = value.get("config") if value.get("class_name") == "function" else None
    return value if isinstance(value, str) else ""


def named_function(name: str) -> Config:
    return {"module": None, "class_name": "function", "config": name, "registered_name": name}


def is_bytecode(value: Any) -> bool:
    """Whether a stored value is a Python function: marshalled code, defaults and closure."""
    if isinstance(value, dict):
        return value.get("class_name") == "__lambda__"
    return isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)


def known_names(entry: Config) -> tuple[Any, ...]:
    """Names under which the user can have given the class of an entry, the longest first."""
    return entry.get("registered_name"), entry["class_name"], entry["class_name"].rpartition(">")[2]


# In the place of a slash, which Keras 3 refuses in the name of a layer: no other name of Keras 2 has this character.
SLASH = ">"
# What a scope in a graph of TensorFlow cannot hold. Keras says so only when it runs the graph: files have such names.
_OUTSIDE = re.compile(r"[^A-Za-z0-9_.>-]")
_NUMBER = re.compile(r">\.([0-9a-f]{1,6})\.")  # of another letter
_BEGIN = "."  # before a number, with which no scope may begin


def plain_name(name: str) -> str:
    """The name of a layer as Keras 3 and TensorFlow take it, and no two names become one.

    A plain name stays as it is. :func:`written_name` is the way back.

    Examples
    --------
    >>> plain_name("conv_1"), plain_name("block1/conv"), plain_name("a b"), plain_name("_x")
    ('conv_1', 'block1>conv', 'a>.20.b', '.>.5f.x')
    """
    name = _OUTSIDE.sub(lambda found: _numbered(found[0]), name.replace("/", SLASH))
    if not name or name[0].isalnum() or name.startswith(_BEGIN):
        return name
    return _BEGIN + (name if _NUMBER.match(name) else _numbered(name[0].replace(SLASH, "/")) + name[1:])


def _numbered(letter: str) -> str:
    return f"{SLASH}.{ord(letter):x}."


def written_name(name: str) -> str:
    """The name that the layer has in its file."""
    if name.startswith(_BEGIN) and _NUMBER.match(name, 1):
        name = name.removeprefix(_BEGIN)
    return _NUMBER.sub(lambda found: chr(min(int(found[1], 16), sys.maxunicode)), name).replace(SLASH, "/")


def is_custom(layer: Config, context: Context) -> bool:
    """Whether the class is the user's: it is outside Keras, or has no module and the name of an object of the user."""
    if is_foreign(layer):
        return True
    names = {layer.get("registered_name"), None if layer.get("module") else layer["class_name"]}
    return bool(names & set(context.objects))


def is_foreign(layer: Config) -> bool:
    """Whether the class is outside Keras according to the file."""
    package = (layer.get("module") or "keras").partition(".")[0]
    return package not in ("keras", "tf_keras", "tensorflow", "builtins") or ">" in layer["class_name"]


def builtin_class(layer: Config, context: Context) -> type | None:
    """The class of ``keras.layers`` (or the model class) that an entry means; None for anything else."""
    import keras

    if is_custom(layer, context):
        return None
    if layer["class_name"] in MODEL_MODULES:
        return keras.Sequential if layer["class_name"] == "Sequential" else keras.Model
    found = getattr(keras.layers, layer["class_name"], None)
    return found if inspect.isclass(found) and _is_of_layers(layer) else None


def _is_of_layers(layer: Config) -> bool:
    """Keras 3 also stores operations: `keras.src.ops.numpy` has an `Add` too."""
    module = layer.get("module") or "keras.layers"
    return ".layers" in module or not module.startswith("keras")


def accepted_arguments(cls: type) -> set[str]:
    """Every argument that a class of Keras takes, including those of its base classes."""
    accepted: set[str] = set()
    for base in (base for base in cls.__mro__ if "__init__" in vars(base)):
        parameters = inspect.signature(vars(base)["__init__"]).parameters
        accepted |= set(parameters)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return accepted - {"self"}
    return accepted | EVERY_LAYER_TAKES


def arguments_from_kwargs(cls: type | None) -> set[str]:
    """Arguments that a class takes out of ``**kwargs`` by name, such as ``rms_scaling`` of LayerNormalization."""
    code = getattr(vars(cls or object).get("__init__"), "__code__", None)
    return {value for value in code.co_consts if isinstance(value, str)} if code else set()


def unknown_arguments(layer: Config, context: Context) -> Config:
    """Arguments of a repaired entry that its Keras class will refuse."""
    cls = builtin_class(layer, context)
    if cls is None or layer["class_name"] in MODEL_MODULES:
        return {}
    accepted = accepted_arguments(cls)
    return {name: value for name, value in layer["config"].items() if name not in accepted}


# --- names that a model needs ----------------------------------------------------------------------------------------

Objects = dict[str, object]

# A file offers what it defines, not what it imports: a `Dense` of Keras 3 would replace that of tf_keras.
FOREIGN = {"keras", "tf_keras", "tensorflow", "numpy", "jax", "torch", *sys.stdlib_module_names}

# What people import for the code of a Lambda layer, and under which name.
USUAL_NAMES = {
    "K": "keras.backend",
    "keras": "keras",
    "layers": "keras.layers",
    "math": "math",
    "np": "numpy",
    "ops": "keras.ops",
    "tf": "tensorflow",
}
_LOCK = RLock()


def load_custom_objects(specs: Iterable[str]) -> Objects:
    """Import the user's classes and functions. Loading a model runs no other code besides Keras.

    Parameters
    ----------
    specs : iterable of str
        ``FILE.py`` or ``package.module`` for every class and function in it, ``package.module:name`` for one.
        Modules are also looked for in the working directory. What they register with
        ``keras.saving.register_keras_serializable`` is known to Keras then, also in modules that they import.

    Returns
    -------
    dict
        The objects by name, and by registered name (``package>name``) where they have one.

    Raises
    ------
    ModelError
        Something does not import or does not exist. Carries the error of the import itself.
    """
    objects: Objects = {}
    for spec in specs:
        objects.update(_load(spec))
    return {**objects, **_registered_names(objects)}


def load_rules(specs: Iterable[str]) -> None:
    """Run the user's files of rules: each calls :func:`fastism_cli.rules.register_rule`.

    A file that was loaded for ``--custom-objects`` too is the same module, and is run once.

    Raises
    ------
    ModelError
        A file does not import or does not exist. Carries the error itself.
    """
    for spec in specs:
        _imported(spec, "--rules")


def _imported(spec: str, option: str) -> ModuleType:
    try:
        return _import_file(Path(spec), option) if spec.endswith(".py") else _import_module(spec.partition(":")[0])
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        fault = f"{_place(spec, error)} {type(error).__name__}: {error}"
        raise ModelError(f"{option} {spec} does not import:{fault}{_other_backend(error)}") from error


def _other_backend(error: BaseException) -> str:
    """What helps where a module is written for TensorFlow and Keras runs on something else."""
    import keras

    running = keras.backend.backend()
    if running == "tensorflow" or "tensorflow" not in str(error).lower():
        return ""
    return f" (Keras runs on {running}: KERAS_BACKEND=tensorflow may help)"


def _load(spec: str) -> Objects:
    module = _imported(spec, "--custom-objects")
    name = "" if spec.endswith(".py") else spec.partition(":")[2]
    return _one(module, name, spec) if name else _offered(module, spec)


def _import_file(path: Path, option: str) -> ModuleType:
    if not path.is_file():
        raise ModelError(f"{option} {path}: no such file")
    # Two files with one name are two modules; a file that is given twice is imported once and registers once.
    name = f"{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{option} {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _search(path.resolve().parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    with _search(Path.cwd()):
        return importlib.import_module(name)


def _place(spec: str, error: BaseException) -> str:
    """The last line of the user's own file that was running."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).name == Path(spec).name]
    return f" line {lines[-1]}:" if lines else ""


@contextmanager
def _search(folder: Path) -> Iterator[None]:
    """Let imports find neighbours in ``folder``, after everything installed: a local numpy.py must not win."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _one(module: ModuleType, name: str, spec: str) -> Objects:
    if not hasattr(module, name):
        raise ModelError(f"--custom-objects {spec}: {module.__name__} has no {name}")
    return {name: getattr(module, name)}


def _offered(module: ModuleType, spec: str) -> Objects:
    found = {name: value for name, value in vars(module).items() if _is_offered(name, value)}
    if not found and not _registers(module):
        raise ModelError(f"--custom-objects {spec}: defines no class and no function")
    return found


def _registers(module: ModuleType) -> bool:
    """Whether a package registers classes or functions with Keras in modules inside of it, which it imports."""
    import keras

    own = f"{module.__name__}."
    return any(f"{value.__module__}.".startswith(own) for value in keras.saving.get_custom_objects().values())


def _is_offered(name: str, value: object) -> bool:
    if name.startswith("_") or not isinstance(value, (type, FunctionType)):
        return False
    return value.__module__.partition(".")[0] not in FOREIGN


def _registered_names(objects: Objects) -> Objects:
    import keras

    names = {name: keras.saving.get_registered_name(value) for name, value in objects.items()}
    return {names[name]: objects[name] for name in objects if names[name] != name}


# --- the same classes for Keras 2 ---


def written_for_keras2(objects: Mapping[str, object]) -> Objects:
    """The user's objects with tf_keras in the place of Keras, as TF_USE_LEGACY_KERAS=1 has it.

    Modules with a layer of Keras 3 are run once more, by themselves. An object stays what it is where that fails.
    """
    import keras

    layers = [value for value in objects.values() if isinstance(value, type) and issubclass(value, keras.layers.Layer)]
    twins = {name: _run_for_keras2(sys.modules[name]) for name in {cls.__module__ for cls in layers} & set(sys.modules)}
    return {name: _of_module(twins.get(getattr(value, "__module__", "")), value) for name, value in objects.items()}


def _of_module(module: ModuleType | None, value: Any) -> Any:
    return value if module is None else getattr(module, value.__name__, value)


def _run_for_keras2(module: ModuleType) -> ModuleType | None:
    spec = importlib.util.spec_from_file_location(module.__name__, getattr(module, "__file__", None) or "")
    if spec is None or spec.loader is None or spec.name.partition(".")[0] in FOREIGN:
        return None
    twin = importlib.util.module_from_spec(spec)
    try:
        with _LOCK, _keras_is_tf_keras() as with_tf_keras:
            spec.loader.exec_module(twin)
    except Exception:  # a module of the user's may raise anything
        return None
    for name, value in list(vars(twin).items()):
        if value is sys.modules["tensorflow"]:  # whose ``keras`` is looked up when a layer is called
            setattr(twin, name, with_tf_keras)
    return twin


@contextmanager
def _keras_is_tf_keras() -> Iterator[ModuleType]:
    """Until the block ends, imports of keras and tensorflow.keras find tf_keras; yields TensorFlow with tf_keras.

    Why in ``sys.modules``: that is where an import looks first, and the user's module does not ask anybody else.
    """
    import tensorflow
    import tf_keras

    before, own = dict(sys.modules), vars(tensorflow).get("keras")
    inner = {name: value for name, value in vars(tf_keras).items() if isinstance(value, ModuleType)}
    with_tf_keras = ModuleType("tensorflow")
    with_tf_keras.__dict__.update(__getattr__=lambda name: getattr(tensorflow, name), keras=tf_keras)
    try:
        for outer in ("keras", "tensorflow.keras"):
            for name in [name for name in sys.modules if name == outer or name.startswith(f"{outer}.")]:
                del sys.modules[name]
            sys.modules.update({outer: tf_keras, **{f"{outer}.{name}": value for name, value in inner.items()}})
        tensorflow.keras = tf_keras
        yield with_tf_keras
    finally:
        tensorflow.keras = own
        for name in set(sys.modules) - set(before):
            del sys.modules[name]
        sys.modules.update(before)


# --- names for Lambda layers ------------------------------------------------------------------------------------------


@contextmanager
def usual_names() -> Iterator[None]:
    """Let Lambda layers that Keras reads until the block ends find what people import under these names.

    Keras runs the code among the names of the module that reads it, which lacks them all. Here each function gets a
    dictionary that has these names too, and keeps it. Afterwards Keras is as it was.

    Why by replacing a function of Keras: it has an argument for the names, ``globs``, but no caller in Keras passes it.
    The lock keeps two threads from taking each other's function for that of Keras.
    """
    from keras.src.utils import python_utils

    with _LOCK:
        load = python_utils.func_load
        python_utils.func_load = _with_names(load, vars(python_utils))
        try:
            yield
        finally:
            python_utils.func_load = load


def _with_names(load: Callable[..., Any], names: dict[str, Any]) -> Callable[..., Any]:
    def func_load(code: Any, defaults: Any = None, closure: Any = None, globs: Any = None) -> Any:
        return load(code, defaults, closure, _usual() | names if globs is None else globs)

    return func_load


def _usual() -> dict[str, Any]:
    """TensorFlow only where something else has loaded it: with another backend it may be absent."""
    loaded = {name: module for name, module in USUAL_NAMES.items() if module != "tensorflow" or module in sys.modules}
    return {name: importlib.import_module(module) for name, module in loaded.items()}
