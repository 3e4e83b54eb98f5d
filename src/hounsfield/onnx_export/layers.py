"""The layers of our networks as ONNX nodes: one small function a kind, and the table of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.onnx_export.graph import GraphWriter, NotConvertible, Tensor, activate, clipped


def _numpy(variable: Any) -> npt.NDArray[Any]:
    return np.asarray(variable.numpy(), dtype=np.float32)


# -- Convolutions, dense layers, pooling ----------------------------------------------------------------------------


def _window(layer: Any, source: Tensor, size: Sequence[int], dilation: Sequence[int]) -> dict[str, Any]:
    """The attributes of a sliding window; "same" is TensorFlow's: the odd sample is added at the end."""
    if getattr(layer, "data_format", "channels_last") != "channels_last" or layer.padding not in ("same", "valid"):
        raise NotConvertible(f"{layer.name} has padding {layer.padding} or channels first")
    attributes: dict[str, Any] = {"kernel_shape": list(size), "strides": list(layer.strides)}
    if layer.padding == "valid":
        return attributes
    lengths = source.shape[1:-1]
    if None in lengths:
        return attributes | {"auto_pad": "SAME_UPPER"}
    totals = [
        max((math.ceil(length / stride) - 1) * stride + (kernel - 1) * step + 1 - length, 0)
        for length, stride, kernel, step in zip(lengths, layer.strides, size, dilation, strict=True)
    ]
    return attributes | {"pads": [total // 2 for total in totals] + [total - total // 2 for total in totals]}


def _convolve(
    writer: GraphWriter, layer: Any, source: Tensor, kernel: Any, *, groups: int, strided: bool = True
) -> str:
    """One convolution; ``kernel`` is Keras's variable (*size, inputs a group, outputs), depthwise turned likewise."""
    values = _numpy(kernel)
    size = values.shape[:-2]
    if groups > 1 and values.shape[-2] * groups != source.shape[-1]:
        # A depthwise kernel is (*size, inputs, multiplier): every input channel is a group of its own.
        values = values.reshape(*size, 1, -1)
    dilation = tuple(layer.dilation_rate)
    attributes = _window(layer, source, size, dilation) if strided else {"kernel_shape": list(size)}
    weights = writer.constant(np.moveaxis(values, (-1, -2), (0, 1)), of=kernel)
    return writer.node(
        "Conv", source.name, weights, group=groups, **attributes, **({"dilations": list(dilation)} if strided else {})
    )


def _finish(writer: GraphWriter, layer: Any, name: str, rank: int) -> Tensor:
    """The bias and the activation that end a convolution or a dense layer."""
    if layer.use_bias:
        bias = _numpy(layer.bias)
        name = writer.node(
            "Add", name, writer.constant(bias.reshape(-1, *[1] * (rank - 2)) if rank > 2 else bias, of=layer.bias)
        )
    return Tensor(activate(writer, layer.activation, name, axis=1), (None,) * rank)


def _convolution(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    return _finish(writer, layer, _convolve(writer, layer, source, layer.kernel, groups=layer.groups), source.rank)


def _depthwise(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    return _finish(
        writer, layer, _convolve(writer, layer, source, layer.kernel, groups=int(source.shape[-1] or 0)), source.rank
    )


def _separable(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    name = _convolve(writer, layer, source, layer.depthwise_kernel, groups=int(source.shape[-1] or 0))
    between = Tensor(name, (*source.shape[:-1], layer.pointwise_kernel.shape[-2]))
    return _finish(
        writer, layer, _convolve(writer, layer, between, layer.pointwise_kernel, groups=1, strided=False), source.rank
    )


def _transposed_convolution(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    """Of windows that lie side by side, so that paddings have nothing to add."""
    if tuple(layer.kernel_size) != tuple(layer.strides) or layer.data_format != "channels_last":
        raise NotConvertible(f"{layer.name} has overlapping windows or channels first")
    # Keras has (*size, outputs, inputs), ONNX (inputs, outputs, *size).
    weights = writer.constant(np.moveaxis(_numpy(layer.kernel), (-1, -2), (0, 1)), of=layer.kernel)
    sides = {"kernel_shape": list(layer.kernel_size), "strides": list(layer.strides)}
    return _finish(writer, layer, writer.node("ConvTranspose", source.name, weights, **sides), source.rank)


def _dense(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    name = writer.node("MatMul", writer.channels_last(source), writer.constant(_numpy(layer.kernel), of=layer.kernel))
    if layer.use_bias:
        name = writer.node("Add", name, writer.constant(_numpy(layer.bias), of=layer.bias))
    return writer.channels_first(activate(writer, layer.activation, name, axis=-1), source.shape)


def _pooling(kind: str) -> Callable[..., Tensor]:
    def pool(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
        attributes = _window(layer, source, layer.pool_size, (1,) * len(layer.pool_size))
        return Tensor(writer.node(kind, source.name, **attributes), source.shape)

    return pool


def _global_pooling(kind: str) -> Callable[..., Tensor]:
    def pool(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
        name = writer.node(kind, source.name)
        return Tensor(name if layer.keepdims else writer.node("Flatten", name, axis=1), source.shape)

    return pool


# -- Normalisation and point-wise layers -----------------------------------------------------------------------------


def _along_channels(values: npt.NDArray[Any] | float, source: Tensor) -> npt.NDArray[Any]:
    """One value a channel, or one for all, in a shape that broadcasts over the ONNX tensor."""
    flat = np.asarray(values, dtype=np.float32).reshape(-1)
    return flat.reshape(-1, *[1] * (source.rank - 2)) if flat.size > 1 else flat.reshape(())


def _last_axis_only(layer: Any, source: Tensor) -> None:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis or [])
    if [axis % source.rank for axis in axes] != [source.rank - 1]:
        raise NotConvertible(f"{layer.name} normalises along the axes {axes}")


def _scale_and_shift(writer: GraphWriter, layer: Any, source: Tensor) -> tuple[str, str]:
    _last_axis_only(layer, source)
    channels = int(source.shape[-1] or 0)
    scale = (
        writer.constant(_numpy(layer.gamma), of=layer.gamma)
        if layer.scale
        else writer.constant(np.ones(channels, np.float32))
    )
    shift = (
        writer.constant(_numpy(layer.beta), of=layer.beta)
        if layer.center
        else writer.constant(np.zeros(channels, np.float32))
    )
    return scale, shift


def _batch_normalisation(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    scale, shift = _scale_and_shift(writer, layer, source)
    mean, variance = (writer.constant(_numpy(value), of=value) for value in (layer.moving_mean, layer.moving_variance))
    return Tensor(
        writer.node("BatchNormalization", source.name, scale, shift, mean, variance, epsilon=layer.epsilon),
        source.shape,
    )


def _layer_normalisation(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    scale, shift = _scale_and_shift(writer, layer, source)
    name = writer.node("LayerNormalization", writer.channels_last(source), scale, shift, axis=-1, epsilon=layer.epsilon)
    return writer.channels_first(name, source.shape)


def _instance_normalisation(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    scale, shift = (writer.constant(_numpy(value), of=value) for value in (layer.gamma, layer.beta))
    name = writer.node("InstanceNormalization", source.name, scale, shift, epsilon=layer.epsilon)
    return Tensor(name, source.shape)


def _group_normalisation(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    if layer.groups not in (-1, source.shape[-1]):
        raise NotConvertible(f"{layer.name} normalises channels in {layer.groups} groups")
    scale, shift = _scale_and_shift(writer, layer, source)
    return Tensor(writer.node("InstanceNormalization", source.name, scale, shift, epsilon=layer.epsilon), source.shape)


def _normalisation(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    _last_axis_only(layer, source)
    if layer.invert:
        raise NotConvertible(f"{layer.name} inverts a normalisation")
    mean, variance = (
        np.asarray(value.numpy() if hasattr(value, "numpy") else value) for value in (layer.mean, layer.variance)
    )
    centred = writer.node("Sub", source.name, writer.constant(_along_channels(mean, source)))
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    return Tensor(writer.node("Div", centred, writer.constant(_along_channels(deviation, source))), source.shape)


def _rescaling(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    scaled = writer.node("Mul", source.name, writer.constant(_along_channels(layer.scale, source)))
    return Tensor(writer.node("Add", scaled, writer.constant(_along_channels(layer.offset, source))), source.shape)


def _layer_scale(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    return Tensor(
        writer.node("Mul", source.name, writer.constant(_along_channels(_numpy(layer.gamma), source))), source.shape
    )


def _unchanged(_writer: GraphWriter, _layer: Any, source: Tensor) -> Tensor:
    return source


def _activation(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    return Tensor(activate(writer, layer.activation, source.name, axis=source.axis(-1)), source.shape)


def _relu(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    if layer.threshold or layer.negative_slope:
        raise NotConvertible(f"{layer.name} has a slope or a threshold")
    if layer.max_value is None:
        return Tensor(writer.node("Relu", source.name), source.shape)
    return Tensor(clipped(writer, source.name, 0, layer.max_value), source.shape)


def _leaky_relu(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    return Tensor(writer.node("LeakyRelu", source.name, alpha=float(layer.negative_slope)), source.shape)


# -- Several inputs, and shapes --------------------------------------------------------------------------------------


def _operand(writer: GraphWriter, value: Any) -> str:
    if isinstance(value, Tensor):
        return value.name
    if isinstance(value, int | float):
        return writer.constant(np.float32(value))
    raise NotConvertible(f"an operand of type {type(value).__name__}")


def _merge(kind: str) -> Callable[..., Tensor]:
    def merge(writer: GraphWriter, layer: Any, *sources: Any) -> Tensor:
        tensors = [source for source in sources if isinstance(source, Tensor)]
        if len({tensor.rank for tensor in tensors}) != 1:
            raise NotConvertible(f"{layer.name} joins tensors of different rank")
        name = _operand(writer, sources[0])
        for source in sources[1:]:
            name = writer.node(kind, name, _operand(writer, source))
        return Tensor(name, tensors[0].shape)

    return merge


def _scaled_sum(writer: GraphWriter, layer: Any, first: Tensor, second: Tensor) -> Tensor:
    """``first + scale · second``, as InceptionResNetV2 of keras.applications has it."""
    scaled = writer.node("Mul", second.name, writer.constant(np.float32(layer.scale)))
    return Tensor(writer.node("Add", first.name, scaled), first.shape)


def _average(writer: GraphWriter, layer: Any, *sources: Tensor) -> Tensor:
    total = _merge("Add")(writer, layer, *sources)
    return Tensor(writer.node("Div", total.name, writer.constant(np.float32(len(sources)))), total.shape)


def _concatenation(writer: GraphWriter, layer: Any, *sources: Tensor) -> Tensor:
    axis = sources[0].axis(layer.axis)
    return Tensor(writer.node("Concat", *(source.name for source in sources), axis=axis), sources[0].shape)


def _flip(writer: GraphWriter, operation: Any, source: Tensor) -> Tensor:
    if not isinstance(operation.axis, int):
        raise NotConvertible(f"{operation.name} flips along {operation.axis}")
    # From the last sample down to before the first: INT64's minimum says "past the start".
    bounds = [np.array([bound], np.int64) for bound in (-1, np.iinfo(np.int64).min, source.axis(operation.axis), -1)]
    return Tensor(writer.node("Slice", source.name, *map(writer.constant, bounds)), source.shape)


def _flatten(writer: GraphWriter, _layer: Any, source: Tensor) -> Tensor:
    return Tensor(writer.node("Flatten", writer.channels_last(source), axis=1), (None, None))


def _reshape(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    shape = np.array([0, *layer.target_shape], np.int64)
    name = writer.node("Reshape", writer.channels_last(source), writer.constant(shape))
    return writer.channels_first(name, (None, *layer.target_shape))


def _zero_padding(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    before, after = zip(*layer.padding, strict=True)
    pads = writer.constant(np.array([0, 0, *before, 0, 0, *after], np.int64))
    return Tensor(writer.node("Pad", source.name, pads), source.shape)


def _cropping(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    before, after = zip(*layer.cropping, strict=True)
    ends = [-end if end else np.iinfo(np.int64).max for end in after]
    axes = range(2, source.rank)
    bounds = [writer.constant(np.array(values, np.int64)) for values in (before, ends, axes)]
    return Tensor(writer.node("Slice", source.name, *bounds), source.shape)


def _up_sampling(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    if getattr(layer, "data_format", "channels_last") != "channels_last" or (
        getattr(layer, "interpolation", "nearest") != "nearest"
    ):
        raise NotConvertible(f"{layer.name} interpolates, or has channels first")
    factors = writer.constant(np.array([1, 1, *layer.size], np.float32))
    # Each sample as often as the factor says, from the first on.
    ways = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return Tensor(writer.node("Resize", source.name, "", factors, **ways), source.shape)


# -- Tokens of vision transformers, slices of volumes -----------------------------------------------------------------


def _positions(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    """Tokens of zeros in front, and a vector added to each: (batch, tokens, width)."""
    pads = writer.constant(np.array([0, layer.num_prefix, 0, 0, 0, 0], np.int64))
    padded = writer.node("Pad", writer.channels_last(source), pads)
    name = writer.node("Add", padded, writer.constant(_numpy(layer.positions), of=layer.positions))
    return writer.channels_first(name, (None, *layer.positions.shape))


def _token(writer: GraphWriter, source: Tensor) -> str:
    """The first token (batch, 1, width)."""
    return writer.node("Gather", writer.channels_last(source), writer.constant(np.array([0], np.int64)), axis=1)


def _first_token(writer: GraphWriter, _layer: Any, source: Tensor) -> Tensor:
    return Tensor(writer.node("Flatten", _token(writer, source), axis=1), (None, source.shape[-1]))


def _probe(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    """A learned token for each image of the batch."""
    nothing = writer.node("Mul", _token(writer, source), writer.constant(np.float32(0)))
    name = writer.node("Add", nothing, writer.constant(_numpy(layer.token)))
    return writer.channels_first(name, (None, 1, source.shape[-1]))


def _tanh_gelu(writer: GraphWriter, _layer: Any, source: Tensor) -> Tensor:
    """x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))."""

    def times(name: str, factor: float) -> str:
        return writer.node("Mul", name, writer.constant(np.float32(factor)))

    name = source.name
    cubed = writer.node("Mul", writer.node("Mul", name, name), name)
    inner = times(writer.node("Add", name, times(cubed, 0.044715)), math.sqrt(2 / math.pi))
    shifted = writer.node("Add", writer.node("Tanh", inner), writer.constant(np.float32(1)))
    return Tensor(writer.node("Mul", times(name, 0.5), shifted), source.shape)


def _attention(writer: GraphWriter, layer: Any, query: Tensor, value: Tensor, *others: Any) -> Tensor:
    """Scaled dot-product attention of tokens to tokens, without masks (Vaswani et al., 2017, section 3.2)."""
    if others or query.rank != 3:
        raise NotConvertible(f"{layer.name} has keys of their own")
    asking, answering = (writer.channels_last(each) for each in (query, value))
    parts = [
        _projected(writer, _numpy(dense.kernel), _numpy(dense.bias) if dense.bias is not None else None, tokens)
        for dense, tokens in (
            (layer.query_dense, asking),
            (layer.key_dense, answering),
            (layer.value_dense, answering),
        )
    ]
    dense = layer.output_dense
    kernel = _numpy(dense.kernel)
    name = _attended(writer, parts, kernel.shape[1])
    name = writer.node("MatMul", name, writer.constant(kernel.reshape(-1, kernel.shape[-1])))
    if dense.bias is not None:
        name = writer.node("Add", name, writer.constant(_numpy(dense.bias)))
    return writer.channels_first(name, query.shape)


def _rotary_attention(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    """Attention whose queries and keys are rotated first: x · cos + x · R · sin, where R turns halves of a head."""
    tokens, heads = writer.channels_last(source), layer.num_heads
    width = int(source.shape[-1] or 0)
    size = width // heads
    kernels, biases = ([_numpy(each) for each in group] for group in (layer.kernels, layer.biases))
    parts = [
        _projected(writer, kernel.reshape(width, heads, size), bias, tokens)
        for kernel, bias in zip(kernels[:3], biases[:3], strict=True)
    ]
    # (tokens, 1, size), alike for every head.
    cosine, sine = (writer.constant(each[:, np.newaxis]) for each in layer.rotations(size))
    half, turn = size // 2, np.zeros((size, size), np.float32)
    turn[np.arange(half) + half, np.arange(half)] = -1
    turn[np.arange(half), np.arange(half) + half] = 1
    turned = writer.constant(turn)
    for number in range(2):
        kept = writer.node("Mul", parts[number], cosine)
        parts[number] = writer.node("Add", kept, writer.node("Mul", writer.node("MatMul", parts[number], turned), sine))
    name = writer.node("MatMul", _attended(writer, parts, size), writer.constant(kernels[3]))
    return writer.channels_first(writer.node("Add", name, writer.constant(biases[3])), source.shape)


def _slices_apart(writer: GraphWriter, _layer: Any, source: Tensor) -> Tensor:
    shape = source.shape[2:]
    name = writer.node("Reshape", writer.channels_last(source), writer.constant(np.array([-1, *shape], np.int64)))
    return writer.channels_first(name, (None, *shape))


def _slices_together(writer: GraphWriter, layer: Any, source: Tensor) -> Tensor:
    shape = (layer.num_slices, source.shape[-1])
    name = writer.node("Reshape", source.name, writer.constant(np.array([-1, *shape], np.int64)))
    return writer.channels_first(name, (None, *shape))


def _attended_mean(writer: GraphWriter, _layer: Any, vectors: Tensor, scores: Tensor) -> Tensor:
    """The mean over the axis of slices, weighted by the softmax of the scores."""
    weights = writer.node("Softmax", writer.channels_last(scores), axis=1)
    weighted = writer.node("Mul", writer.channels_last(vectors), weights)
    name = writer.node("ReduceSum", weighted, writer.constant(np.array([1], np.int64)), keepdims=0)
    return Tensor(name, (None, vectors.shape[-1]))


def _projected(writer: GraphWriter, kernel: npt.NDArray[Any], bias: npt.NDArray[Any] | None, tokens: str) -> str:
    """Queries, keys or values (batch, tokens, heads, size), by a kernel (width, heads, size)."""
    _, heads, size = kernel.shape
    name = writer.node("MatMul", tokens, writer.constant(kernel.reshape(len(kernel), -1)))
    if bias is not None:
        name = writer.node("Add", name, writer.constant(bias.reshape(-1)))
    return writer.node("Reshape", name, writer.constant(np.array([0, 0, heads, size], np.int64)))


def _attended(writer: GraphWriter, parts: Sequence[str], size: int) -> str:
    """(batch, tokens, heads · size) of queries, keys and values."""
    # (batch, heads, tokens, size); of keys the last two turned.
    query, key, value = (
        writer.node("Transpose", name, perm=[0, 2, 3, 1] if number == 1 else [0, 2, 1, 3])
        for number, name in enumerate(parts)
    )
    scaled = writer.node("Mul", query, writer.constant(np.float32(1 / math.sqrt(size))))
    weights = writer.node("Softmax", writer.node("MatMul", scaled, key), axis=-1)
    joined = writer.node("Transpose", writer.node("MatMul", weights, value), perm=[0, 2, 1, 3])
    return writer.node("Reshape", joined, writer.constant(np.array([0, 0, -1], np.int64)))


_RANKS = ("1D", "2D", "3D")
# What acts in training alone.
_IDENTITIES = (
    *(f"SpatialDropout{rank}" for rank in _RANKS),
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "StochasticDepth",
)

# Name of a Keras layer or operation -> the function that writes its inference.
LAYERS: dict[str, Callable[..., Tensor]] = {
    **{f"Conv{rank}": _convolution for rank in _RANKS},
    **{f"Conv{rank}Transpose": _transposed_convolution for rank in _RANKS},
    **{f"DepthwiseConv{rank}": _depthwise for rank in _RANKS},
    **{f"SeparableConv{rank}": _separable for rank in _RANKS},
    **{f"MaxPooling{rank}": _pooling("MaxPool") for rank in _RANKS},
    **{f"AveragePooling{rank}": _pooling("AveragePool") for rank in _RANKS},
    **{f"GlobalMaxPooling{rank}": _global_pooling("GlobalMaxPool") for rank in _RANKS},
    **{f"GlobalAveragePooling{rank}": _global_pooling("GlobalAveragePool") for rank in _RANKS},
    **{f"ZeroPadding{rank}": _zero_padding for rank in _RANKS[1:]},
    **{f"Cropping{rank}": _cropping for rank in _RANKS[1:]},
    **{f"UpSampling{rank}": _up_sampling for rank in _RANKS[1:]},
    **dict.fromkeys(_IDENTITIES, _unchanged),
    "Dense": _dense,
    "BatchNormalization": _batch_normalisation,
    "LayerNormalization": _layer_normalisation,
    "GroupNormalization": _group_normalisation,
    "InstanceNormalization": _instance_normalisation,
    "Normalization": _normalisation,
    "Rescaling": _rescaling,
    "LayerScale": _layer_scale,
    "Activation": _activation,
    "Softmax": lambda writer, layer, source: Tensor(
        writer.node("Softmax", source.name, axis=source.axis(layer.axis)), source.shape
    ),
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "Add": _merge("Add"),
    "Subtract": _merge("Sub"),
    "Multiply": _merge("Mul"),
    "Maximum": _merge("Max"),
    "Average": _average,
    "CustomScaleLayer": _scaled_sum,
    "Concatenate": _concatenation,
    "Flip": _flip,
    "AddPositions": _positions,
    "FirstToken": _first_token,
    "SlicesApart": _slices_apart,
    "SlicesTogether": _slices_together,
    "AttendedMean": _attended_mean,
    "Probe": _probe,
    "TanhGelu": _tanh_gelu,
    "RotaryAttention": _rotary_attention,
    "MultiHeadAttention": _attention,
    "Flatten": _flatten,
    "Reshape": _reshape,
}
