"""What every test needs: a quiet backend, a seeded generator."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from fastism_cli.cli.messages import LOGGER
from fastism_cli.options.choices import parse_shard

# Draws are the same in every run, and a busy machine is no failure; HYPOTHESIS_PROFILE=search draws anew.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark ``exhaustive`` what FASTISM_TEST_SEED does not draw, before pytest selects by marks.

    With FASTISM_SHARE=I/K, run every K-th test from the I-th on, and all that are of JAX alone.
    """
    from tests.helpers.draw import is_drawn

    seed = os.environ.get("FASTISM_TEST_SEED") or "0"
    for item in items:
        dear = item.get_closest_marker("one_in")
        if dear is not None and not is_drawn(item.nodeid, dear.args[0], seed):
            item.add_marker(pytest.mark.exhaustive)
    share = parse_shard(os.environ.get("FASTISM_SHARE") or None)
    chosen = [i % share.count == share.index or "without_tensorflow" in item.nodeid for i, item in enumerate(items)]
    config.hook.pytest_deselected(items=[item for item, kept in zip(items, chosen, strict=True) if not kept])
    items[:] = [item for item, kept in zip(items, chosen, strict=True) if kept]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Names that are not UTF-8 are logged in some tests; what was captured goes to another process as UTF-8."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


# Their tests load no Keras.
WITHOUT_KERAS = {"options", "genome"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test, and the fixtures that it sets up, with engines as its mark says.

    They are uncompiled, unless the test is marked ``compiled``: tracing and XLA take most of the time with small
    models, and change no more of a number than its rounding. Tests that start a process run it as users do.
    """
    if item.get_closest_marker("compiled") or item.path.parent.name in WITHOUT_KERAS:
        return (yield)
    from tests.helpers.uncompiled import uncompiled

    with uncompiled():
        return (yield)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session", autouse=True)
def compile_cache(tmp_path_factory) -> None:
    """What commands compile is kept for other tests of this run alone."""
    os.environ["FASTISM_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def logging_as_before():
    """Handlers and level of the log are afterwards what they were: commands set their own."""
    handlers, level = list(LOGGER.handlers), LOGGER.level
    yield
    LOGGER.handlers[:] = handlers
    LOGGER.setLevel(level)
