"""Fast, exact in-silico saturation mutagenesis of Keras sequence models.

The names in ``__all__`` are the public library; ``fastism`` on the command line is the tool.
Importing the package alone loads neither Keras nor TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastism_cli.model.quiet import quiet_start
from fastism_cli.version import __version__

if TYPE_CHECKING:
    from fastism_cli.engine.fastism import FastISM
    from fastism_cli.engine.inputs_and_scores import MutagenesisResult
    from fastism_cli.engine.verify import verify
    from fastism_cli.errors import FastISMError
    from fastism_cli.model.loading.load import load_model
    from fastism_cli.options.run_options import RunOptions
    from fastism_cli.results.ism_file import read_result
    from fastism_cli.results.scores import open_scores
    from fastism_cli.rules.table import register_rule
    from fastism_cli.run.score_regions import score_regions
    from fastism_cli.run.variants.score_variants import score_variants
    from fastism_cli.scores import drawing as plot

__all__ = [
    "FastISM",
    "FastISMError",
    "MutagenesisResult",
    "RunOptions",
    "__version__",
    "load_model",
    "open_scores",
    "plot",
    "read_result",
    "register_rule",
    "score_regions",
    "score_variants",
    "verify",
]

# Where each name is defined; it is loaded when it is first asked for.
_HOMES = {
    "FastISM": "fastism_cli.engine.fastism",
    "FastISMError": "fastism_cli.errors",
    "MutagenesisResult": "fastism_cli.engine.inputs_and_scores",
    "RunOptions": "fastism_cli.options.run_options",
    "load_model": "fastism_cli.model.loading.load",
    "open_scores": "fastism_cli.results.scores",
    "read_result": "fastism_cli.results.ism_file",
    "register_rule": "fastism_cli.rules.table",
    "score_regions": "fastism_cli.run.score_regions",
    "score_variants": "fastism_cli.run.variants.score_variants",
    "verify": "fastism_cli.engine.verify",
}

_MODULES = {"plot": "fastism_cli.scores.drawing"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with quiet_start():
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
