"""SavedModels that only serve, and models that were built for a fixed number of sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from click.testing import CliRunner

from fastism_cli.cli import COMMANDS, main
from fastism_cli.engine.fastism import FastISM
from fastism_cli.engine.verify import verify
from fastism_cli.errors import ModelError, UsageError
from fastism_cli.model.loading.load import load_model
from tests.helpers.model_files import FILE_WARNINGS

pytestmark = FILE_WARNINGS

LENGTH = 20
POSITIONS = [0, 7, LENGTH - 1]


def one_hot(n: int = 3) -> np.ndarray:
    return np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (n, LENGTH))]


def other(n: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, 6)).astype("float32")


class Served(tf.Module):
    """dna -> C -> maximum, and expression -> two heads, which the names do not put in the order of the graph."""

    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        self.kernel = tf.Variable(rng.normal(size=(5, 4, 8)).astype("float32"))
        self.dense = tf.Variable(rng.normal(size=(8, 2)).astype("float32"))
        self.other = tf.Variable(rng.normal(size=(6, 2)).astype("float32"))

    def run(self, dna: Any, expression: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv1d(tf.cast(dna, "float32"), self.kernel, 1, "SAME"))
        y = tf.reduce_max(x, axis=1) @ self.dense + expression @ self.other
        return {"z rate (1/h)": y[:, :1], "a_half_life": y[:, 1:]}


def save(folder: Any, *, batch: int | None = None, dtype: str = "float32", names: tuple[str, ...] = ("only",)) -> str:
    module = Served()
    specs = [tf.TensorSpec((batch, LENGTH, 4), dtype, name="dna"), tf.TensorSpec((batch, 6), name="expression")]
    call = tf.function(module.run).get_concrete_function(*specs)
    module.call = call
    tf.saved_model.save(module, str(folder), signatures=dict.fromkeys(names, call))
    return str(folder)


def assert_right(scorer: FastISM) -> None:
    """References and deltas are those of the graph itself, head by head."""
    x, module = one_hot(), Served()
    found = scorer({"dna": x, "expression": other()}, positions=POSITIONS)
    plain = module.run(tf.constant(x), tf.constant(other()))
    assert [head.name for head in scorer.heads] == sorted(plain)
    for position in POSITIONS:
        changed = x.copy()
        changed[:, position] = [0, 1, 0, 0]
        moved = module.run(tf.constant(changed), tf.constant(other()))
        for head in plain:
            delta = found.delta[head][:, 0, POSITIONS.index(position), 1]
            np.testing.assert_allclose(found.reference[head], plain[head], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(delta, (moved[head] - plain[head])[:, 0], rtol=0, atol=1e-5)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("batch, dtype", [(None, "float32"), (1, "float32"), (4, "float32"), (None, "uint8")])
def test_heads_and_inputs_by_name_for_any_number_of_rows(batch, dtype, tmp_path):
    assert_right(FastISM(save(tmp_path / "m", batch=batch, dtype=dtype), batch_size=10))


def test_missing_values_are_asked_for_with_both_shapes(tmp_path):
    with pytest.raises(UsageError, match=r"sequence: 'expression' \(6,\).*The sequence is in 'dna' \(20, 4\)"):
        verify(FastISM(save(tmp_path / "m")), one_hot(1))


@pytest.mark.parametrize(
    "names, said",
    [
        (("human", "mouse"), r"serves 2 graphs: 'human', 'mouse'\. Choose one with signature NAME"),
        ((), r"serves no graph \(no signature\): save it"),
    ],
)
def test_no_choice_is_made_for_the_user(names, said, tmp_path):
    if names:
        save(tmp_path / "m", names=names)
    else:
        tf.saved_model.save(Served(), str(tmp_path / "m"))
    with pytest.raises(ModelError, match=said) as error:
        FastISM(str(tmp_path / "m"))
    assert "\n" not in str(error.value)


def test_the_default_is_taken_among_several_and_told(tmp_path, caplog):
    caplog.set_level("INFO", "fastism_cli")
    assert_right(FastISM(save(tmp_path / "m", names=("mouse", "serving_default"))))
    assert "serves 2 graphs: 'mouse', 'serving_default'. 'serving_default' is used" in caplog.text


class TwoServed(Served):
    """The same graph, and one with the doubled values."""

    def twice(self, dna: Any, expression: Any) -> Any:
        return {name: 2 * y for name, y in self.run(dna, expression).items()}


def command_of(name: str) -> Any:
    return main.get_command(None, name)


def save_two(folder: Any, default: str = "human") -> str:
    module = TwoServed()
    specs = [tf.TensorSpec((None, LENGTH, 4), name="dna"), tf.TensorSpec((None, 6), name="expression")]
    module.once, module.two = (tf.function(f).get_concrete_function(*specs) for f in (module.run, module.twice))
    tf.saved_model.save(module, str(folder), signatures={default: module.once, "doubled": module.two})
    return str(folder)


@pytest.mark.one_in(36)
@pytest.mark.parametrize("default", ["human", "serving_default"])
def test_a_signature_chooses_one_of_several(default, tmp_path):
    folder = save_two(tmp_path / "m", default)
    once, twice = (FastISM(load_model(folder, signature=name), batch_size=30) for name in (default, "doubled"))
    assert_right(once)
    x = {"dna": one_hot(), "expression": other()}
    of_once, of_twice = (scorer(x, positions=POSITIONS) for scorer in (once, twice))
    for head in ("z rate (1/h)", "a_half_life"):
        np.testing.assert_allclose(of_twice.reference[head], 2 * of_once.reference[head], rtol=1e-5)
        np.testing.assert_allclose(of_twice.delta[head], 2 * of_once.delta[head], rtol=0, atol=2e-5)


def test_a_signature_of_a_folder_with_layers_runs_as_one_node(tmp_path):
    inputs = tf_keras.Input((LENGTH, 4), name="seq")
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(1)(tf_keras.layers.Flatten()(inputs)))

    @tf.function(input_signature=[tf.TensorSpec((None, LENGTH, 4), name="seq")])
    def negative(seq):
        return {"minus": -model(seq)}

    model.save(tmp_path / "m", signatures={"serving_default": negative})
    by_layers, by_graph = load_model(tmp_path / "m"), load_model(tmp_path / "m", signature="serving_default")
    np.testing.assert_allclose(by_graph(one_hot()), -by_layers(one_hot()), rtol=1e-5)
    assert by_graph.output_names == ["minus"] and len(by_graph.layers) == 2


LOADING = {
    "run": ["--bed", "r.bed", "--fasta", "g.fa", "-o", "out.ism.h5", "--model"],
    "pairs": ["--within", "3", "--bed", "r.bed", "--fasta", "g.fa", "-o", "out.pairs.h5", "--model"],
    "variants": ["--vcf", "v.vcf", "--fasta", "g.fa", "-o", "out.vcf", "--model"],
    "verify": ["--model"],
    "inspect": [],
}


@pytest.fixture(scope="module")
def two_served(tmp_path_factory) -> Path:
    """A folder with two signatures, and the inputs of every command that loads a model."""
    folder = tmp_path_factory.mktemp("two")
    save_two(folder / "m")
    np.save(folder / "expression.npy", other(1)[0])
    (folder / "g.fa").write_text(">chr1\n" + "ACGTTGCAAC" * 20 + "\n")
    (folder / "r.bed").write_text("chr1\t50\t70\n")
    (folder / "v.vcf").write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t61\t.\tA\tC\t.\t.\t.\n"
    )
    return folder


@pytest.mark.one_in(48)
@pytest.mark.parametrize("command", LOADING)
def test_every_command_that_loads_a_model_takes_a_signature(command, two_served, monkeypatch):
    assert {name for name in COMMANDS if any(p.name == "signature" for p in command_of(name).params)} == set(LOADING)
    monkeypatch.chdir(two_served)
    others = [] if command == "inspect" else ["--input", "expression=expression.npy"]
    call = [command, *LOADING[command], "m", *others, "--signature"]
    unknown = CliRunner().invoke(main, [*call, "Human"])
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert unknown.stderr.splitlines()[-1] == "Error: m has no signature 'Human'. It has: 'doubled', 'human'"
    found = CliRunner().invoke(main, [*call, "doubled"])
    assert found.exit_code == 0, found.stderr


def test_only_a_saved_model_has_signatures(tmp_path):
    model = keras.Sequential([keras.Input((LENGTH, 4)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match=r"m\.keras has no signatures, which only SavedModel folders have: leave"):
        load_model(tmp_path / "m.keras", signature="serving_default")


def test_a_graph_of_text_is_refused_by_the_name_of_its_input(tmp_path):
    module = tf.Module()
    spec = tf.TensorSpec((None,), "string", name="examples")
    call = tf.function(lambda examples: {"n": tf.strings.length(examples)}).get_concrete_function(spec)
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=call)
    with pytest.raises(ModelError, match=r"'examples' of its graph is string of shape \(None,\), not numbers"):
        load_model(tmp_path / "m", allow_lambda=True)


@pytest.mark.one_in(48)
@pytest.mark.parametrize(
    "package, ending, stateful",
    [
        (keras, ".keras", False),
        (keras, ".keras", True),
        (tf_keras, ".h5", True),
        (tf_keras, "", True),
        (tf_keras, None, True),
    ],
)
def test_a_fixed_number_of_sequences(package, ending, stateful, tmp_path):
    package.utils.set_random_seed(1)
    inputs = package.Input(batch_shape=(5, LENGTH, 4))
    x = package.layers.Conv1D(4, 3)(inputs)
    x = package.layers.SimpleRNN(4, stateful=stateful)(x)
    model = package.Model(inputs, package.layers.Dense(1, name="out")(x))
    wanted = np.asarray(model(one_hot(5)))[:3]
    if ending is not None:
        model.save(tmp_path / f"m{ending}")
    scorer = FastISM(model if ending is None else tmp_path / f"m{ending}")
    found = scorer(one_hot(), positions=POSITIONS)
    np.testing.assert_allclose(found.reference["out"], wanted, rtol=0, atol=1e-6)
    assert isinstance(scorer.model, keras.Model)
