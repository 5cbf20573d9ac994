"""Rewrite the configuration of a model of an older Keras so that Keras 3 reads it with the same meaning.

In memory only; the user's file is never written. Each repair is one small function; tables say what it repairs.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, NamedTuple

from fastism_cli.model.loading.config_entries import (
    MODEL_MODULES,
    Config,
    Context,
    all_entries,
    builtin_class,
    decode,
    function_name,
    is_bytecode,
    is_custom,
    is_layer_entry,
    known_names,
    named_function,
    objects_in,
    plain_name,
    unknown_arguments,
)

# --- calls in a graph of Keras 2 -------------------------------------------------------------------------------------


def rewire(layer: Config, context: Context) -> None:
    """Rewrite the calls in a functional model: arguments by name, nested models without the node of their own input."""
    if "input_layers" not in _config(layer) or not _is_keras2_graph(layer["config"]):
        return
    graph = layer["config"]
    shifts = {inner["name"]: own_nodes(inner, graph) for inner in graph["layers"] if _is_model(inner)}
    models = {inner["name"] for inner in graph["layers"] if "input_layers" in _config(inner)}
    for inner in graph["layers"]:
        inner["inbound_nodes"] = [_call(node, shifts) for node in inner.get("inbound_nodes", ())]
    for ends in ("input_layers", "output_layers"):
        graph[ends] = _unwrapped([_end(tensor, shifts, models) for tensor in _tensors(graph[ends])])


def _is_keras2_graph(graph: Config) -> bool:
    nodes = [node for inner in graph["layers"] for node in inner.get("inbound_nodes", ())]
    return all(isinstance(node, list) for node in nodes)


def _is_model(layer: Config) -> bool:
    return layer["class_name"] == "Sequential" or "layers" in _config(layer)


def _config(layer: Config) -> Config:
    return layer["config"] if isinstance(layer["config"], dict) else {}


def own_nodes(model: Config, graph: Config) -> int:
    """How many nodes a nested model has besides its calls: one in Keras 2 (its own input), or none if it had no input.

    The file does not say, but calls are numbered from there: of ``n`` calls the last is ``n`` or ``n - 1``.
    """
    calls = [inner.get("inbound_nodes") for inner in graph["layers"]]
    used = {tensor[1] for tensor in _tensors([calls, graph["output_layers"]]) if tensor[0] == model["name"]}
    return 0 if 0 in used else 1


def _tensors(value: Any) -> list[list[Any]]:
    """Every ``[layer, node, tensor]`` in a nested value, with what follows it."""
    if _is_tensor(value):
        return [value, *(_tensors(value[3]) if len(value) > 3 else [])]
    if isinstance(value, (list, dict)):
        return [
            tensor for inner in (value.values() if isinstance(value, dict) else value) for tensor in _tensors(inner)
        ]
    return []


def _is_tensor(value: Any) -> bool:
    if not isinstance(value, list) or len(value) not in (3, 4) or not isinstance(value[0], str):
        return False
    return isinstance(value[1], int) and isinstance(value[2], int)


def _call(node: list[Any], shifts: Mapping[str, int]) -> Config:
    tensors = (
        [node] if _is_tensor(node) else node
    )  # for a layer that wraps a TensorFlow function, there is no list around it
    inputs = [_reference(tensor, shifts) for tensor in tensors]
    stored = tensors[0][3] if tensors and len(tensors[0]) > 3 else {}
    keywords = {name: _argument(value, shifts) for name, value in stored.items()}
    return {"args": [inputs[0] if len(inputs) == 1 else inputs], "kwargs": keywords}


def _argument(value: Any, shifts: Mapping[str, int]) -> Any:
    if _is_tensor(value):
        return _reference(value, shifts)
    return [_argument(item, shifts) for item in value] if isinstance(value, list) else value


def _reference(tensor: list[Any], shifts: Mapping[str, int]) -> Config:
    name, node, index = tensor[:3]
    history = [plain_name(name), node - shifts.get(name, 0), index]
    return {"class_name": "__keras_tensor__", "config": {"shape": [], "dtype": "float32", "keras_history": history}}


def _end(tensor: list[Any], shifts: Mapping[str, int], models: set[str]) -> list[Any]:
    # Keras 3 numbers the calls of a nested functional model from 1 here, and only here.
    name, node, index = tensor[:3]
    return [plain_name(name), node - shifts.get(name, 0) + (name in models), index]


def _unwrapped(tensors: list[Any]) -> Any:
    """One input or output is a tensor, not a list of one: predictions are then an array as they were in Keras 2."""
    return tensors[0] if len(tensors) == 1 else tensors


def waiting_layers(graph: Config) -> list[str]:
    """Layers of a Keras 2 graph that are called on what is never computed: a circle, or a call that is not there.

    tf_keras tries such a call again without end.
    """
    calls = {layer["name"]: list(layer.get("inbound_nodes") or ()) for layer in graph["layers"]}
    inputs = {layer["name"] for layer in graph["layers"] if layer["class_name"] == "InputLayer"}
    first = {layer["name"]: _first_call(layer, graph) for layer in graph["layers"] if _is_model(layer)}
    done: Counter[str] = Counter()

    def is_there(name: str, node: Any) -> bool:
        start = first.get(name, 0)
        return name in inputs or name not in calls or node in range(start, start + done[name])

    went_on = True
    while went_on:
        went_on = False
        for name, nodes in calls.items():
            while done[name] < len(nodes) and all(is_there(*read) for read in _inputs_of(nodes[done[name]])):
                done[name] += 1
                went_on = True
    return [name for name, nodes in calls.items() if done[name] < len(nodes)]


def _first_call(model: Config, graph: Config) -> int:
    """The number of the first call of a nested model, as tf_keras counts."""
    inner = model["config"]["layers"] if isinstance(model["config"], dict) else model["config"]
    return 1 if inner and inner[0]["class_name"] == "InputLayer" else own_nodes(model, graph)


def _inputs_of(call: Any) -> Iterator[tuple[str, Any]]:
    """Layer and node of every ``[layer, node, tensor]`` that a stored call reads, be they numbers or not."""
    if isinstance(call, list) and len(call) in (3, 4) and isinstance(call[0], str):
        yield call[0], call[1]
        yield from _inputs_of(call[3:])
    elif isinstance(call, (list, dict)):
        for inner in call.values() if isinstance(call, dict) else call:
            yield from _inputs_of(inner)


# --- the repairs -----------------------------------------------------------------------------------------------------

HARD_SIGMOID = "keras2_hard_sigmoid"


class Repair(NamedTuple):
    """``cure`` changes the entry of one layer in place; it leaves an entry without the ``fault`` alone."""

    fault: str
    cure: Callable[[Config, Context], None]


# --- facts ------------------------------------------------------------------------------------------------------------

RENAMED = {
    "Model": "Functional",
    "Network": "Functional",
    "Container": "Functional",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "UnifiedLSTM": "LSTM",
    "UnifiedGRU": "GRU",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
}

# Arguments with which the new class does what the old one did by default.
RENAMED_WITH: dict[str, Config] = {
    "CuDNNLSTM": {"activation": "tanh", "recurrent_activation": "sigmoid"},
    "CuDNNGRU": {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True},
}


def _anything(value: object) -> bool:
    return True


def _falsy(value: object) -> bool:
    return not value


# Arguments that one Keras writes and another refuses, and the values with which they change no prediction.
# Other arguments are never dropped: Keras then refuses the layer, and the message names the argument.
HARMLESS: dict[str, Callable[[Any], bool]] = {
    "time_major": _falsy,
    "implementation": _anything,  # how an RNN multiplies, not what
    "num_constants": _falsy,
    "groups": lambda value: value in (None, 1),
    "ragged": _falsy,
    "sparse": _falsy,
    "optional": _falsy,
    "dynamic": _falsy,
    "fused": _anything,
    "virtual_batch_size": _anything,  # of training only
    "adjustment": _falsy,
    "renorm": _falsy,
    "renorm_clipping": _anything,
    "renorm_momentum": _anything,
    "synchronized": _anything,  # of training only
    "input_length": _anything,
    "experimental_autocast": _anything,
    "query_shape": _anything,  # MultiHeadAttention finds its shapes when it is called
    "key_shape": _anything,
    "value_shape": _anything,
    "softmax_robust_masking": _falsy,
    "data_format": lambda value: value in (None, "channels_last"),
    "noise_shape": _anything,  # of training only, as is the next
    "trainable": _anything,
    "rng_type": _anything,  # of random layers, which do nothing at inference
    "force_generator": _anything,
    # written by later versions of Keras 3
    "quantization_config": _falsy,
    "lora_rank": _falsy,
    "lora_alpha": _anything,
    "gptq_unpacked_column_size": _anything,
    "use_gate": _falsy,
    "sliding_window": _falsy,
    "flash_attention": _anything,
    "use_cudnn": _anything,
    "seed": _anything,
}

TRAINING_ONLY = {"_initializer": "zeros", "_regularizer": None, "_constraint": None}
BYTECODE = ("code", "defaults", "closure")
LAMBDA_BOOKKEEPING = ("module", "function_type", "output_shape_type", "output_shape_module")


def keras2_hard_sigmoid(x: Any) -> Any:
    """``hard_sigmoid`` as Keras 1 and 2 computed it: ``clip(0.2 x + 0.5, 0, 1)``. Keras 3 has ``x / 6 + 0.5``."""
    from keras import ops

    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# --- the whole configuration ------------------------------------------------------------------------------------------


def repair_config(config: Config, *, keras2: bool = True, objects: Mapping[str, object] | None = None) -> Config:
    """A copy of a model's configuration that Keras 3 reads, in which every argument keeps its meaning.

    Parameters
    ----------
    config : dict
        ``{"class_name": ..., "config": ...}`` as stored in the model file.
    keras2 : bool
        Whether Keras 1 or 2 wrote it. Then ``hard_sigmoid`` is that of Keras 2, and a GRU that does not say
        ``reset_after`` means False: Keras 3 would take such a file and compute something else.
    objects : mapping, optional
        The user's classes and functions by name; a layer of these classes keeps its arguments as they are.
    """
    context = Context({**registered_objects(), **(objects or {})}, keras2)
    repaired = decode(copy.deepcopy(config))
    repair_layer(repaired, context)
    return repaired


def repair_layer(layer: Config, context: Context) -> None:
    """Apply every repair to the entry of one layer, then to the entries inside it."""
    if function_name(layer) in context.objects:
        layer.update(named_function(function_name(layer)))
    if not is_layer_entry(layer):
        return
    for repair in LAYER_REPAIRS:
        repair.cure(layer, context)
    for inner in objects_in(layer["config"]):
        repair_layer(inner, context)


def registered_objects() -> Mapping[str, object]:
    """Objects that the user's modules have registered with Keras."""
    import keras

    return keras.saving.get_custom_objects()


