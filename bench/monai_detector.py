"""MONAI's RetinaNet for volumes, trained from scratch in PyTorch: a peer of bench/detection.py, in its own process.

    python monai_detector.py speed ARRAYS.npz --precision bfloat16 --steps 12
    python monai_detector.py train ARRAYS.npz FINDINGS.npz --precision bfloat16 --seconds 540

Network, matcher, sampler, losses, transforms and metric are MONAI's (``monai.apps.detection``). The network is one of
two:

- ``--settings equal``: the blocks, width, stride of the stem and channels of the pyramid of our plan, so that neither
  learns with more weights; the levels of features are as many as those on which our plan has anchors, where objects of
  these sizes lie, and MONAI's own coarser one after them. With ``--coarser 1`` they begin a level later: MONAI's heads
  have four convolutions each on every level, which on the finest one are most of the work.
- ``--settings default``: MONAI's own ResNet-50 of width 64, 256 channels and levels 1 and 2, which was made for a GPU.

The recipe is MONAI's reference for lung nodules (its tutorial on LUNA16):

- Gradient descent with a rate of .01, Nesterov momentum of .9 and a decay of 3e-5, as there; the rate warms up over the
  first thirtieth and falls to a tenth at the half, as there over 10 and after 150 of its 300 epochs.
- ATSS with 4 candidates and 64 sampled anchors of a volume, 30 % of them positive, the others hard negatives from a
  pool of 20 times as many and at least 16, as there.
- Three anchors fitted to the training boxes, for those there are fitted to nodules: boxes are halved until they belong
  to the finest level, and three means of the logarithms of their sides taken; MONAI doubles them level by level.
- Zoom, rotation, noise, blur, brightness, contrast and gamma as there; mirrored only along the axes on which our plan
  mirrors, and rotated by right angles only where these are all, since labels can be told by their place.
- Whole volumes in batches of our plan, for they are smaller than a patch there.
- Findings from a score of .02, suppressed above an IoU of .22 and at most 100, as there.
- The weights with the best AP (IoU .50 to .95) of twelve looks at the validation volumes are kept, as MONAI keeps the
  best; the looks count as training time, as they do in ours.

Seconds are of the processor, for each thread. Objects are found in float32 whatever the precision of the training.
ARRAYS.npz and FINDINGS.npz are described in bench/detection.py.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from monai import transforms as tr
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.apps.detection.transforms import dictionary as box_tr
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.data.box_utils import box_iou
from monai.networks.blocks.backbone_fpn_utils import BackboneWithFPN
from monai.networks.nets.resnet import ResNet
from scipy.cluster.vq import kmeans2

RATE, MOMENTUM, DECAY = 0.01, 0.9, 3e-5
WARM_UP, FALL = 1 / 30, 1 / 2
LOOKS, WARM_STEPS = 12, 2
ANCHORS, SMALL_SHARE = 3, 10
SCORE, OVERLAP, FINDINGS = 0.02, 0.22, 100
BLOCKS = {"resnet10": [1, 1, 1, 1], "resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3]}
# Stride of the finest features -> side and stride of the first convolution; MONAI pools after it in any case.
STEMS = {1: (3, 1), 2: (5, 2), 4: (7, 2)}
DEFAULT_WIDTH, DEFAULT_CHANNELS, DEFAULT_LEVELS = 64, 256, (0, 1)
IMAGE, BOX, LABEL = "image", "box", "label"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("speed", "train"))
    parser.add_argument("arrays")
    parser.add_argument("findings", nargs="?")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--settings", choices=("equal", "default"), default="equal")
    parser.add_argument("--coarser", type=int, default=0, help="how many levels later the equal ones begin")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("monai").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=UserWarning, module="monai")
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with np.load(arguments.arrays) as file:
        arrays = {name: file[name] for name in file.files}
    extractor, strides = (
        equal_extractor(arrays, arguments.coarser) if arguments.settings == "equal" else default_extractor(arrays)
    )
    training = Training(make_detector(arrays, extractor, strides), arrays, arguments)
    if arguments.question == "speed":
        print(training.speed(arguments.steps))
        return
    training.run(arguments.seconds)
    found: dict[str, np.ndarray] = {}
    for split in ("validation", "test"):
        found |= as_rows(training.find(split), split)
    np.savez(arguments.findings, seconds=training.seconds, images=training.images, **found)


def make_detector(arrays: dict[str, np.ndarray], extractor: BackboneWithFPN, strides: list[int]) -> RetinaNetDetector:
    anchors = AnchorGeneratorWithAnchorShape([2**level for level in range(len(strides))], fitted_anchors(arrays))
    network = RetinaNet(3, int(arrays["num_labels"]), ANCHORS, extractor, size_divisible=max(strides))
    detector = RetinaNetDetector(network, anchors)
    detector.set_target_keys(BOX, LABEL)
    detector.set_atss_matcher(num_candidates=4, center_in_gt=False)
    detector.set_hard_negative_sampler(batch_size_per_image=64, positive_fraction=0.3, min_neg=16, pool_size=20)
    most = max(FINDINGS, int(arrays["max_found"]))
    detector.set_box_selector_parameters(score_thresh=SCORE, nms_thresh=OVERLAP, detections_per_img=most)
    return detector


def equal_extractor(arrays: dict[str, np.ndarray], coarser: int) -> tuple[BackboneWithFPN, list[int]]:
    width, stride = int(arrays["width"]), int(arrays["stride"])
    side, step = STEMS[stride]
    backbone = ResNet(
        "basic",
        BLOCKS[str(arrays["network"])],
        [width * 2**stage for stage in range(4)],
        n_input_channels=arrays["train_images"].shape[-1],
        conv1_t_size=side,
        conv1_t_stride=step,
        feed_forward=False,
    )
    if stride < 4:
        # The option ``no_max_pool`` does not reach a feature extractor, which calls the layers one by one.
        backbone.maxpool = torch.nn.Identity()
    levels = range(int(arrays["levels"].min()) + coarser, min(int(arrays["levels"].max()) + coarser, 3) + 1)
    widths = [width * 2**level for level in levels]
    return with_pyramid(backbone, levels, widths, int(arrays["pyramid_channels"])), strides_of(stride, levels)


def default_extractor(arrays: dict[str, np.ndarray]) -> tuple[BackboneWithFPN, list[int]]:
    backbone = ResNet(
        "bottleneck",
        [3, 4, 6, 3],
        [DEFAULT_WIDTH * 2**stage for stage in range(4)],
        n_input_channels=arrays["train_images"].shape[-1],
        conv1_t_size=7,
        conv1_t_stride=2,
        feed_forward=False,
    )
    widths = [4 * DEFAULT_WIDTH * 2**level for level in DEFAULT_LEVELS]
    return with_pyramid(backbone, DEFAULT_LEVELS, widths, DEFAULT_CHANNELS), strides_of(4, DEFAULT_LEVELS)


def with_pyramid(backbone: ResNet, levels: Any, widths: list[int], channels: int) -> BackboneWithFPN:
    layers = {f"layer{level + 1}": str(number) for number, level in enumerate(levels)}
    return BackboneWithFPN(backbone, layers, widths, channels, spatial_dims=3)


def strides_of(stride: int, levels: Any) -> list[int]:
    """Of the levels, and of the coarser one that MONAI appends."""
    return [stride * 2**level for level in (*levels, max(levels) + 1)]


def fitted_anchors(arrays: dict[str, np.ndarray]) -> list[list[float]]:
    """Three shapes of the finest level, which are doubled on each coarser one."""
    boxes = arrays["train_boxes"][arrays["train_classes"] >= 0]
    sides = np.log2(boxes[:, 3:] - boxes[:, :3])
    lengths = sides.mean(axis=1)
    above = np.clip(np.floor(lengths - np.percentile(lengths, SMALL_SHARE)), 0, None)
    means, _ = kmeans2(sides - above[:, None], ANCHORS, minit="++", seed=0)
    shapes: list[list[float]] = np.exp2(means).tolist()
    print("anchors of", *("×".join(f"{side:.1f}" for side in shape) for shape in shapes), file=sys.stderr)
    return shapes


def augmentation(flip_axes: list[int], seed: int) -> tr.Compose:
    pair = {"image_keys": IMAGE, "box_keys": BOX, "box_ref_image_keys": IMAGE}
    angle = (-math.pi / 6, math.pi / 6)
    turns = [box_tr.RandRotateBox90d(**pair, prob=0.75, spatial_axes=(1, 2))] if len(flip_axes) == 3 else []
    masks = {"box_keys": BOX, "label_keys": LABEL, "box_mask_keys": "mask", "min_fg_label": 0}
    made = tr.Compose(
        [
            box_tr.StandardizeEmptyBoxd(BOX, box_ref_image_keys=IMAGE),
            box_tr.RandZoomBoxd(**pair, prob=0.2, min_zoom=0.7, max_zoom=1.4, padding_mode="constant", keep_size=True),
            box_tr.ClipBoxToImaged(box_keys=BOX, label_keys=LABEL, box_ref_image_keys=IMAGE, remove_empty=True),
            *(box_tr.RandFlipBoxd(**pair, prob=0.5, spatial_axis=axis) for axis in flip_axes),
            *turns,
            box_tr.BoxToMaskd(**masks, box_ref_image_keys=IMAGE, ellipse_mask=True),
            tr.RandRotated(
                (IMAGE, "mask"),
                range_x=angle,
                range_y=angle,
                range_z=angle,
                prob=0.2,
                mode="nearest",
                padding_mode="zeros",
            ),
            box_tr.MaskToBoxd(**masks),
            tr.RandGaussianNoised(IMAGE, prob=0.1, std=0.1),
            tr.RandGaussianSmoothd(IMAGE, prob=0.1, sigma_x=(0.5, 1.0), sigma_y=(0.5, 1.0), sigma_z=(0.5, 1.0)),
            tr.RandScaleIntensityd(IMAGE, prob=0.15, factors=0.25),
            tr.RandShiftIntensityd(IMAGE, prob=0.15, offsets=0.1),
            tr.RandAdjustContrastd(IMAGE, prob=0.3, gamma=(0.7, 1.5)),
        ]
    )
    made.set_random_state(seed)
    return made


class Training:
    """Batches, steps and looks at the validation volumes, until the time is over."""

    def __init__(
        self, detector: RetinaNetDetector, arrays: dict[str, np.ndarray], arguments: argparse.Namespace
    ) -> None:
        self.detector, self.arrays = detector, arrays
        self.batch, self.precision = arguments.batch, arguments.precision
        self.optimizer = torch.optim.SGD(
            detector.network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True
        )
        self.generator = np.random.default_rng(arguments.seed)
        self.augment = augmentation(arrays["flip_axes"].tolist(), arguments.seed)
        self.images, self.seconds = 0, 0.0
        self.best, self.kept = -1.0, copy.deepcopy(detector.network.state_dict())

    def batches(self) -> Iterator[list[dict[str, torch.Tensor]]]:
        while True:
            order = self.generator.permutation(len(self.arrays["train_images"]))
            for start in range(0, len(order) - self.batch + 1, self.batch):
                yield [self.sample(int(row)) for row in order[start : start + self.batch]]

    def sample(self, row: int) -> dict[str, torch.Tensor]:
        boxes, classes = true_objects(self.arrays, "train", row)
        item = {IMAGE: as_tensor(self.arrays["train_images"][row]), BOX: torch.from_numpy(boxes)}
        made = self.augment(item | {LABEL: torch.from_numpy(classes)})
        kinds = {IMAGE: torch.float32, BOX: torch.float32, LABEL: torch.int64}
        # Without the metadata that MONAI's transforms add.
        return {name: torch.as_tensor(np.asarray(made[name])).to(kind) for name, kind in kinds.items()}

    def step(self, items: list[dict[str, torch.Tensor]]) -> float:
        targets = [{BOX: item[BOX], LABEL: item[LABEL]} for item in items]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            loss = sum(self.detector([item[IMAGE] for item in items], targets).values())
        if not torch.isfinite(loss):
            sys.exit("The loss of MONAI's detector is no number any more: the training diverged.")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def speed(self, steps: int) -> float:
        self.detector.train()
        self.rate(0.0)
        batches = self.batches()
        for _ in range(WARM_STEPS):
            self.step(next(batches))
        started = time.perf_counter()
        for _ in range(steps):
            self.step(next(batches))
        return steps * self.batch / (time.perf_counter() - started)

    def run(self, seconds: float) -> None:
        started, looks, losses = processor_time(), 0, []
        self.detector.train()
        for items in self.batches():
            self.seconds = processor_time() - started
            share = self.seconds / seconds
            if share >= 1:
                break
            self.rate(share)
            losses.append(self.step(items))
            self.images += len(items)
            if share >= (looks + 1) / LOOKS:
                looks += 1
                self.look(float(np.mean(losses)))
                losses = []
        if losses:
            self.look(float(np.mean(losses)))
        self.detector.network.load_state_dict(self.kept)

    def rate(self, share: float) -> None:
        value = RATE * max(min(1.0, share / WARM_UP), 0.01) * (0.1 if share >= FALL else 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def look(self, loss: float) -> None:
        """Keep these weights if they are the best on the validation volumes."""
        mean, half = average_precision(self.find("validation"), self.arrays)
        self.detector.train()
        print(
            f"{self.seconds:.0f} s, {self.images} volumes, loss {loss:.3f}, validation AP {mean:.3f}, AP50 {half:.3f}",
            file=sys.stderr,
            flush=True,
        )
        if mean > self.best:
            self.best, self.kept = mean, copy.deepcopy(self.detector.network.state_dict())

    @torch.no_grad()
    def find(self, split: str) -> list[dict[str, np.ndarray]]:
        self.detector.eval()
        found = []
        for image in self.arrays[f"{split}_images"]:
            (one,) = self.detector([as_tensor(image)])
            found.append({name.removeprefix(f"{LABEL}_"): values.numpy() for name, values in one.items()})
        return found


def processor_time() -> float:
    """Seconds of the processor for each of PyTorch's threads: those of the clock where nothing else runs."""
    return time.process_time() / torch.get_num_threads()


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))


