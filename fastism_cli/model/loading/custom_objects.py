"""Names that a model needs: the user's own layers and functions (--custom-objects), and what Lambda layers import."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import FunctionType, ModuleType
from typing import Any

from fastism_cli.errors import ModelError

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