def use_own_functions(config: Config, objects: Mapping[str, object]) -> Config:
    """A copy in which a Lambda layer with the name of a user's function runs that function, not the code of the file.

    Bytecode runs only in the Python version that wrote it, so this is often the only way to load such a layer.
    """
    config = decode(copy.deepcopy(config))
    for entry in all_entries(config):
        name = entry["config"].get("name", "") if isinstance(entry["config"], dict) else ""
        if entry["class_name"] == "Lambda" and isinstance(objects.get(name), FunctionType):
            entry["config"] = {key: value for key, value in entry["config"].items() if not is_bytecode(value)}
            entry["config"].update(function=_like(entry, name), function_type="function", module=None)
    return config


def _like(entry: Config, name: str) -> Any:
    return named_function(name) if entry.get("module") else name


def plain_config(config: Config, objects: Mapping[str, object]) -> Config:
    """A copy without modules, as early Keras 2 wrote it: tf_keras finds its own classes and imports nothing."""
    config = copy.deepcopy(config)
    context = Context(objects)
    for entry in filter(is_layer_entry, all_entries(config)):
        rename_class(entry, context)
        entry["class_name"] = next((name for name in known_names(entry) if name in objects), entry["class_name"])
        for key in ("module", "registered_name", "compile_config", "build_config"):
            entry.pop(key, None)
    return config


