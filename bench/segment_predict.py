"""What does prediction with windows cost, and does it change masks?

    python bench/segment_predict.py volume [--shape 200 512 512] [--patch 40 128 128] [--width 8]
    python bench/segment_predict.py volume --run RUN [--shape 200 512 512]
    python bench/segment_predict.py windows RUN

volume: a CT phantom of noise with blocks, on the grid of the network, and a U-Net with random weights (width 0: a
single layer): wall time, CPU time and peak memory of `hounsfield predict` in a process of its own. With RUN, which was
trained on phantom:ct-organs, its network and a new patient of that phantom, enlarged to this shape: also the Dice of
each label. windows: the same weights in a network whose input holds a whole test volume. Of volumes in one window the
largest difference of a probability, by each engine in float32; of those in several windows the Dice between both masks,
and how often labels change at borders of windows and elsewhere.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

STRIDES, KERNELS = ((2, 2, 2),) * 3, ((3, 3, 3),) * 4


def volume(options: argparse.Namespace) -> None:
    """This process stays small: a child's peak memory counts that of its parent at the fork."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--make", folder], check=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "hounsfield", "predict", "bundle", "ct.nii.gz", "-o", "masks"]
        measure = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        measure += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", measure, *command], check=True, cwd=folder, stdout=subprocess.PIPE)
        wall = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        if options.run:
            judged(options, Path(folder))
    sizes = ["×".join(map(str, each)) for each in (options.shape, options.patch)]
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    peak, load = int(done.stdout.split()[-1]) / 1024, os.getloadavg()[0]
    told = f"{count_windows(options.shape, options.patch)} windows of {sizes[1]}, width {options.width}"
    print(f"{sizes[0]} voxels, {'the network of ' + str(options.run) if options.run else told}, load {load:.1f}:")
    print(f"{wall:.0f} s, {cpu:.0f} CPU s, peak {peak:.0f} MB")


