"""What differs between TensorFlow and JAX: compiling, stages, precision, devices, memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, cast

import keras
import numpy as np

BACKEND = keras.backend.backend()
EAGER_STEPS = 8


def _graph_of(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile a function by TensorFlow, without its warning that functions of one line are traced often.

    Each model, and each of its shapes, is traced once. The warning prints the function, with all layers of the model.
    """
    import tensorflow as tf

    made = tf.function(function, autograph=False, **options)
    made._omit_frequent_tracing_warning = True
    return cast(Callable[..., Any], made)


def stage(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` by itself: it is fused with nothing outside.

    On TensorFlow a stage is an XLA-compiled function inside a graph that is not XLA-compiled; on JAX, where the whole
    chunk is one compiled function, its inputs and outputs pass an optimisation barrier. On a GPU, XLA removes barriers
    after it has fused and scheduled; on a CPU it removes them before, so that a stage has no effect there.
    """
    if BACKEND == "tensorflow":
        return _graph_of(function, jit_compile=True)
    if BACKEND == "jax":
        import jax

        def fenced(*args: Any) -> Any:
            return jax.lax.optimization_barrier(function(*jax.lax.optimization_barrier(args)))

        return fenced
    return function


def named(name: str) -> contextlib.AbstractContextManager[Any]:
    """What is computed inside has this name in the compiled program, where a profile shows it."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in " _-") else "." for c in name)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return cast(contextlib.AbstractContextManager[Any], tf.name_scope(name.replace(" ", "_")))
    if BACKEND == "jax":
        import jax

        return cast(contextlib.AbstractContextManager[Any], jax.named_scope(name))
    return contextlib.nullcontext()


def row_major(arrays: Any) -> Any:
    """The same arrays, which lie in memory in the order of their axes. On JAX alone: XLA chooses an order otherwise."""
    if BACKEND != "jax":
        return arrays
    from jax.experimental.layout import Layout, with_layout_constraint

    def pinned(x: Any) -> Any:
        rank = len(getattr(x, "shape", ()))
        return with_layout_constraint(x, Layout(major_to_minor=tuple(range(rank)))) if rank > 1 else x

    return keras.tree.map_structure(pinned, arrays)


def take(x: Any, indices: Any, axis: int) -> Any:
    """``keras.ops.take`` of indices that are known to lie inside of ``x``: on JAX, none is checked."""
    if BACKEND != "jax":
        return keras.ops.take(x, indices, axis=axis)
    import jax.numpy as jnp

    return jnp.take(x, indices, axis=axis, mode="clip")


def cut(x: Any, sizes: Sequence[int], axis: int) -> list[Any]:
    """``x`` in parts of these sizes, which add up to all of the axis.

    On TensorFlow this is one operation, where as many slices have four each: half of what a deep model's chunk was
    traced to were slices and their constants. ``keras.ops.split`` computes the sizes in the graph, and loses them.
    """
    if BACKEND != "tensorflow":
        return list(keras.ops.split(x, np.cumsum(sizes)[:-1].tolist(), axis=axis))
    import tensorflow as tf

    return list(tf.split(x, list(sizes), axis=axis))


def compiled(function: Callable[..., Any], variables: Sequence[Any] = ()) -> Callable[..., Any]:
    """Compile a function of arrays that reads Keras ``variables``; they stay arguments and are not folded.

    The variables are read at each call: they may be given other values between two.
    """
    if BACKEND == "tensorflow":
        return _graph_of(function)
    if BACKEND == "jax":
        return JaxFunction(function, variables)
    return function


class JaxFunction:
    """A function that JAX compiles, which reads Keras variables.

    Attributes
    ----------
    jitted : callable
        The compiled function of a list of the variables' values and of the arguments.
    """

    def __init__(self, function: Callable[..., Any], variables: Sequence[Any]) -> None:
        import jax

        def pure(values: Sequence[Any], *args: Any) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function(*args)

        self.jitted = jax.jit(pure)
        self._variables = variables
        self._values: list[Any] = []

    @property
    def values(self) -> list[Any]:
        """The arrays of the variables. All are given new values together: if the first has none, none has."""
        if self._variables and not (self._values and self._values[0] is self._variables[0].value):
            self._values = [v.value for v in self._variables]
        return self._values

    def __call__(self, *args: Any) -> Any:
        return self.jitted(self.values, *args)


def of_batch(x: Any, size: int) -> Any:
    """The same array, whose first axis is known to have ``size`` elements: a graph of any batch leaves it open."""
    if BACKEND != "tensorflow" or x.shape[0] is not None:
        return x
    import tensorflow as tf

    return tf.ensure_shape(x, (size, *x.shape[1:]))


def of_any_batch(function: Callable[[Sequence[Any]], Any], inputs: Sequence[Any]) -> Callable[[Sequence[Any]], Any]:
    """Make ``function``, which takes a list of arrays (n, ...), compute without knowing n.

    On TensorFlow, ``keras.ops.add`` mistakes an array (1, n, 1) or (n, 1) for a bias of the last axis if that axis has
    size n too. A prediction would then depend on how many sequences are predicted at once. ``model.predict`` hides the
    number from Keras, and so does this.

    Parameters
    ----------
    inputs : sequence of arrays
        Examples of its inputs; their first axis does not matter.
    """
    if BACKEND != "tensorflow":
        return function
    import tensorflow as tf

    specs = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in inputs]
    traced = _graph_of(function, input_signature=[specs])
    return lambda inputs: traced(list(inputs))


def loop(
    step: Callable[..., tuple[Any, Any]], state: Sequence[Any], steps: int, *, goes_on: Any = True, row: Any = None
) -> tuple[list[Any], Any, Any, Any]:
    """Call ``state, goes_on = step(t, *state)`` for t = 0, 1, ... below ``steps``, as long as ``goes_on``.

    Parameters
    ----------
    state : sequence of arrays
        The shapes stay the same.
    goes_on : bool scalar
        Whether there is a first step.
    row : array, optional
        An array like the first of ``state``: of every step, the first of its new state is kept.

    Returns
    -------
    (state, rows, steps taken, goes_on)
        ``rows`` (steps, *row.shape), zeros for steps that were not taken; None without ``row``.
    """
    if BACKEND == "tensorflow":
        return _loop_of_tensorflow(step, state, steps, goes_on, row)
    import jax

    rows = () if row is None else jax.numpy.zeros((steps, *row.shape), row.dtype)

    def body(carry: Any) -> Any:
        t, _, state, rows = carry
        state, on = step(t, *state)
        if row is not None:
            rows = jax.lax.dynamic_update_index_in_dim(rows, state[0], t, 0)
        return t + 1, on, tuple(state), rows

    first = (np.int32(0), jax.numpy.asarray(goes_on, bool), tuple(state), rows)
    t, on, state, rows = jax.lax.while_loop(lambda carry: (carry[0] < steps) & carry[1], body, first)
    return list(state), None if row is None else rows, t, on


def _loop_of_tensorflow(
    step: Callable[..., tuple[Any, Any]], state: Sequence[Any], steps: int, goes_on: Any, row: Any
) -> tuple[list[Any], Any, Any, Any]:
    import tensorflow as tf

    def body(t: Any, _: Any, state: Any, rows: Any) -> Any:
        state, on = step(t, *state)
        return t + 1, on, tuple(state), tuple(array.write(t, state[0]) for array in rows)

    def run(goes_on: Any, state: Any) -> Any:
        rows = () if row is None else (tf.TensorArray(row.dtype, size=steps, element_shape=row.shape),)
        first = (tf.constant(0), tf.convert_to_tensor(goes_on), tuple(state), rows)
        t, on, state, kept = tf.while_loop(lambda t, on, *_: tf.logical_and(t < steps, on), body, first)
        return list(state), kept[0].stack() if kept else None, t, on

    # outside of a graph, as in tests, to trace the loop takes as long as some steps of it
    traced = tf.executing_eagerly() and steps > EAGER_STEPS
    return (_graph_of(run) if traced else run)(goes_on, tuple(state))


def one_by_one(
    function: Callable[[Any], list[Any]], rows: np.ndarray, like: Sequence[tuple[tuple[int, ...], Any]]
) -> list[Any]:
    """The arrays that ``function`` makes of each row, one row after the other, stacked: the loop is part of the graph.

    Parameters
    ----------
    rows : array (n, ...)
    like : sequence of (shape, dtype)
        What each array is like.

    Returns
    -------
    list of arrays (n, *shape)
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        specs = [tf.TensorSpec(shape, dtype) for shape, dtype in like]
        stacked: list[Any] = tf.map_fn(
            function, tf.convert_to_tensor(rows), fn_output_signature=specs, parallel_iterations=1
        )
        return stacked
    if BACKEND == "jax":
        import jax

        return list(jax.lax.map(function, jax.numpy.asarray(rows)))
    return [keras.ops.stack(arrays) for arrays in zip(*map(function, rows), strict=True)]


def allow_float64() -> None:
    """Let arrays be float64: by default JAX cuts them to float32, and so do Keras' operations on JAX.

    For the rest of the process, and why not for a block: the model in float64 is compiled when it is first called with
    inputs of a new shape, at any later time and in any thread. Arrays of float32 stay float32 beside it.
    """
    if BACKEND == "jax":
        import jax
        from keras.src.backend.common import dtypes

        jax.config.update("jax_enable_x64", True)
        # without this, tanh or a variance of float64 is float32, and a check in float64 would check nothing
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"


def training_operations(function: Callable[[Sequence[Any]], Any], inputs: Sequence[Any]) -> list[str]:
    """Names of the operations in a TensorFlow graph that draw random numbers or normalise with the batch's statistics.

    Parameters
    ----------
    function : callable
        From a list of arrays to arrays.
    inputs : sequence of arrays

    Returns
    -------
    list of str
        As TensorFlow names them, the layer first: "model/mc_dropout/dropout/random_uniform/RandomUniform". Empty on
        other backends.
    """
    if BACKEND != "tensorflow":
        return []
    import tensorflow as tf

    graph = tf.function(function, autograph=False).get_concrete_function(list(inputs)).graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return list(dict.fromkeys(node.name for node in nodes if _is_of_training(node)))


def _is_of_training(node: Any) -> bool:
    name = node.op.lower()
    is_random = any(word in name for word in ("random", "truncatednormal", "multinomial"))
    return is_random or ("fusedbatchnorm" in name and node.attr["is_training"].b)


def to_numpy(x: Any) -> np.ndarray:
    return np.asarray(x) if BACKEND == "jax" else keras.ops.convert_to_numpy(x)


def start_copy(arrays: Sequence[Any]) -> None:
    """Have arrays copied to the host as soon as they are computed; :func:`to_numpy` waits for it. On JAX alone."""
    if BACKEND == "jax":
        for x in arrays:
            if hasattr(x, "copy_to_host_async"):
                x.copy_to_host_async()


def as_argument(x: Any, dtype: str) -> Any:
    """An array of the host as an argument of a :func:`compiled` function: JAX takes it as it is."""
    array = np.asarray(x, dtype)
    return array if BACKEND == "jax" else keras.ops.convert_to_tensor(array)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the backend reports with this error that the device has no memory left."""
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(
        word in text for word in ("RESOURCE_EXHAUSTED", "ResourceExhausted", "Out of memory", "OOM when allocating")
    )


@contextlib.contextmanager
def matrix_precision(precision: str) -> Iterator[None]:
    """Multiply in true float32 unless TF32 is asked for; on recent GPUs, both backends use TF32 by default."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)
    elif BACKEND == "jax":
        import jax

        names = {"tf32": "tensorfloat32", "bfloat16": "bfloat16"}
        with jax.default_matmul_precision(names.get(precision, "highest")):
            yield
    else:
        yield


def multiplies_in_tf32() -> bool:
    """Whether :func:`matrix_precision` is "tf32" here."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.experimental.tensor_float_32_execution_enabled())
    if BACKEND == "jax":
        import jax

        return jax.config.jax_default_matmul_precision == "tensorfloat32"
    return False


def version() -> str:
    """Version of the backend."""
    return str(import_module(BACKEND).__version__)


def free_memory() -> int | None:
    """Bytes that the backend can still fill on the device, or None where it does not say."""
    if BACKEND != "jax":
        return None
    import jax

    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0)) if "bytes_limit" in stats else None


def device_kind() -> str:
    """The device of the arrays: "gpu" or "cpu"."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    if BACKEND == "jax":
        import jax

        return "cpu" if jax.default_backend() == "cpu" else "gpu"
    return "cpu"
