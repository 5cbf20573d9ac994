"""Keep what Keras, TensorFlow and JAX log and warn about off the user's terminal. Loads none of them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARIES = ("absl", "jax", "tensorflow")


def log_errors_only() -> None:
    """Set the loggers of these libraries to errors, for the rest of the process."""
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Log only errors and ignore all warnings (of compiling, names, retracing) until the block ends."""
    before = {name: logging.getLogger(name).level for name in LIBRARIES}
    log_errors_only()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