def true_objects(arrays: dict[str, np.ndarray], split: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    classes = arrays[f"{split}_classes"][row]
    return arrays[f"{split}_boxes"][row][classes >= 0], classes[classes >= 0]


def average_precision(found: list[dict[str, np.ndarray]], arrays: dict[str, np.ndarray]) -> tuple[float, float]:
    """AP over IoU .50 to .95 and AP50 on the validation volumes, by MONAI's metric."""
    names = [str(number) for number in range(int(arrays["num_labels"]))]
    metric = COCOMetric(names, iou_list=(0.5,), iou_range=(0.5, 0.95, 0.05), max_detection=(FINDINGS,), per_class=False)
    truths = [true_objects(arrays, "validation", row) for row in range(len(found))]
    matched = matching_batch(
        iou_fn=box_iou,
        iou_thresholds=metric.iou_thresholds,
        pred_boxes=[one[BOX] for one in found],
        pred_classes=[one[LABEL] for one in found],
        pred_scores=[one["scores"] for one in found],
        gt_boxes=[boxes for boxes, _ in truths],
        gt_classes=[classes for _, classes in truths],
        max_detections=FINDINGS,
    )
    figures = metric(matched)[0]
    mean = next(value for name, value in figures.items() if name.startswith("mAP"))
    return float(mean), float(figures[f"AP_IoU_0.50_MaxDet_{FINDINGS}"])


def as_rows(found: list[dict[str, np.ndarray]], split: str) -> dict[str, np.ndarray]:
    return {
        f"{split}_images": np.concatenate([np.full(len(one["scores"]), number) for number, one in enumerate(found)]),
        f"{split}_boxes": np.concatenate([one[BOX] for one in found]),
        f"{split}_classes": np.concatenate([one[LABEL] for one in found]),
        f"{split}_scores": np.concatenate([one["scores"] for one in found]),
    }


if __name__ == "__main__":
    main()