# --- repairs of one layer ---------------------------------------------------------------------------------------------


def rename_class(layer: Config, context: Context) -> None:
    old = layer["class_name"]
    if old in RENAMED and not is_custom(layer, context):
        layer["class_name"] = RENAMED[old]
        layer["config"] = {**RENAMED_WITH.get(old, {}), **_mapping(layer["config"])}


def _mapping(config: Any) -> Config:
    return config if isinstance(config, dict) else {"layers": config}


def name_sequential(layer: Config, context: Context) -> None:
    if layer["class_name"] != "Sequential" or is_custom(layer, context):
        return
    layer["config"] = {"name": layer.get("name", "sequential"), **_mapping(layer["config"])}


def add_input_layer(layer: Config, context: Context) -> None:
    if layer["class_name"] != "Sequential" or is_custom(layer, context) or not layer["config"]["layers"]:
        return
    first = layer["config"]["layers"][0]
    shape = first["config"].get("batch_input_shape") if isinstance(first["config"], dict) else None
    if first["class_name"] != "InputLayer" and shape is not None:
        layer["config"]["layers"].insert(0, _input_layer(first["config"], shape))


def _input_layer(first: Config, shape: list[int | None]) -> Config:
    dtype = first.get("dtype") if isinstance(first.get("dtype"), str) else None
    name = f"{first.get('name', 'sequential')}_input"
    return {"class_name": "InputLayer", "config": {"batch_shape": shape, "dtype": dtype, "name": name}}


