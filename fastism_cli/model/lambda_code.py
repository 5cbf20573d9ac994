"""Names that the code of Lambda layers finds, which a model file holds without the module that it was written in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import RLock
from typing import Any

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
    return {name: import_module(module) for name, module in loaded.items()}
