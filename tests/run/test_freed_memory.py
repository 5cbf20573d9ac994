"""TensorFlow keeps what it frees on a processor: large arrays are not mapped again and again."""

import os
import subprocess
import sys

import keras
import pytest

from fastism_cli.run import start_backend

COUNTED = """
import resource
from fastism_cli.run.start_backend import import_backend

import_backend()
import tensorflow as tf

add = tf.function(lambda x: tf.reduce_sum(x + 1.0))
x = tf.zeros(12_000_000)  # 48 MB
for _ in range(3):
    add(x)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    add(x)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture
def unset(monkeypatch):
    """Variables that are not set, and are as they were, afterwards."""
    for name in start_backend.KEEPS_MEMORY:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_what_the_user_has_set_stays(unset, monkeypatch):
    monkeypatch.setenv("TF_CPU_BFC_MEM_LIMIT_IN_MB", "4000")
    start_backend.keep_freed_memory()
    assert {name: os.environ[name] for name in start_backend.KEEPS_MEMORY} == {
        "TF_CPU_ALLOCATOR_USE_BFC": "true",
        "TF_CPU_BFC_MEM_LIMIT_IN_MB": "4000",
    }


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a setting of TensorFlow")
def test_pages_of_large_arrays_are_mapped_once(unset):
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "FASTISM_CACHE": "off"}
    done = subprocess.run([sys.executable, "-c", COUNTED], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2_000  # of 4 kB; each call's array has 11,719
