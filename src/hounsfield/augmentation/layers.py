"""Random layers that work on 2D and 3D batches alike, in the graph, on every backend.

Each layer draws its parameters in ``sample`` and uses them in ``apply``, so that a draw can be
inspected and replayed. Outside training a layer passes its input on.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from hounsfield.augmentation.sampling import centred_grid, linear_upsampling, sample_linearly
from hounsfield.shares import normal, uniform


class RandomLayer(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Base of the random layers: a seed that is saved with the model, and ``sample`` before ``apply``."""

    def __init__(self, *, seed: int | None = None, **options: Any) -> None:
        super().__init__(**({"dtype": "float32"} | options))
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        r"""Images (batch, \*spatial, channels) changed at random in training, unchanged otherwise."""
        if not training:
            return images
        return self.apply(images, self.sample(images))

    def sample(self, images: Any) -> dict[str, Any]:
        """Draw the parameters for one batch: a dictionary of tensors whose first axis is the batch."""
        raise NotImplementedError

    def apply(self, images: Any, parameters: dict[str, Any]) -> Any:
        """Change the images as the parameters say."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the input: no layer here changes it."""
        return input_shape

    def _uniform(self, images: Any, amplitude: float, *shape: int) -> Any:
        """Uniform values in ±amplitude, one (or one array of ``shape``) per image."""
        return uniform((ops.shape(images)[0], *shape), -amplitude, amplitude, seed=self.seed_generator)


