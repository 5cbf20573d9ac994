"""What a benchmark says of the machine that it ran on: device, memory, versions."""

from __future__ import annotations

import keras

from fastism_cli.model import backend
from fastism_cli.model.backend import BACKEND


def device_name() -> str:
    """What the driver calls the device that the arrays live on; "" where it has no name."""
    if BACKEND == "jax":
        import jax

        return str(jax.local_devices()[0].device_kind)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        details = [tf.config.experimental.get_device_details(d) for d in tf.config.list_physical_devices("GPU")]
        return str(details[0].get("device_name", "")) if details else ""
    return ""


def device_memory() -> int | None:
    """Bytes that the backend may fill on the device, or None where it does not say."""
    if BACKEND == "jax":
        import jax

        stats = jax.local_devices()[0].memory_stats()
        return int(stats["bytes_limit"]) if stats and "bytes_limit" in stats else None
    return None


def versions() -> dict[str, str]:
    """Versions of Keras and of the backend."""
    return {"keras": keras.__version__, BACKEND: backend.version()}
