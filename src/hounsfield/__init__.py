"""Hounsfield: deep learning for medical images, from a folder of files to an audited, served model."""

from hounsfield.version import __version__

__all__ = ["__version__"]
