"""Networks, all of them plain ``keras.Model``s with a layer "features" and a layer "probabilities"."""

from hounsfield.models.build import build, network_names
from hounsfield.models.ensemble import ensemble, flip_averaged
from hounsfield.models.resnet import resnet
from hounsfield.models.simple_cnn import simple_cnn

__all__ = ["build", "ensemble", "flip_averaged", "network_names", "resnet", "simple_cnn"]