def shape_of_input(layer: Config, context: Context) -> None:
    if layer["class_name"] == "InputLayer" and "batch_input_shape" in layer["config"]:
        layer["config"]["batch_shape"] = layer["config"].pop("batch_input_shape")


def forget_input_shape(layer: Config, context: Context) -> None:
    for name in ("batch_input_shape", "input_dtype"):
        layer["config"].pop(name, None)


def name_of_policy(layer: Config, context: Context) -> None:
    policy = layer["config"].get("dtype")
    if not context.keras2 or not isinstance(policy, dict):
        return
    name = policy.get("config", {}).get("name")
    layer["config"]["dtype"] = None if name in (None, "infer", "_infer") else name.removesuffix("_vars")


def single_axis(layer: Config, context: Context) -> None:
    axis = layer["config"].get("axis")
    if layer["class_name"] == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        layer["config"]["axis"] = axis[0]


def forget_training(layer: Config, context: Context) -> None:
    """Drop initializers, regularizers and constraints: the weights come from the file."""
    layer.pop("compile_config", None)
    if builtin_class(layer, context) is None:
        return
    for name in layer["config"]:
        for suffix, neutral in TRAINING_ONLY.items():
            if name.endswith(suffix):
                layer["config"][name] = neutral
    if context.keras2:
        layer.pop("build_config", None)


def activation_of_keras2(layer: Config, context: Context) -> None:
    if builtin_class(layer, context) is None:
        return
    for name in (name for name in layer["config"] if name.endswith("activation")):
        called = function_name(layer["config"][name])
        if context.keras2 and called == "hard_sigmoid":
            layer["config"][name] = named_function(HARD_SIGMOID)
        elif called in context.objects:
            layer["config"][name] = named_function(called)


