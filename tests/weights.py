"""Made-up weights in the forms of Hugging Face and timm, and what their networks give, computed in NumPy alone."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import erf

Arrays = dict[str, np.ndarray]
SIDE, PATCH, WIDTH, HEADS, BLOCKS = 32, 8, 16, 2, 2


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    header, offset, parts = {}, 0, []
    for name, array in tensors.items():
        content = np.ascontiguousarray(array, np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [offset, offset + len(content)]}
        offset += len(content)
        parts.append(content)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def write_folder(folder: Path, config: dict[str, Any], tensors: Arrays, licence: str = "mit") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if "pretrained_cfg" not in config:
        facts = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
        (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    if licence:
        (folder / "README.md").write_text(f"---\nlicense: {licence}\ntags: [medical]\n---\n# A model\n")
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def vit_folder(folder: Path, kind: str, licence: str = "mit") -> tuple[Path, Arrays]:
    """A folder of the type "vit" or "dinov2", and its tensors."""
    draw = np.random.default_rng(0)

    def some(*shape: int) -> np.ndarray:
        return draw.normal(size=shape).astype(np.float32) * np.float32(0.2)

    root = "vit." if kind == "vit" else ""
    tokens = (SIDE // PATCH) ** 2 + 1
    tensors: Arrays = {
        f"{root}embeddings.cls_token": some(1, 1, WIDTH),
        f"{root}embeddings.position_embeddings": some(1, tokens, WIDTH),
        f"{root}embeddings.patch_embeddings.projection.weight": some(WIDTH, 3, PATCH, PATCH),
        f"{root}embeddings.patch_embeddings.projection.bias": some(WIDTH),
        f"{root}layernorm.weight": 1 + some(WIDTH),
        f"{root}layernorm.bias": some(WIDTH),
    }
    names = {
        "vit": ("layernorm_before", "layernorm_after", "intermediate.dense", "output.dense"),
        "dinov2": ("norm1", "norm2", "mlp.fc1", "mlp.fc2"),
    }
    for number in range(BLOCKS):
        place = f"{root}encoder.layer.{number}."
        first, second, dense1, dense2 = (place + name for name in names[kind])
        for name in (first, second):
            tensors |= {f"{name}.weight": 1 + some(WIDTH), f"{name}.bias": some(WIDTH)}
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            tensors |= {
                f"{place}attention.{part}.weight": some(WIDTH, WIDTH),
                f"{place}attention.{part}.bias": some(WIDTH),
            }
        tensors |= {f"{dense1}.weight": some(4 * WIDTH, WIDTH), f"{dense1}.bias": some(4 * WIDTH)}
        tensors |= {f"{dense2}.weight": some(WIDTH, 4 * WIDTH), f"{dense2}.bias": some(WIDTH)}
        if kind == "dinov2":
            tensors |= {f"{place}layer_scale{part}.lambda1": 0.5 + some(WIDTH) for part in (1, 2)}
    config = {
        "model_type": kind,
        "hidden_size": WIDTH,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH,
        "image_size": SIDE,
        "patch_size": PATCH,
        "layer_norm_eps": 1e-6,
    }
    return write_folder(folder, config, tensors, licence), tensors


def vit_features(kind: str, tensors: Arrays, images: np.ndarray) -> np.ndarray:
    """The class token after the last normalisation, of images (n, rows, columns, 3), as the papers define it."""
    found = {name.removeprefix("vit."): value.astype(np.float64) for name, value in tensors.items()}

    def normalised(hidden: np.ndarray, name: str) -> np.ndarray:
        centred = hidden - hidden.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return centred / scale * found[f"{name}.weight"] + found[f"{name}.bias"]

    def dense(hidden: np.ndarray, name: str) -> np.ndarray:
        return hidden @ found[f"{name}.weight"].T + found[f"{name}.bias"]

    count, steps = len(images), SIDE // PATCH
    patches = images.astype(np.float64).reshape(count, steps, PATCH, steps, PATCH, 3).transpose(0, 1, 3, 5, 2, 4)
    kernel = found["embeddings.patch_embeddings.projection.weight"].reshape(WIDTH, -1)
    hidden = patches.reshape(count, steps**2, -1) @ kernel.T + found["embeddings.patch_embeddings.projection.bias"]
    first = np.tile(found["embeddings.cls_token"], (count, 1, 1))
    hidden = np.concatenate([first, hidden], axis=1) + found["embeddings.position_embeddings"]
    for number in range(BLOCKS):
        place = f"encoder.layer.{number}."
        is_vit = kind == "vit"
        inner = normalised(hidden, place + ("layernorm_before" if is_vit else "norm1"))
        query, key, value = (
            dense(inner, f"{place}attention.attention.{part}").reshape(count, -1, HEADS, WIDTH // HEADS)
            for part in ("query", "key", "value")
        )
        scores = np.einsum("nqhd,nkhd->nhqk", query, key) / np.sqrt(WIDTH // HEADS)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        joined = np.einsum("nhqk,nkhd->nqhd", scores / scores.sum(-1, keepdims=True), value).reshape(count, -1, WIDTH)
        joined = dense(joined, f"{place}attention.output.dense")
        hidden = hidden + joined * found.get(f"{place}layer_scale1.lambda1", np.ones(1))
        inner = normalised(hidden, place + ("layernorm_after" if is_vit else "norm2"))
        inner = dense(inner, place + ("intermediate.dense" if is_vit else "mlp.fc1"))
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        inner = dense(inner, place + ("output.dense" if is_vit else "mlp.fc2"))
        hidden = hidden + inner * found.get(f"{place}layer_scale2.lambda1", np.ones(1))
    return normalised(hidden, "layernorm")[:, 0]


def preset_folder(folder: Path, kind: str, licence: str = "apache-2.0") -> tuple[Path, Callable[[np.ndarray], Any]]:
    """A made-up preset that KerasHub wrote, and what its own network gives for images (n, rows, columns, 3)."""
    hub: Any = pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    models = hub.models
    shape, tiny = (SIDE, SIDE, 3), {"num_layers": BLOCKS, "num_heads": HEADS, "hidden_dim": WIDTH}
    seen = {"patch_size": PATCH, "intermediate_dim": 4 * WIDTH, "image_shape": shape} | tiny
    blocks = {"kernel_sizes": [3, 5], "num_repeats": [1, 2], "input_filters": [32, 16], "output_filters": [16, 24]}
    blocks |= {"expansion_ratios": [1, 4], "strides": [1, 2], "squeeze_and_excite_ratios": [0.25] * 2}
    blocks |= {"block_types": ["v1"] * 2, "force_input_filters": [0] * 2, "nores_option": [False] * 2}
    blocks |= {"width_coefficients": [1.0] * 2, "depth_coefficients": [1.0] * 2}
    make: dict[str, Callable[[], Any]] = {
        "vit": lambda: models.ViTBackbone(image_shape=shape, patch_size=PATCH, mlp_dim=WIDTH, **tiny),
        "dinov2": lambda: models.DINOV2Backbone(num_register_tokens=2, position_embedding_shape=(48, 48, 3), **seen),
        "dinov3": lambda: models.DINOV3Backbone(use_gated_mlp=True, use_key_bias=False, **seen),
        "siglip": lambda: models.SigLIPBackbone(
            models.SigLIPVisionEncoder(**seen),
            models.SigLIPTextEncoder(vocabulary_size=9, embedding_dim=WIDTH, intermediate_dim=WIDTH, **tiny),
        ),
        "resnet": lambda: models.ResNetBackbone([64], [7], [64, 8], [1, 1], [1, 2], "basic_block"),
        "resnetv2": lambda: models.ResNetBackbone([64], [7], [64], [1], [1], "basic_block", use_pre_activation=True),
        "efficientnet": lambda: models.EfficientNetBackbone(
            **{f"stackwise_{name}": each for name, each in blocks.items()}
        ),
    }
    backbone, draw = make[kind](), np.random.default_rng(0)
    for variable in backbone.variables:
        if "int" not in variable.dtype and "position_embeddings" not in variable.path:
            values = np.array(keras.ops.convert_to_numpy(variable))
            noise = 0.1 * draw.normal(size=values.shape)
            variable.assign(values + (np.abs(noise) if "variance" in variable.path else noise))
    backbone.save_to_preset(str(folder))
    converter = hub.layers.ImageConverter(
        image_size=shape[:2], scale=[1 / 51, 1 / 76.5, 1 / 102], offset=[-2.5, -4 / 3, -0.75]
    )
    converter.save_to_preset(str(folder))
    if licence:
        (folder / "README.md").write_text(f"---\nlibrary_name: keras-hub\nlicense: {licence}\n---\n# A preset\n")
    encoder = getattr(backbone, "vision_encoder", backbone)

    def features(images: np.ndarray) -> Any:
        name = encoder.inputs[0].name
        found = encoder.predict_on_batch(images if kind in ("vit", "resnet", "efficientnet") else {name: images})
        # The class token of a transformer; SigLIP pools its tokens itself; maps are averaged.
        return found[:, 0] if found.ndim == 3 else found.mean((1, 2)) if found.ndim == 4 else found

    return folder, features


def _convolved(images: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """A convolution of images (n, channels, rows, columns) with as much padding before as behind."""
    pad = kernel.shape[-1] // 2
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("ncyxij,ocij->noyx", windows, kernel, optimize=True)


def resnet_folder(folder: Path, form: str) -> tuple[Path, Arrays, dict[str, tuple[str, str]]]:
    """A basic residual network of two stages in the form of "resnet"; or timm's resnet18, of which only names differ.

    Returns:
        The folder, its tensors, and by part of the network the names of its convolution and normalisation.
    """
    draw = np.random.default_rng(1)
    timm = form == "timm"
    widths, depths = ((64, 128, 256, 512), (2, 2, 2, 2)) if timm else ((8, 12), (1, 2))
    stem = 64 if timm else 8
    parts: dict[str, tuple[str, str]] = {"stem": ("conv1", "bn1") if timm else _hf("embedder.embedder")}
    shapes = {"stem": (stem, 3, 7)}
    before = stem
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for block in range(depth):
            place = f"layer{stage + 1}.{block}." if timm else f"encoder.stages.{stage}.layers.{block}."
            for part in (0, 1):
                name = f"{stage}.{block}.{part}"
                parts[name] = (
                    (f"{place}conv{part + 1}", f"{place}bn{part + 1}") if timm else _hf(f"{place}layer.{part}")
                )
                shapes[name] = (width, before if part == 0 else width, 3)
            if block == 0 and (stage > 0 or before != width):
                name = f"{stage}.{block}.shortcut"
                parts[name] = (f"{place}downsample.0", f"{place}downsample.1") if timm else _hf(f"{place}shortcut")
                shapes[name] = (width, before, 1)
            before = width
    tensors: Arrays = {}
    for name, (convolution, normalisation) in parts.items():
        outputs, inputs, side = shapes[name]
        values = draw.normal(size=(outputs, inputs, side, side)) / np.sqrt(inputs * side**2)
        tensors[f"{convolution}.weight"] = values.astype(np.float32)
        for each, start in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            spread = np.abs(draw.normal(size=outputs)) if each == "running_var" else draw.normal(size=outputs)
            tensors[f"{normalisation}.{each}"] = (start + 0.2 * spread).astype(np.float32)
    cfg = {"input_size": [3, SIDE, SIDE], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "license": "apache-2.0"}
    hugging_face = {"model_type": "resnet", "embedding_size": stem, "hidden_sizes": widths, "depths": depths}
    config = {"architecture": "resnet18", "pretrained_cfg": cfg} if timm else hugging_face | {"layer_type": "basic"}
    return write_folder(folder, config, tensors, "" if timm else "bsd-3-clause"), tensors, parts


def _hf(place: str) -> tuple[str, str]:
    return f"{place}.convolution", f"{place}.normalization"


def resnet_features(tensors: Arrays, parts: dict[str, tuple[str, str]], images: np.ndarray) -> np.ndarray:
    """The mean over the last maps of images (n, rows, columns, 3)."""

    def layer(hidden: np.ndarray, name: str, stride: int) -> np.ndarray:
        convolution, normalisation = parts[name]
        hidden = _convolved(hidden, tensors[f"{convolution}.weight"].astype(np.float64), stride)
        scale, shift, mean, variance = (
            tensors[f"{normalisation}.{each}"].astype(np.float64)[:, None, None]
            for each in ("weight", "bias", "running_mean", "running_var")
        )
        return (hidden - mean) / np.sqrt(variance + 1e-5) * scale + shift

    hidden = np.maximum(layer(images.astype(np.float64).transpose(0, 3, 1, 2), "stem", 2), 0)
    padded = np.pad(hidden, ((0, 0), (0, 0), (1, 1), (1, 1)))
    hidden = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max((-1, -2))
    for name in dict.fromkeys(".".join(part.split(".")[:2]) for part in parts if part != "stem"):
        stage, block = name.split(".")
        stride = 2 if block == "0" and stage != "0" else 1
        inner = layer(np.maximum(layer(hidden, f"{name}.0", stride), 0), f"{name}.1", 1)
        beside = layer(hidden, f"{name}.shortcut", stride) if f"{name}.shortcut" in parts else hidden
        hidden = np.maximum(inner + beside, 0)
    return hidden.mean((2, 3))
