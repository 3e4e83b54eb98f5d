"""Networks that were trained before, on other images: where their weights lie, and how they become ours."""

from hounsfield.pretrained.network import build_network, encoder_of, load_encoder, start_from
from hounsfield.pretrained.source import Source, check_licence, find_source

__all__ = ["Source", "build_network", "check_licence", "encoder_of", "find_source", "load_encoder", "start_from"]
