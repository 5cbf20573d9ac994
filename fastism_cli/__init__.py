"""Fast, exact in-silico saturation mutagenesis of Keras sequence models.

``from fastism_cli import FastISM`` is the library; ``fastism`` on the command line is the tool.
Importing the package alone loads neither Keras nor TensorFlow.
"""

from typing import Any

from fastism_cli.version import __version__

__all__ = ["FastISM", "MutagenesisResult", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("FastISM", "MutagenesisResult"):
        from fastism_cli import ism

        return getattr(ism, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
