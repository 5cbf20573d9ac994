"""What every test needs: a quiet backend, a seeded generator."""

import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# what commands compile in tests is kept for other tests of this run alone
CACHE = tempfile.TemporaryDirectory(prefix="fastism-cache-")
os.environ.setdefault("FASTISM_CACHE", CACHE.name)

import numpy as np
import pytest
from hypothesis import settings

# Draws are the same in every run, and a busy machine is no failure; HYPOTHESIS_PROFILE=search draws anew.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
