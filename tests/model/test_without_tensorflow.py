"""JAX, where TensorFlow is not installed: the commands, and how the engine is compiled. `make test-jax` runs this."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest

from benchmarks.device import device_memory, device_name
from fastism_cli import FastISM
from fastism_cli.engine.verify import verify
from fastism_cli.model import backend
from fastism_cli.model.loading.load import load_model
from tests.helpers.small_run import LENGTH, plain

pytestmark = [
    pytest.mark.skipif(backend.BACKEND != "jax", reason="of JAX alone; make test-jax runs it"),
    pytest.mark.compiled,
]
EXAMPLES = Path(__file__).parents[2] / "examples"
COMPILED = "/jax/core/compile/backend_compile_duration"


def fastism(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "default", "-m", "fastism_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLES.parent, check=False, env=os.environ)


# --- the commands -----------------------------------------------------------------------------------------------------

needs_none = pytest.mark.skipif(find_spec("tensorflow") is not None, reason="TensorFlow is installed here")


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Path:
    """Three of the demo's peaks, scored by the command."""
    folder = tmp_path_factory.mktemp("demo")
    peaks, output = folder / "three.bed", folder / "three.ism.h5"
    records = [line.split("\t")[:4] for line in (EXAMPLES / "demo.bed").read_text().splitlines()[:3]]
    peaks.write_text("".join("\t".join(record) + "\n" for record in records))
    files = ["--model", EXAMPLES / "demo.keras", "--bed", peaks, "--fasta", EXAMPLES / "demo.fa"]
    ran = fastism("run", *files, "--output", output)
    assert ran.returncode == 0, ran.stderr
    assert "3 regions, 4,500 substitutions -> " in ran.stderr
    assert "arning" not in ran.stderr, ran.stderr
    return output


@needs_none
def test_run_gives_what_plain_keras_gives_in_float64(result):
    naive = FastISM(load_model(EXAMPLES / "demo.keras"), engine="naive", precision="float64", batch_size=150)
    positions = [0, 1, 249, 250, 498, 499]
    with h5py.File(result) as file:
        one_hot = np.eye(5, 4, dtype="float32")[file["seq"][:]]
        exact = naive(one_hot, positions=positions)
        for head, expected in exact.delta.items():
            found = file["delta"][head][:][..., positions, :]
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
            np.testing.assert_allclose(found, expected, atol=1e-5)
            assert np.nanmax(np.abs(expected)) > 0.01


@needs_none
def test_the_file_says_so(result):
    with h5py.File(result) as file:
        assert (file.attrs["backend"], file.attrs["tensorflow_version"]) == ("jax", "")
        assert file.attrs["backend_version"] == version("jax")


@needs_none
@pytest.mark.parametrize(
    "command", [["inspect", "demo.keras"], ["verify", "--model", "demo.keras", "--positions", "3"]]
)
def test_the_other_commands_that_load_a_model(command):
    done = fastism(*(EXAMPLES / word if word.endswith(".keras") else word for word in command))
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "arning" not in done.stderr, done.stderr


@needs_none
def test_a_model_that_needs_tensorflow_is_refused_in_one_line(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    done = fastism("inspect", tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith("this model needs tf_keras and TensorFlow: pip install tf-keras\n"), done.stderr
    assert "Traceback" not in done.stderr


# --- how it is compiled -----------------------------------------------------------------------------------------------


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Grows by one for every function that XLA compiles."""
    import jax

    seen: list[str] = []

    def listen(event: str, seconds: float, **_: object) -> None:
        if event == COMPILED:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def sequences(n: int) -> np.ndarray:
    return np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (n, LENGTH))]


def test_chunks_are_compiled_once_for_all(compilations):
    scorer = FastISM(plain(), engine="fast", batch_size=24)
    one, five = sequences(5)[:1], sequences(5)
    scorer(one)
    first = len(compilations)
    assert first > 0
    scorer(one)
    scorer(five)
    assert len(compilations) == first


def test_more_chunks_take_no_more_compiling(compilations):
    counts = []
    for batch in (60, 12):  # 2 and 10 chunks
        scorer, before = FastISM(plain(), engine="fast", batch_size=batch), len(compilations)
        scorer(sequences(1))
        (_, calls), *others = scorer.batching.engines.values()
        assert not others
        counts.append((len(calls), len(compilations) - before))
    (few, with_few), (many, with_many) = counts
    # one for each chunk would be 8 more; a single operation may have been compiled for the first by an earlier test
    assert few + 8 <= many and with_many <= with_few + 1


def test_a_chunk_is_one_compiled_function(monkeypatch):
    """Its stages are called while it is traced, with tracers, and never again."""
    import jax

    stage, traced = backend.stage, []

    def counting(function):
        def call(*arguments):
            arrays = jax.tree.leaves(arguments)
            traced.append(any(isinstance(x, jax.core.Tracer) for x in arrays))
            return stage(function)(*arguments)

        return call

    monkeypatch.setattr(backend, "stage", counting)
    scorer = FastISM(plain(), engine="fast", batch_size=24)
    scorer(sequences(1))
    assert traced and all(traced)
    during_first = len(traced)
    scorer(sequences(3))
    assert len(traced) == during_first


def test_stages_are_fenced_in_what_xla_is_given():
    import jax

    fenced = backend.stage(lambda x: [x * 2])
    text = jax.jit(lambda x: fenced(fenced(x)[0])).lower(np.ones(3, "float32")).as_text()
    assert text.count("optimization_barrier") == 4


# --- float64 and memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["tanh", "exp", "var", "sin", "softplus", "matmul"])
def test_float64_stays_float64(operation):
    import keras

    backend.allow_float64()
    x = keras.ops.ones((3, 3), "float64")
    arguments = (x, x) if operation == "matmul" else (x,)
    assert getattr(keras.ops, operation)(*arguments).dtype == "float64"


def test_float32_stays_float32_beside_it():
    backend.allow_float64()
    report = verify(FastISM(plain()), sequences(1))
    assert report.passed and report.judge == "float64"
    (head,) = report.heads
    assert head.naive_error > 0


def test_out_of_memory_as_jax_says_it(monkeypatch):
    import jax

    scorer = FastISM(plain(), engine="fast", batch_size=60)
    whole = scorer(sequences(2)).delta
    make, asked = scorer.batching.engine_for, []

    def refuse(wanted, n, substitutions):
        asked.append(substitutions)
        engine, calls = make(wanted, n, substitutions)
        if substitutions > 20:
            error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")
            monkeypatch.setattr(engine, "deltas", lambda *_: (_ for _ in ()).throw(error))
        return engine, calls

    monkeypatch.setattr(scorer.batching, "engine_for", refuse)
    scorer.batching.engines.clear()
    halved = scorer(sequences(2)).delta
    assert asked[:3] == [60, 30, 15] and scorer.batching.batch_size == 15
    np.testing.assert_allclose(halved["out"], whole["out"], atol=1e-6)


def test_an_error_of_another_kind_is_not_taken_for_it():
    import jax

    error = jax.errors.JaxRuntimeError("INTERNAL: cuDNN failed")
    assert not backend.is_out_of_memory(error)


def test_the_device():
    assert backend.device_kind() in ("cpu", "gpu") and device_name()
    memory = device_memory()
    assert memory is None or memory > 0
