"""Published models as their own packages build and save them, with random weights.

Each recipe is run in a process of its own, which imports the package (:mod:`tests.slow.field.child`). Enformer and
Borzoi are reduced in depth and width, and once as they are, at 2,048 bases, as CREsted's BorzoiBICCN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LENGTH, OUT = 2114, 1000  # of ChromBPNet: bases of the input, and of the profile
HEAD = {"head-name": "tf", "num-tasks": 2, "use-bias-counts": True}  # of BPReveal


@dataclass(frozen=True)
class Recipe:
    """One model.

    Attributes
    ----------
    name, package : str
    file : str
        Its name in the folder of models.
    what : str
        The builder's arguments, for people.
    build : callable
        From the folder of models: builds, and writes the file. What it needs was built before it.
    options : sequence of str
        What a user gives on the command line beside the model.
    needs : str
        The recipe before it, whose file it reads; "" if none.
    keras2 : bool
        The package uses Keras 2, as `tf_keras`.
    limit : float
        The least that the engine's limit may be.
    is_large : bool
        To build and to check it can take ten minutes on two cores.
    """

    name: str
    package: str
    file: str
    what: str
    build: Callable[[Path], None]
    options: tuple[str, ...] = ()
    needs: str = ""
    keras2: bool = False
    limit: float = 1.0
    is_large: bool = False

    @property
    def key(self) -> str:
        return f"{self.package}-{self.name}"


def with_random_weights(model: Any) -> Any:
    from benchmarks.models import randomised

    return randomised(model)


# --- CREsted ----------------------------------------------------------------------------------------------------------


def crested(builder: str, folder: Path, *arguments: int, **sizes: Any) -> None:
    """A model of `crested.tl.zoo`, compiled as its trainer does, and saved as its checkpoints are."""
    from crested.tl import zoo

    save_crested(getattr(zoo, builder)(*arguments, **sizes), folder / f"crested_{builder}.keras")


def borzoi_biccn(folder: Path) -> None:
    """CREsted's BorzoiBICCN: Borzoi at 2,048 bases, its head replaced by one number for each cell type."""
    import keras
    from crested.tl import zoo

    borzoi = zoo.borzoi(2048, 1, target_length=64)
    x = keras.layers.Flatten()(borzoi.get_layer("head").input)
    cell_types = keras.layers.Dense(19, activation="softplus", name="dense_out")(x)
    save_crested(keras.Model(borzoi.inputs, cell_types, name="BorzoiBICCN"), folder / "crested_borzoi_biccn.keras")


def save_crested(model: Any, path: Path) -> None:
    import keras
    from crested.tl.losses import CosineMSELogLoss

    with_random_weights(model).compile(keras.optimizers.Adam(1e-3), CosineMSELogLoss(), ["mae"])
    model.save(path)


# --- ChromBPNet: Keras 2 ----------------------------------------------------------------------------------------------


def parameters(filters: int, layers: int, **others: str) -> dict[str, str]:
    """What ChromBPNet reads from its file of parameters: all text."""
    sizes = {"filters": filters, "n_dil_layers": layers, "inputlen": LENGTH, "outputlen": OUT}
    return {**{name: str(size) for name, size in sizes.items()}, "counts_loss_weight": "10", **others}


def chrombpnet_bias(folder: Path) -> None:
    from chrombpnet.training.models import bpnet_model

    arguments = SimpleNamespace(seed=1234, learning_rate=1e-3)
    model = bpnet_model.getModelGivenModelOptionsAndWeightInits(arguments, parameters(128, 4))
    with_random_weights(model).save(str(folder / "chrombpnet_bias.h5"))


def chrombpnet(folder: Path) -> None:
    """Also writes the model without the bias, as its training command does, and a SavedModel."""
    from chrombpnet.training.models import chrombpnet_with_bias_model as source

    arguments = SimpleNamespace(seed=1234, learning_rate=1e-3)
    options = parameters(512, 8, bias_model_path=str(folder / "chrombpnet_bias.h5"))
    model = with_random_weights(source.getModelGivenModelOptionsAndWeightInits(arguments, options))
    model.save(str(folder / "chrombpnet.h5"))
    source.save_model_without_bias(model, str(folder / "chrombpnet"))
    model.save(str(folder / "chrombpnet_saved_model"), save_format="tf")


def written_by(other: str, folder: Path) -> None:
    """Nothing to build: the recipe ``other`` wrote the file."""


# --- BPReveal ---------------------------------------------------------------------------------------------------------

# Filters and layers of the model of the bias, and of the one that is trained on top of it.
SOLO, RESIDUAL = (32, 7), (64, 9)


def bpreveal_input(layers: int) -> int:
    from bpreveal.lengthCalc import getInputLength

    return int(getInputLength(OUT, layers, [25], 75, False))


def save_bpreveal(model: Any, path: Path) -> None:
    import keras
    from bpreveal import losses

    half = len(model.outputs) // 2
    with_random_weights(model).compile(
        keras.optimizers.Adam(1e-3), [losses.multinomialNll] * half + [losses.weightedMse(keras.Variable(1.0))] * half
    )
    model.save(path)


def bpreveal_solo(folder: Path) -> None:
    from bpreveal import models

    filters, layers = SOLO
    model = models.soloModel(bpreveal_input(layers), OUT, filters, layers, 25, 75, [HEAD], "solo")
    save_bpreveal(model, folder / "bpreveal_solo.keras")