def count_windows(shape: tuple[int, ...], patch: tuple[int, ...]) -> int:
    return math.prod(math.ceil((length - side) / (side // 2)) + 1 for length, side in zip(shape, patch, strict=True))


def enlarged(options: argparse.Namespace) -> None:
    """Write a new patient on a finer grid, with the true masks, and copy the bundle of the run."""
    import shutil

    from scipy import ndimage

    from hounsfield.bundle import Bundle
    from hounsfield.cohorts import load_request, read_mask
    from hounsfield.cohorts.request import DataRequest
    from hounsfield.images import Image, write_image
    from hounsfield.phantoms import make_phantom

    bundle = Bundle.load(options.run)
    shutil.copytree(bundle.folder, options.make / "bundle")
    table = make_phantom("ct-organs", options.make / "organs", seed=7, num_patients=1)
    cohort = load_request(DataRequest(str(table)), labels=bundle.labels, task="segmentation")
    image = cohort.read(1)
    pairs = ((image.pixels, "ct", 1), (read_mask(cohort, 1, image).pixels, "true", 0))
    for pixels, name, order in pairs:
        factors = np.divide(options.shape, pixels.shape[:-1])
        large = ndimage.zoom(pixels[..., 0], factors, order=order, mode="nearest", grid_mode=True)
        affine = image.affine @ np.diag([*(1 / factors), 1.0])
        # The middle of the first voxel is nearer to the corner that both grids share.
        affine[:3, 3] += image.affine[:3, :3] @ (0.5 / factors - 0.5)
        spacing = tuple(np.divide(image.spacing, factors).tolist())
        kind = np.uint8 if name == "true" else np.int16
        write_image(Image(large[..., None].astype(kind), spacing, affine), options.make / f"{name}.nii.gz")


def judged(options: argparse.Namespace, folder: Path) -> None:
    from hounsfield.bundle import Bundle
    from hounsfield.images import read_image

    labels = Bundle.load(options.run).labels
    true, found = (read_image(folder / name).pixels[..., 0] for name in ("true.nii.gz", "masks/ct.nii.gz"))
    for number, label in enumerate(labels, start=1):
        both = 2 * np.sum((true == number) & (found == number)) / (np.sum(true == number) + np.sum(found == number))
        print(f"{label}: Dice {both:.3f}")


def make(options: argparse.Namespace) -> None:
    """Write the volume, and a bundle with random weights."""
    from hounsfield.bundle import export_onnx, save_bundle
    from hounsfield.images import Image, write_image
    from hounsfield.preprocessing import Pipeline, ToChannels, Window
    from hounsfield.segmentation import residual_unet

    network = (
        residual_unet((*options.patch, 1), 4, width=options.width, strides=STRIDES, kernels=KERNELS)
        if options.width
        else single_layer((*options.patch, 1))
    )
    bundle = save_bundle(
        options.make / "bundle",
        network,
        pipeline=Pipeline(steps=(ToChannels(channels=1), Window(center=40, width=400))),
        labels=("liver", "kidneys", "lesion"),
        task="segmentation",
        settings={"overlapping": False, "spacing": [2.0, 0.8, 0.8], "flips": [], "strides": []},
    )
    export_onnx(bundle)
    pixels = np.random.default_rng(0).normal(0, 20, options.shape).astype(np.int16)
    for number, value in enumerate((60, 120, 200), start=1):
        pixels[tuple(slice(length * number // 6, length * (number + 2) // 6) for length in options.shape)] += value
    affine = np.diag([2.0, 0.8, 0.8, 1.0])[[2, 1, 0, 3]]
    write_image(Image(pixels[..., np.newaxis], (2.0, 0.8, 0.8), affine), options.make / "ct.nii.gz")


def single_layer(shape: tuple[int, ...]) -> Any:
    """A network of almost no cost: what is left is that of the windows."""
    from keras import Input, Model, layers

    inputs = Input(shape, name="image")
    features = layers.GlobalAveragePooling3D(name="features")(inputs)
    return Model(inputs, [layers.Conv3D(4, 1, name="logits")(inputs), features])


def whole_network(plan: Any, trained: Any, shape: tuple[int, ...]) -> Any:
    """The network of a run with an input that holds a whole volume."""
    import keras

    from hounsfield.segmentation import residual_unet

    large = residual_unet(
        (*shape, plan.input_shape[-1]), plan.num_outputs, width=plan.width, strides=plan.strides, kernels=plan.kernels
    )
    for layer in trained.layers:
        large.get_layer(layer.name).set_weights(layer.get_weights())
    return keras.Model(large.inputs, large.get_layer("logits").output)


def windows(run: Path) -> None:
    """Each volume against a network whose input just holds it, filled up as a window is."""
    from hounsfield.bundle import Bundle
    from hounsfield.cohorts import MaskStore
    from hounsfield.evaluation.segmentation import compare_masks
    from hounsfield.inference.engines import OpenVINOEngine
    from hounsfield.inference.masks import Segmenter
    from hounsfield.inference.sliding import FULL
    from hounsfield.plans import load_plan
    from hounsfield.testing.cohort import tested_cohort

    bundle, plan = Bundle.load(run), load_plan(run / "plan.yaml")
    cohort = tested_cohort(run, None, bundle, None).cohort
    store, trained = MaskStore.build(cohort, bundle.pipeline), bundle.network()
    # In Keras and float32, so that windows are compared and not engines.
    segmenter = Segmenter(bundle, "keras")
    factor, patch = np.prod(plan.strides, axis=0), plan.input_shape[:-1]
    networks: dict[tuple[int, ...], Any] = {}
    compiled = Segmenter(bundle, OpenVINOEngine(bundle, "f32"))
    dice, truth, single = [], [], []
    change = {"border": [0, 0], "else": [0, 0], "border, whole": [0, 0], "else, whole": [0, 0]}
    for row in range(len(store)):
        pixels = np.asarray(store.image(row))
        shape = tuple(np.maximum(patch, np.ceil(np.array(pixels.shape[:-1]) / factor) * factor).astype(int).tolist())
        if shape not in networks:
            networks[shape] = whole_network(plan, trained, shape)
        before = [(side - length) // 2 for side, length in zip(shape, pixels.shape, strict=False)]
        inside = tuple(slice(start, start + length) for start, length in zip(before, pixels.shape, strict=False))
        filled = np.zeros((1, *shape, pixels.shape[-1]), np.float32)
        filled[0][inside] = pixels
        logits = np.asarray(networks[shape].predict_on_batch(filled))[0][inside]
        direct = logits.argmax(-1)
        found = segmenter.sliding.segment(lambda batch: tuple(segmenter.engine.run(batch)), pixels)
        masks, labels = found.mask[..., 0], range(1, plan.num_outputs)
        if shape == patch:
            raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
            expected = raised / raised.sum(axis=-1, keepdims=True)
            other = compiled.sliding.segment(lambda batch: tuple(compiled.engine.run(batch)), pixels)
            single.append([float(np.abs(each.probabilities / FULL - expected).max()) for each in (found, other)])
            continue
        dice += [compare_masks(direct == label, masks == label, (1.0,) * 3)["dice"] for label in labels]
        true = store.mask(row)[..., 0]
        truth += [
            [compare_masks(true == label, mask == label, (1.0,) * 3)["dice"] for mask in (masks, direct)]
            for label in labels
        ]
        for name, mask in (("", masks), (", whole", direct)):
            count_changes(mask, patch, change, name)
    print(f"{len(single)} volumes in one window of {patch}: largest difference of a probability, and its median")
    for each, differences in zip((segmenter, compiled), zip(*single, strict=True), strict=False):
        print(f"{each.engine.description}: {max(differences):.2g}, {np.median(differences):.2g}")
    if not dice:
        return
    rates = {name: changed / max(total, 1) for name, (changed, total) in change.items()}
    print(f"{len(store) - len(single)} volumes in several windows:")
    print(f"Dice of windows with the whole: mean {np.nanmean(dice):.4f}, least {np.nanmin(dice):.4f}")
    print("Dice with the truth: windows {:.4f}, the whole {:.4f}".format(*np.nanmean(truth, axis=0)))
    print(f"labels change between neighbours: {rates}, of {change['border'][1]:,} pairs at borders")


def count_changes(mask: np.ndarray, patch: tuple[int, ...], change: dict[str, list[int]], name: str) -> None:
    """Pairs of neighbours of different labels, between which a window begins or ends, and others."""
    from hounsfield.inference.sliding import OVERLAP
    from hounsfield.inference.windows import window_starts

    for axis, (length, side) in enumerate(zip(mask.shape, patch, strict=True)):
        starts = window_starts(length, side, OVERLAP)
        borders = {start for start in starts if start} | {start + side for start in starts if start + side < length}
        differ = np.moveaxis(np.diff(mask, axis=axis) != 0, axis, 0)
        for place in range(length - 1):
            kind = change[("border" if place + 1 in borders else "else") + name]
            kind[0] += int(differ[place].sum())
            kind[1] += differ[place].size


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    large = commands.add_parser("volume")
    large.add_argument("--shape", type=int, nargs=3, default=(200, 512, 512))
    large.add_argument("--patch", type=int, nargs=3, default=(40, 128, 128))
    large.add_argument("--width", type=int, default=8)
    large.add_argument("--run", type=Path)
    large.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    compared = commands.add_parser("windows")
    compared.add_argument("run", type=Path)
    options = parser.parse_args()
    if options.command == "windows":
        windows(options.run)
    elif options.make:
        (enlarged if options.run else make)(options)
    else:
        volume(options)
