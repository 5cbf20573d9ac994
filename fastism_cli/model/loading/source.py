"""The model that a user gives: the path of a file, or a model in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastism_cli.options.run_options import RunOptions


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
        from fastism_cli.model.loading.load import in_keras3, load_model

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
