"""From a plan to a network with the weights that its training starts from."""

from __future__ import annotations

import keras
from pydantic import ValidationError

from hounsfield.bundle import Bundle
from hounsfield.errors import PlanError, UsageError
from hounsfield.models import build
from hounsfield.models.blocks import classification_head
from hounsfield.plans.encoder import Encoder
from hounsfield.plans.whole_images import WholeImagePlan
from hounsfield.pretrained.efficientnet import efficientnet_lite0
from hounsfield.pretrained.folder import read_network
from hounsfield.pretrained.preset import preset_network
from hounsfield.pretrained.residual import ResidualSettings, load_residual, residual
from hounsfield.pretrained.slices import by_slices
from hounsfield.pretrained.source import Source, check_licence, find_source
from hounsfield.pretrained.tensors import read_tensors
from hounsfield.pretrained.vit import ViTSettings, vit

# The outputs of a U-Net, which depend on the labels.
OUTPUT = "logits"


def build_network(plan: WholeImagePlan) -> keras.Model:
    """The plain network of a plan, with the layers "features" and "probabilities".

    Raises:
        UsageError: there is no such network, or its weights cannot be had or used.
        PlanError: the plan's images are not those that the weights take.
    """
    if plan.adapt is None or plan.weights is None:
        return build(plan.network, plan.input_shape, len(plan.labels), plan.task, **plan.network_options())
    source = find_source(plan.weights)
    check_licence(source, plan.licence)
    slices = len(plan.input_shape) > len(source.input_shape) and source.takes_slices
    if plan.input_shape[slices:] != source.input_shape:
        raise PlanError(
            f"The plan's input_shape is {plan.input_shape}, and the weights {source.name} take {source.input_shape}. "
            "Make a plan with --weights, which sets both."
        )
    if (plan.network, plan.width) != (source.network, None):
        raise PlanError(
            f"The plan has the network {plan.network} of width {plan.width}, and the weights {source.name} bring the "
            f"network {source.network}. Leave both as the plan had them, or train without weights."
        )
    known = backbone(source)
    if plan.adapt == "lora" and not any(isinstance(layer, keras.layers.MultiHeadAttention) for layer in known.layers):
        raise UsageError(
            f"--adapt lora is for vision transformers such as ViT, DINOv2 and SigLIP, and the weights {source.name} "
            "are of another network. Give --adapt finetune or probe."
        )
    if slices:
        known = by_slices(known, plan.input_shape[0])
    features = known.get_layer("features").output
    head = classification_head(features, len(plan.labels), plan.task, dropout=plan.dropout)
    return keras.Model(known.inputs[0], head, name=plan.network)


def backbone(source: Source) -> keras.Model:
    """The network of the weights up to its layer "features".

    Raises:
        UsageError: it is of a kind that is not read, or its weights do not fit it.
    """
    if source.for_masks:
        raise UsageError(
            f"The weights {source.name} are of a network for segmentation, and the data has no masks. Give those of a "
            "network for images as a whole."
        )
    if source.kind == "own pretraining":
        return read_network(source.folder, for_masks=False)
    if source.kind == "bundle":
        return _of_bundle(source)
    if source.kind == "preset":
        return preset_network(source.folder, source.config, source.input_shape[0])
    return _of_tensors(source)


def _of_tensors(source: Source) -> keras.Model:
    tensors, side = read_tensors(source.weights), source.input_shape[0]
    try:
        if source.kind == "imagenet":
            return efficientnet_lite0(tensors, side)
        if "architecture" in source.config or source.config.get("model_type") == "resnet":
            return residual(ResidualSettings.of_config(source.config), tensors, side)
        return vit(ViTSettings.model_validate(source.config), tensors)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:3])
        raise UsageError(
            f"The network of {source.name} is of a kind that is not read ({faults}). Choose a model of the type vit, "
            "dinov2 or resnet, or a residual network of timm."
        ) from error
    except (KeyError, ValueError) as error:
        raise _misfit(source, error) from error


def _misfit(source: Source, error: Exception) -> UsageError:
    return UsageError(
        f"The weights {source.name} do not fit the network that their config.json describes ({error}). Fetch the whole "
        "folder again."
    )


def encoder_of(source: Source) -> Encoder:
    """The residual network that a detector or a segmenter starts from.

    Raises:
        UsageError: the weights are of another network, or one of other strides.
    """
    try:
        settings = ResidualSettings.of_config(source.config) if source.kind == "folder" else None
        if settings is not None and not settings.downsample_in_first_stage:
            return settings.encoder
    except (ValidationError, UsageError):
        pass
    raise UsageError(
        f"A detector or a segmenter starts from a residual network, and the weights {source.name} are not of one whose "
        "maps can be taken. Give a folder in the form of Hugging Face with the type resnet, whose first stage does not "
        "reduce the resolution, or timm's resnet18, resnet34, resnet50 or resnet101."
    )


def load_encoder(network: keras.Model, encoder: Encoder, weights: str, licence: str) -> None:
    """Give the weights of a residual network to those layers of a larger network that are its own.

    Args:
        network: a trunk of a detector, or a U-Net; changed in place.
        encoder: as the plan has it.
        weights: as ``--weights`` takes them.
        licence: of them, that is accepted.

    Raises:
        UsageError: they cannot be had or used.
        PlanError: they are of another network than that of the plan.
    """
    source = find_source(weights)
    check_licence(source, licence)
    if encoder_of(source) != encoder:
        raise PlanError(
            f"The plan's encoder is not that of the weights {source.name}. Make a plan with --weights, which sets both."
        )
    try:
        load_residual(network, read_tensors(source.weights))
    except (KeyError, ValueError) as error:
        raise _misfit(source, error) from error


def start_from(network: keras.Model, weights: str) -> None:
    """Give a U-Net the weights of a pretrained one, of all layers but its outputs.

    Args:
        network: a plain U-Net; changed in place.
        weights: the folder of a pretraining.

    Raises:
        UsageError: there is none, or its network is another one.
    """
    source = find_source(weights)
    if not source.for_masks:
        raise UsageError(
            f"The weights {source.name} are not of a network for segmentation. Give the folder that 'hounsfield "
            "pretrain' wrote for one, or leave --weights out."
        )
    known = {layer.name: layer for layer in read_network(source.folder, for_masks=True).layers}
    for layer in network.layers:
        if not layer.weights or layer.name.startswith(OUTPUT):
            continue
        values = known[layer.name].get_weights() if layer.name in known else []
        if [value.shape for value in values] != [tuple(weight.shape) for weight in layer.weights]:
            raise UsageError(
                f"The network of the plan differs from that of the weights {source.name} in its layer {layer.name}. "
                "Leave width, strides, kernels and channels as the plan had them, or train without weights."
            )
        layer.set_weights(values)


def _of_bundle(source: Source) -> keras.Model:
    bundle = Bundle.load(source.folder)
    if bundle.family not in ("labels", "values"):
        raise UsageError(
            f"The bundle {source.name} is no network for whole images, whose weights alone are adapted. Give the run "
            "of a classifier or a regressor."
        )
    network = bundle.network()
    if any(isinstance(layer, keras.Model) for layer in network.layers):
        raise UsageError(
            f"The bundle {source.name} holds several networks in one, and one is expected. Give a run that was "
            "trained with folds: 1 and without mirrored views."
        )
    return keras.Model(network.inputs[0], network.get_layer("features").output)
