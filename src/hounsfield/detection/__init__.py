"""Faster R-CNN in Keras 3, for images and volumes alike: trained on boxes, it finds objects and names them."""

from hounsfield.detection.anchor_fit import FittedAnchors, fit_anchors
from hounsfield.detection.anchors import anchor_grid
from hounsfield.detection.faster_rcnn import FasterRCNN
from hounsfield.detection.roi_align import roi_align

__all__ = ["FasterRCNN", "FittedAnchors", "anchor_grid", "fit_anchors", "roi_align"]
