"""A residual-encoder U-Net in Keras 3, of rank 2 and 3 by one code: what each pixel or voxel belongs to."""

from hounsfield.segmentation.losses import deep_supervision_loss, segmentation_loss
from hounsfield.segmentation.normalisation import InstanceNormalization
from hounsfield.segmentation.unet import Supervised, residual_unet

__all__ = ["InstanceNormalization", "Supervised", "deep_supervision_loss", "residual_unet", "segmentation_loss"]
