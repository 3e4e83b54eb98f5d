"""torchvision's Faster R-CNN as its users train it: a peer of bench/detection.py, in a process of its own.

    python torchvision_detector.py speed ARRAYS.npz --precision bfloat16 --steps 12
    python torchvision_detector.py train ARRAYS.npz FINDINGS.npz --precision bfloat16 --seconds 952

A residual network with feature pyramid, from scratch. Its batch normalisation learns, as torchvision's own
``fasterrcnn_resnet50_fpn`` has it without weights (the statistics of ``resnet_fpn_backbone`` are frozen by default,
which is meant for pretrained ones). What else it is made of is one of two:

- ``--settings equal``: images at the scale of our plan, the blocks of its ResNet-10 or ResNet-18 (of width 64), and its
  widths: channels of the pyramid, which is normalised as ours is, units of the head, proposals and candidates. So that
  the sizes fit the scale, anchors begin at 32 pixels halved until nine tenths of the training boxes are not smaller;
  torchvision's 32 to 512 are for images of 800.
- ``--settings default``: torchvision's own with a ResNet-18, images enlarged to 800 pixels included.

The training is torchvision's reference: gradient descent with a rate of .005 for batches of four and a momentum of .9,
a warm-up of at most 1,000 steps, two falls of the rate at the same shares of the whole; horizontal flips. Its seconds
are of the processor, for each core. Whatever the precision of the training, objects are found in float32. ARRAYS.npz
and FINDINGS.npz are described in bench/detection.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops import MultiScaleRoIAlign

RATE, MOMENTUM, WARM_UP = 0.005, 0.9, 1000
# torchvision's reference training lets the rate fall to a tenth after 16 and after 22 of its 26 epochs.
FALLS = (16 / 26, 22 / 26)
# COCO's default of findings an image; more where images hold more objects.
FINDINGS = 100
WARM_STEPS = 2
ANCHOR, LEVELS, RATIOS, BINS = 32, 5, (0.5, 1.0, 2.0), 7
BLOCKS = {"resnet10": [1, 1, 1, 1], "resnet18": [2, 2, 2, 2]}
STAGES = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", choices=("speed", "train"))
    parser.add_argument("arrays")
    parser.add_argument("findings", nargs="?")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--settings", choices=("equal", "default"), default="equal")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with np.load(arguments.arrays) as file:
        arrays = {name: file[name] for name in file.files}
    network = {"equal": equal_network, "default": default_network}[arguments.settings](arrays)
    training = Training(network, arrays, arguments.batch, arguments.precision, arguments.seed)
    if arguments.question == "speed":
        print(training.speed(arguments.steps))
        return
    training.run(arguments.seconds)
    network.eval()
    found: dict[str, np.ndarray] = {}
    for split in ("validation", "test"):
        found |= findings(network, arrays[f"{split}_images"], split, arguments.batch)
    np.savez(arguments.findings, seconds=training.seconds, images=training.images, **found)


def default_network(arrays: dict[str, np.ndarray]) -> torch.nn.Module:
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d, trainable_layers=5
    )
    return FasterRCNN(backbone, num_classes=int(arrays["num_labels"]) + 1, box_detections_per_img=most_found(arrays))


def equal_network(arrays: dict[str, np.ndarray]) -> torch.nn.Module:
    body = ResNet(BasicBlock, BLOCKS[str(arrays["network"])])
    channels, units = int(arrays["pyramid_channels"]), int(arrays["head_units"])
    widths = [64, 128, 256, 512]
    pyramid = BackboneWithFPN(body, STAGES, widths, channels, norm_layer=torch.nn.BatchNorm2d)
    smallest = fitting_anchor(arrays)
    sizes = tuple((smallest * 2**level,) for level in range(LEVELS))
    sides = arrays["train_images"].shape[1:3]
    proposals, candidates = int(arrays["num_proposals"]), int(arrays["num_candidates"])
    return FasterRCNN(
        pyramid,
        min_size=min(sides),
        max_size=max(sides),
        rpn_anchor_generator=AnchorGenerator(sizes, (RATIOS,) * LEVELS),
        rpn_pre_nms_top_n_train=candidates,
        rpn_pre_nms_top_n_test=candidates,
        rpn_post_nms_top_n_train=proposals,
        rpn_post_nms_top_n_test=proposals,
        box_roi_pool=MultiScaleRoIAlign(list(STAGES.values()), BINS, sampling_ratio=2),
        box_head=TwoMLPHead(channels * BINS**2, units),
        box_predictor=FastRCNNPredictor(units, int(arrays["num_labels"]) + 1),
        box_detections_per_img=most_found(arrays),
    )


def fitting_anchor(arrays: dict[str, np.ndarray]) -> int:
    """The smallest anchors: 32 pixels, halved until nine tenths of the boxes are not smaller; at least 4."""
    boxes = arrays["train_boxes"][arrays["train_classes"] >= 0]
    small = float(np.percentile(np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)), 10))
    size = ANCHOR
    while size > 4 and size > small:
        size //= 2
    return size


def most_found(arrays: dict[str, np.ndarray]) -> int:
    return max(FINDINGS, int(arrays["max_found"]))


class Training:
    """The loop of torchvision's reference: batches, warm-up, steps, until the time is over."""

    def __init__(
        self, network: torch.nn.Module, arrays: dict[str, np.ndarray], batch: int, precision: str, seed: int
    ) -> None:
        self.network, self.arrays, self.batch, self.precision = network.train(), arrays, batch, precision
        self.optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)
        self.generator = np.random.default_rng(seed)
        self.images, self.seconds = 0, 0.0

    def batches(self) -> Iterator[tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]]:
        while True:
            order = self.generator.permutation(len(self.arrays["train_images"]))
            for start in range(0, len(order) - self.batch + 1, self.batch):
                chosen = [self.sample(int(row)) for row in order[start : start + self.batch]]
                yield [image for image, _ in chosen], [target for _, target in chosen]

    def sample(self, row: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        image, classes = as_tensor(self.arrays["train_images"][row]), self.arrays["train_classes"][row]
        boxes = self.arrays["train_boxes"][row][classes >= 0][:, [1, 0, 3, 2]]
        if self.generator.random() < 0.5:
            width = image.shape[-1]
            image, boxes = (
                image.flip(-1),
                np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1),
            )
        labels = torch.from_numpy(classes[classes >= 0].astype(np.int64) + 1)
        return image, {"boxes": torch.from_numpy(np.ascontiguousarray(boxes)), "labels": labels}

    def step(self, images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]]) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            loss = sum(self.network(images, targets).values())
        if not torch.isfinite(loss):
            sys.exit("The loss of torchvision's detector is no number any more: the training diverged.")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def speed(self, steps: int) -> float:
        self.rate(RATE / WARM_UP)
        batches = self.batches()
        for _ in range(WARM_STEPS):
            self.step(*next(batches))
        started = time.perf_counter()
        for _ in range(steps):
            self.step(*next(batches))
        return steps * self.batch / (time.perf_counter() - started)

    def run(self, seconds: float) -> None:
        started, told = processor_time(), 0.0
        warm_up = min(WARM_UP, len(self.arrays["train_images"]) // self.batch - 1)
        for number, (images, targets) in enumerate(self.batches()):
            self.seconds = processor_time() - started
            if self.seconds >= seconds:
                break
            fallen = sum(self.seconds / seconds >= share for share in FALLS)
            self.rate(RATE * min(1.0, (number + 1) / max(warm_up, 1)) * 0.1**fallen)
            loss = self.step(images, targets)
            self.images += len(images)
            if self.seconds - told > 30:
                told = self.seconds
                print(f"{told:.0f} s, {self.images} images, loss {loss:.3f}", file=sys.stderr, flush=True)

    def rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value


def processor_time() -> float:
    """Seconds of the processor for each of PyTorch's threads: those of the clock where nothing else runs."""
    return time.process_time() / torch.get_num_threads()


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


@torch.inference_mode()
def findings(network: torch.nn.Module, images: np.ndarray, split: str, size: int) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {"images": [], "boxes": [], "classes": [], "scores": []}
    for start in range(0, len(images), size):
        batch = [as_tensor(image) for image in images[start : start + size]]
        # In float32 whatever the training: in bfloat16 coordinates above 128 would be whole pixels.
        for number, one in enumerate(network(batch), start=start):
            parts["images"].append(np.full(len(one["scores"]), number))
            parts["boxes"].append(one["boxes"].float().numpy()[:, [1, 0, 3, 2]])
            parts["classes"].append(one["labels"].numpy() - 1)
            parts["scores"].append(one["scores"].float().numpy())
    return {f"{split}_{name}": np.concatenate(values) for name, values in parts.items()}


if __name__ == "__main__":
    main()