@keras.saving.register_keras_serializable("hounsfield")
class RandomSpatial(RandomLayer):
    """Mirror, rotate, scale, shear, shift and deform elastically, in a single linear interpolation.

    Everything is measured in pixels: where pixels are not square in millimetres, a rotation also shears slightly.

    Args:
        flip_axes: spatial axes that are mirrored with probability one half.
        rotation: largest rotation in each plane, degrees.
        scale: largest relative change of size (0.1: factors from 1/1.1 to 1.1), common to all axes.
        stretch: the same, drawn for each axis on its own.
        shear: largest shear, as a share.
        translation: largest shift along each axis, as a share of its length.
        elastic: largest displacement of a coarse random field, as a share of the longest axis.
        seed: of the draws.
    """

    ELASTIC_NODES = 5

    def __init__(
        self,
        *,
        flip_axes: tuple[int, ...] = (),
        rotation: float = 0.0,
        scale: float = 0.0,
        stretch: float = 0.0,
        shear: float = 0.0,
        translation: float = 0.0,
        elastic: float = 0.0,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(seed=seed, **options)
        self.flip_axes = tuple(flip_axes)
        self.rotation = rotation
        self.scale = scale
        self.stretch = stretch
        self.shear = shear
        self.translation = translation
        self.elastic = elastic

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("flip_axes", "rotation", "scale", "stretch", "shear", "translation", "elastic", "seed")
        config: dict[str, Any] = super().get_config()
        return config | {name: getattr(self, name) for name in names}

    def sample(self, images: Any) -> dict[str, Any]:
        """Draw ``matrix`` (batch, rank, rank), ``shift`` (batch, rank) and, if asked for, ``field``."""
        rank = len(images.shape) - 2
        lengths = np.asarray(images.shape[1:-1], np.float32)
        parameters = {
            "matrix": self._matrix(images, rank),
            "shift": self._uniform(images, self.translation, rank) * ops.convert_to_tensor(lengths),
        }
        if self.elastic:
            nodes = (self.ELASTIC_NODES,) * rank
            parameters["field"] = self._uniform(images, self.elastic * float(lengths.max()), *nodes, rank)
        return parameters

    def apply(self, images: Any, parameters: dict[str, Any]) -> Any:
        """Read each image where the inverse transformation points."""
        spatial_shape = tuple(images.shape[1:-1])
        grid = ops.convert_to_tensor(centred_grid(spatial_shape))
        centre = ops.convert_to_tensor((np.asarray(spatial_shape, np.float32) - 1) / 2)
        coordinates = ops.matmul(grid, ops.transpose(parameters["matrix"], (0, 2, 1)))
        coordinates = coordinates + ops.expand_dims(parameters["shift"], 1) + centre
        if "field" in parameters:
            field = parameters["field"]
            for axis, size in enumerate(spatial_shape):
                upsampled = ops.tensordot(field, linear_upsampling(self.ELASTIC_NODES, size), axes=[[axis + 1], [1]])
                field = ops.moveaxis(upsampled, -1, axis + 1)
            coordinates = coordinates + ops.reshape(field, (-1, grid.shape[0], len(spatial_shape)))
        return sample_linearly(images, coordinates)

    def _matrix(self, images: Any, rank: int) -> Any:
        """Flip × scale × shear × rotations, as (batch, rank, rank)."""
        factors = ops.exp(self._uniform(images, float(np.log1p(self.stretch)), rank))
        factors = factors * ops.exp(self._uniform(images, float(np.log1p(self.scale)), 1))
        identity = ops.eye(rank, dtype="float32")
        matrix = ops.expand_dims(factors * self._signs(images, rank), -1) * identity
        shear = self._uniform(images, self.shear, rank, rank) * (1 - identity)
        matrix = ops.matmul(matrix, identity + shear)
        for first, second in itertools.combinations(range(rank), 2):
            angle = self._uniform(images, float(np.deg2rad(self.rotation)), 1, 1)
            matrix = ops.matmul(matrix, _plane_rotation(angle, first, second, rank))
        return matrix

    def _signs(self, images: Any, rank: int) -> Any:
        flippable = ops.convert_to_tensor([float(axis in self.flip_axes) for axis in range(rank)], dtype="float32")
        drawn = ops.sign(self._uniform(images, 1.0, rank) + 1e-9)
        return flippable * drawn + (1 - flippable)


def _plane_rotation(angle: Any, first: int, second: int, rank: int) -> Any:
    """Rotation by ``angle`` (batch, 1, 1) in the plane of two axes, as (batch, rank, rank)."""
    inside, skew = np.zeros((rank, rank), np.float32), np.zeros((rank, rank), np.float32)
    inside[first, first] = inside[second, second] = 1
    skew[first, second], skew[second, first] = -1, 1
    outside = ops.convert_to_tensor(np.eye(rank, dtype=np.float32) - inside)
    inside, skew = ops.convert_to_tensor(inside), ops.convert_to_tensor(skew)
    return outside + ops.cos(angle) * inside + ops.sin(angle) * skew


@keras.saving.register_keras_serializable("hounsfield")
class RandomIntensity(RandomLayer):
    """Change brightness, contrast, gamma and sharpness, and add noise, in units of each image's own spread.

    Args:
        brightness: largest shift, in standard deviations of the image.
        contrast: largest relative change of contrast about the image's mean.
        gamma: largest relative change of the exponent, applied between the image's extremes.
        sharpness: 1 blurs with the binomial kernel (1, 2, 1)/4 along each axis at most, and sharpens as much.
        noise: largest standard deviation of added Gaussian noise, in standard deviations of the image.
        seed: of the draws.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.0,
        contrast: float = 0.0,
        gamma: float = 0.0,
        sharpness: float = 0.0,
        noise: float = 0.0,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(seed=seed, **options)
        self.brightness = brightness
        self.contrast = contrast
        self.gamma = gamma
        self.sharpness = sharpness
        self.noise = noise

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("brightness", "contrast", "gamma", "sharpness", "noise", "seed")
        config: dict[str, Any] = super().get_config()
        return config | {name: getattr(self, name) for name in names}

    def sample(self, images: Any) -> dict[str, Any]:
        """Draw one value of each parameter per image, and the noise itself."""
        ones = (1,) * (len(images.shape) - 1)
        parameters = {
            "brightness": self._uniform(images, self.brightness, *ones),
            "contrast": ops.exp(self._uniform(images, float(np.log1p(self.contrast)), *ones)),
            "gamma": ops.exp(self._uniform(images, float(np.log1p(self.gamma)), *ones)),
            "sharpness": self._uniform(images, self.sharpness, *ones),
        }
        if self.noise:
            strength = ops.abs(self._uniform(images, self.noise, *ones))
            parameters["noise"] = strength * normal(ops.shape(images), seed=self.seed_generator)
        return parameters

    def apply(self, images: Any, parameters: dict[str, Any]) -> Any:
        """Gamma, then sharpness, then contrast and brightness, then noise."""
        axes = tuple(range(1, len(images.shape)))
        if self.gamma:
            low, high = ops.min(images, axes, keepdims=True), ops.max(images, axes, keepdims=True)
            extent = ops.maximum(high - low, 1e-6)
            images = low + extent * ops.power(ops.maximum((images - low) / extent, 1e-6), parameters["gamma"])
        if self.sharpness:
            images = images + parameters["sharpness"] * (_binomially_blurred(images) - images)
        mean = ops.mean(images, axes, keepdims=True)
        spread = ops.std(images, axes, keepdims=True)
        images = mean + (images - mean) * parameters["contrast"] + spread * parameters["brightness"]
        return images + spread * parameters["noise"] if self.noise else images


def _binomially_blurred(images: Any) -> Any:
    for axis in range(1, len(images.shape) - 1):
        size = images.shape[axis]
        order = np.arange(size)
        before = ops.take(images, np.maximum(order - 1, 0), axis=axis)
        after = ops.take(images, np.minimum(order + 1, size - 1), axis=axis)
        images = 0.25 * before + 0.5 * images + 0.25 * after
    return images


@keras.saving.register_keras_serializable("hounsfield")
class RandomErase(RandomLayer):
    """Replace a random box by the image's mean, so that no single region decides (DeVries & Taylor, 2017).

    Args:
        size: largest side of the box, as a share of each axis; sides are drawn from 0 to ``size``.
        seed: of the draws.
    """

    def __init__(self, *, size: float = 0.0, seed: int | None = None, **options: Any) -> None:
        super().__init__(seed=seed, **options)
        self.size = size

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        return config | {"size": self.size, "seed": self.seed}

    def sample(self, images: Any) -> dict[str, Any]:
        """Draw ``centre`` and ``half_side`` (batch, rank) as shares of each axis."""
        rank = len(images.shape) - 2
        return {
            "centre": 0.5 + self._uniform(images, 0.5, rank),
            "half_side": ops.abs(self._uniform(images, self.size / 2, rank)),
        }

    def apply(self, images: Any, parameters: dict[str, Any]) -> Any:
        """Fill the box with the mean of its image."""
        rank = len(images.shape) - 2
        inside = 1.0
        for axis in range(rank):
            size = images.shape[axis + 1]
            position = ops.convert_to_tensor((np.arange(size, dtype=np.float32) + 0.5) / size)
            centre, half = parameters["centre"][:, axis : axis + 1], parameters["half_side"][:, axis : axis + 1]
            along = ops.cast(ops.abs(position - centre) < half, "float32")
            shape = [-1] + [1] * (rank + 1)
            shape[axis + 1] = size
            inside = inside * ops.reshape(along, shape)
        mean = ops.mean(images, tuple(range(1, rank + 2)), keepdims=True)
        return images + inside * (mean - images)


@keras.saving.register_keras_serializable("hounsfield")
class RandomlyUnchanged(RandomLayer):
    """Apply other random layers to most images, and leave the rest unchanged.

    Layers that draw strengths change almost every image, so the network would never see images as they are in use.

    Args:
        changes: layers applied to the other images, in this order.
        share: probability that an image is left unchanged.
        seed: of the draws.
    """

    def __init__(
        self, changes: Sequence[keras.Layer], *, share: float, seed: int | None = None, **options: Any
    ) -> None:
        super().__init__(seed=seed, **options)
        self.changes = list(changes)
        self.share = share

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        changes = [keras.saving.serialize_keras_object(layer) for layer in self.changes]
        return config | {"changes": changes, "share": self.share, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RandomlyUnchanged:
        """The layer that ``get_config`` described."""
        changes = [keras.saving.deserialize_keras_object(layer) for layer in config["changes"]]
        return cls(**config | {"changes": changes})

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build the layers inside."""
        for layer in self.changes:
            layer.build(input_shape)
        super().build(input_shape)

    def sample(self, images: Any) -> dict[str, Any]:
        """Draw ``unchanged`` (batch, 1, …), and the ``changed`` images."""
        ones = (1,) * (len(images.shape) - 1)
        changed = images
        for layer in self.changes:
            changed = layer(changed, training=True)
        return {"unchanged": self._uniform(images, 1.0, *ones) < 2 * self.share - 1, "changed": changed}

    def apply(self, images: Any, parameters: dict[str, Any]) -> Any:
        """Take the unchanged image where that was drawn, and the changed one elsewhere."""
        return ops.where(parameters["unchanged"], images, parameters["changed"])
