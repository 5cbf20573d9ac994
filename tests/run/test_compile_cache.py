"""What the backend compiled is kept for the next run, and a damaged file never meets it."""

import json
import os
import subprocess
import sys

import pytest

from fastism_cli.run import start_backend


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """TensorFlow's folder of a cache of its own."""
    monkeypatch.setenv("FASTISM_CACHE", str(tmp_path))
    for name in ("TF_XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, "")  # so that it is as it was, afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(start_backend.atexit, "register", lambda *_: None)
    return start_backend.use_compile_cache()


def again(folder):
    os.environ.pop("TF_XLA_FLAGS")
    assert start_backend.use_compile_cache() == folder
    return sorted(path.name for path in folder.glob("*.pb"))


def test_both_backends_are_told(folder, tmp_path):
    assert os.environ["TF_XLA_FLAGS"] == f"--tf_xla_persistent_cache_directory={folder}"
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "jax")


def test_only_sealed_files_stay(folder):
    for name in ("a", "b", "c"):
        (folder / f"{name}.pb").write_bytes(name.encode() * 100)
    start_backend.seal(folder)
    (folder / "late.pb").write_bytes(b"of a run that was killed")
    (folder / "b.pb").write_bytes(b"b" * 40)
    (folder / "c.pb").write_bytes(b"C" * 100)
    assert again(folder) == ["a.pb"]


@pytest.mark.parametrize("text", ['{"a.pb": [1', "[]", "3", '{"a.pb": 1}', "[" * 100_000])
def test_a_damaged_list_of_seals_is_an_empty_one(folder, text):
    (folder / "a.pb").write_bytes(b"a")
    start_backend.seal(folder)
    (folder / start_backend.SEALS).write_text(text)
    assert again(folder) == []
    start_backend.seal(folder)


def test_the_name_of_the_folder_can_hold_blanks(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_XLA_FLAGS")
    monkeypatch.setenv("FASTISM_CACHE", str(tmp_path / 'My "Lab"'))
    start_backend.use_compile_cache()
    quoted = rf'="{tmp_path}/My \"Lab\"/xla/'
    assert quoted in os.environ["TF_XLA_FLAGS"]


def test_the_oldest_go_first(folder, monkeypatch):
    for i, name in enumerate(("old", "new")):
        (folder / f"{name}.pb").write_bytes(bytes(60))
        os.utime(folder / f"{name}.pb", (i, i))
    start_backend.seal(folder)
    monkeypatch.setattr(start_backend, "MAX_BYTES", 100)
    assert again(folder) == ["new.pb"]


@pytest.mark.parametrize("value", ["off", "0", ""])
def test_it_can_be_off(value, monkeypatch):
    monkeypatch.setenv("FASTISM_CACHE", value)
    assert start_backend.use_compile_cache() is None


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTISM_CACHE", str(tmp_path / "file"))
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    assert start_backend.use_compile_cache() is None
    assert "TF_XLA_FLAGS" not in os.environ


def test_the_users_own_flag_wins(monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory=/mine")
    assert start_backend.use_compile_cache() is None


SCRIPT = """
from fastism_cli.run.start_backend import import_backend
import_backend()
import tensorflow as tf
print(float(tf.function(lambda x: x * 2 + 1, jit_compile=True)(tf.constant(3.0))))
"""


@pytest.mark.one_in(48)
def test_tensorflow_compiles_once(tmp_path):
    """The second process adds nothing, and neither says a word."""
    environment = {**os.environ, "FASTISM_CACHE": str(tmp_path / 'My "Lab"'), "KERAS_BACKEND": "tensorflow"}
    environment.pop("TF_XLA_FLAGS", None)
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    kept = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "7.0\n", "")
        kept.append({path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pb")})
    assert kept[0] == kept[1] and len(kept[0]) == 1
    (seals,) = tmp_path.rglob(start_backend.SEALS)
    assert set(json.loads(seals.read_text())) == set(kept[0])