def gru_of_keras2(layer: Config, context: Context) -> None:
    if context.keras2 and layer["class_name"] in ("GRU", "GRUCell") and builtin_class(layer, context):
        layer["config"].setdefault("reset_after", False)


def forget_state(layer: Config, context: Context) -> None:
    """Sequences are scored one by one. Keras 3 builds a stateful layer only for a fixed number of them."""
    if layer["config"].get("stateful") and builtin_class(layer, context):
        layer["config"]["stateful"] = False


def slope_of_leaky_relu(layer: Config, context: Context) -> None:
    if layer["class_name"] == "LeakyReLU" and "alpha" in layer["config"] and builtin_class(layer, context):
        layer["config"]["negative_slope"] = layer["config"].pop("alpha")


def function_of_lambda(layer: Config, context: Context) -> None:
    if layer["class_name"] != "Lambda" or is_custom(layer, context):
        return
    config = layer["config"]
    for name in LAMBDA_BOOKKEEPING:
        config.pop(name, None)
    for name in ("function", "output_shape", "mask"):
        config[name] = _function_entry(config.get(name))
        if config[name] is None:
            del config[name]


def _function_entry(value: Any) -> Any:
    if is_bytecode(value):
        stored = value if isinstance(value, list) else [value["config"].get(part) for part in BYTECODE]
        # All three under "code": there, and only there, Keras turns a list of defaults back into a tuple.
        return {"class_name": "__lambda__", "config": {**dict.fromkeys(BYTECODE), "code": stored}}
    return named_function(value) if isinstance(value, str) else value


def drop_harmless(layer: Config, context: Context) -> None:
    for name, value in unknown_arguments(layer, context).items():
        of_training = name.endswith(tuple(TRAINING_ONLY))
        if of_training or (name in HARMLESS and HARMLESS[name](value)):
            del layer["config"][name]


def name_module(layer: Config, context: Context) -> None:
    if builtin_class(layer, context) is not None:
        layer["module"] = MODEL_MODULES.get(layer["class_name"], "keras.layers")
        layer["registered_name"] = None
    elif is_custom(layer, context):
        names = [name for name in known_names(layer) if name]
        layer["module"] = None  # found by name among the user's objects, never by import
        layer["registered_name"] = next((name for name in names if name in context.objects), names[0])
        layer["class_name"] = names[-1]


def plain_names(layer: Config, context: Context) -> None:
    """Keras 3 refuses a slash in the name of a layer."""
    for entry in (layer, layer["config"]):
        if isinstance(entry.get("name"), str):
            entry["name"] = plain_name(entry["name"])


# Order matters: classes first, as other repairs look them up; arguments are renamed, then dropped; modules last.
LAYER_REPAIRS = (
    Repair("classes that were renamed, cuDNN layers", rename_class),
    Repair("a Sequential saved by Keras <= 2.1 is a list", name_sequential),
    Repair("the input shape lies on the first layer", add_input_layer),
    Repair("batch_input_shape of an InputLayer", shape_of_input),
    Repair("batch_input_shape of any other layer", forget_input_shape),
    Repair("the calls of a graph as Keras 1 and 2 wrote them", rewire),
    Repair("dtype as a policy of tf.keras", name_of_policy),
    Repair("the axis of batch normalisation as a list of one", single_axis),
    Repair("unknown initializers, regularizers, constraints, losses", forget_training),
    Repair("functions by name; hard_sigmoid meant something else", activation_of_keras2),
    Repair("GRU without reset_after", gru_of_keras2),
    Repair("stateful recurrent layers", forget_state),
    Repair("LeakyReLU(alpha)", slope_of_leaky_relu),
    Repair("Lambda as Keras 2 wrote it", function_of_lambda),
    Repair("arguments that are gone", drop_harmless),
    Repair("slashes in names", plain_names),
    Repair("entries that do not say their module", name_module),
)
