"""Instance normalisation in OpenVINO with sums that keep the precision of float32."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

# An axis of no more pixels than this is summed up at once.
SHORT = 8


def sum_in_blocks(network: Any, operations: Any) -> None:
    r"""Replace instance normalisations of a network, which is changed in place.

    OpenVINO's own adds up the pixels of a map one after another in float32: over 90,000 voxels mean and deviation are
    off by 1e-5, and behind the fifteen of a U-Net probabilities by 1e-4. The mean over blocks, and then that over these
    means, is off by 1e-7 and takes no longer. Means along one axis after the other would not help: OpenVINO joins them
    again.

    Args:
        network: ``openvino.Model`` of maps (batch, channels, \*spatial).
        operations: the operation set, such as ``openvino.opset13``.
    """
    for normalisation in list(_instance_normalisations(network)):
        maps = normalisation.input_value(0)
        centred = operations.subtract(maps, _mean(maps, operations)).output(0)
        variance = _mean(operations.multiply(centred, centred).output(0), operations)
        epsilon = operations.constant(np.float32(normalisation.get_attributes()["eps"]))
        deviation = operations.sqrt(operations.add(variance, epsilon))
        normalisation.output(0).replace(operations.divide(centred, deviation).output(0))
    network.validate_nodes_and_infer_types()


def _instance_normalisations(network: Any) -> Iterator[Any]:
    """Those of all pixels of a map of known size, whose variance is normalised, too."""
    for operation in network.get_ops():
        if operation.get_type_name() != "MVN":
            continue
        shape, axes = operation.input_value(0).get_partial_shape(), operation.input_value(1).get_node()
        rank, told = len(shape), operation.get_attributes()
        if axes.get_type_name() != "Constant" or not all(length.is_static for length in list(shape)[2:]):
            continue
        every = sorted(int(axis) % rank for axis in axes.get_data().ravel()) == list(range(2, rank))
        if every and rank > 3 and told["normalize_variance"] and told["eps_mode"].upper() == "INSIDE_SQRT":
            yield operation


def _mean(maps: Any, operations: Any) -> Any:
    lengths = [int(length.get_length()) for length in list(maps.get_partial_shape())[2:]]
    block, none = [_part(length) for length in lengths], [0] * len(lengths)
    means = operations.avg_pool(maps, block, none, none, block, True)
    axes = operations.constant(np.arange(2, 2 + len(lengths)))
    return operations.reduce_mean(means, axes, keep_dims=True).output(0)


def _part(length: int) -> int:
    """What divides a length, and is nearest to its square root."""
    if length <= SHORT:
        return length
    divisors = (each for each in range(1, length + 1) if length % each == 0)
    return min(divisors, key=lambda each: abs(each - math.sqrt(length)))