def loaded(path: Path) -> Any:
    import keras

    return keras.models.load_model(path, compile=False)


def bpreveal_transformation(folder: Path) -> None:
    from bpreveal import models

    simple = {"name": "simple", "types": ["linear", "sigmoid", "relu"]}
    model = models.transformationModel(loaded(folder / "bpreveal_solo.keras"), simple, simple, [HEAD])
    save_bpreveal(model, folder / "bpreveal_transformation.keras")


def bpreveal_combined(folder: Path) -> None:
    from bpreveal import models

    filters, layers = RESIDUAL
    bias = loaded(folder / "bpreveal_transformation.keras")
    model, _, _ = models.combinedModel(bpreveal_input(layers), OUT, filters, layers, 25, 75, [HEAD], bias)
    save_bpreveal(model, folder / "bpreveal_combined.keras")


# --- the table --------------------------------------------------------------------------------------------------------


def zoo(
    builder: str,
    *arguments: int,
    options: Sequence[str] = (),
    limit: float = 1.0,
    is_large: bool = False,
    **sizes: Any,
) -> Recipe:
    said = ", ".join([*map(str, arguments), *(f"{name}={size}" for name, size in sizes.items())])
    build = partial(_swapped, crested, builder, arguments, sizes)
    return Recipe(
        builder,
        "crested",
        f"crested_{builder}.keras",
        f"{builder}({said})",
        build,
        tuple(options),
        limit=limit,
        is_large=is_large,
    )


def _swapped(
    function: Callable[..., None], builder: str, arguments: Sequence[int], sizes: dict[str, Any], folder: Path
) -> None:
    function(builder, folder, *arguments, **sizes)


CRESTED = ("--custom-objects", "crested.tl.zoo")
SUM = ("--reduce", "sum")
ATTENTIVE = {"num_transformer_blocks": 2}
BPREVEAL = ("--custom-objects", "bpreveal.layers", *SUM)
LAMBDA = ("--allow-lambda", *SUM)

RECIPES = (
    zoo("deeptopic_cnn", 500, 80, limit=16.4),
    zoo("deeptopic_lstm", 500, 80, limit=1.6),
    zoo("simple_convnet", 1000, 20, limit=15.4),
    zoo("legnet", 230, 1),
    zoo("basenji", 2114, 19, limit=7.2),
    zoo("dilated_cnn", 2114, 19, limit=14.4),
    zoo("dilated_cnn_decoupled", 2114, 19, limit=14.4),
    zoo(
        "enformer",
        *(4096, 10),
        options=(*CRESTED, *SUM),
        limit=2.9,
        is_large=True,
        **ATTENTIVE,
        target_length=16,
        start_filters=384,
        filters=768,
        pointwise_filters=1536,
    ),
    zoo(
        "borzoi",
        *(8192, 10),
        options=(*CRESTED, *SUM),
        limit=6.6,
        is_large=True,
        **ATTENTIVE,
        target_length=128,
        start_filters=256,
        filters=768,
        pointwise_filters=960,
        unet_filters=768,
    ),
    zoo(
        "borzoi_prime",
        *(8192, 10),
        options=(*CRESTED, *SUM),
        limit=5.2,
        is_large=True,
        **ATTENTIVE,
        target_length=256,
        start_filters=256,
        filters=768,
        unet_filters=768,
    ),
    Recipe(
        "BorzoiBICCN",
        "crested",
        "crested_borzoi_biccn.keras",
        "borzoi(2048, 1, target_length=64), its head replaced by Flatten and Dense(19)",
        borzoi_biccn,
        CRESTED,
        is_large=True,
    ),
    Recipe(
        "bias",
        "chrombpnet",
        "chrombpnet_bias.h5",
        "bpnet_model, 128 filters, 4 layers",
        chrombpnet_bias,
        options=SUM,
        keras2=True,
        limit=63.0,
    ),
    Recipe(
        "chrombpnet",
        "chrombpnet",
        "chrombpnet.h5",
        "512 filters, 8 layers, with the bias",
        chrombpnet,
        options=LAMBDA,
        needs="bias",
        keras2=True,
        limit=12.6,
    ),
    Recipe(
        "nobias",
        "chrombpnet",
        "chrombpnet_nobias.h5",
        "512 filters, 8 layers",
        partial(written_by, "chrombpnet"),
        options=SUM,
        needs="chrombpnet",
        keras2=True,
        limit=12.3,
    ),
    Recipe(
        "SavedModel",
        "chrombpnet",
        "chrombpnet_saved_model",
        "512 filters, 8 layers, with the bias",
        partial(written_by, "chrombpnet"),
        options=LAMBDA,
        needs="chrombpnet",
        keras2=True,
        limit=12.6,
    ),
    Recipe("solo", "bpreveal", "bpreveal_solo.keras", "32 filters, 7 layers", bpreveal_solo, options=SUM, limit=20.2),
    Recipe(
        "transformation",
        "bpreveal",
        "bpreveal_transformation.keras",
        "linear, sigmoid and relu of the solo model",
        bpreveal_transformation,
        options=SUM,
        needs="solo",
        limit=8.9,
    ),
    Recipe(
        "combined",
        "bpreveal",
        "bpreveal_combined.keras",
        "64 filters, 9 layers, with the transformation",
        bpreveal_combined,
        options=BPREVEAL,
        needs="transformation",
        limit=8.7,
    ),
)
