"""Lossless JPEG by predictor 6 at 16 bits, which some encoders in the field computed with an integer overflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SELECTION = 6
PRECISION = 16
# How much smoother the picture must become for the overflow to be believed.
SMOOTHER = 0.5


def without_overflow(values: Array) -> Array:
    """Give one decoded frame the values that its encoder meant.

    Predictor 6 is above + ((left − above-left) >> 1) (ITU-T T.81 table H.1). Encoders that kept the difference in 16
    bits wrapped it where it was too large, as signed pixels stored as unsigned ones make it; a right decoder then goes
    astray from there on. DCMTK knows the same fault as its predictor 6 workaround. Where no difference is too large the
    two readings are one, and where there is one the much smoother picture of the two is taken.

    Args:
        values: (rows, columns), 16 bits, as decoded by the standard.
    """
    decoded = values.astype(np.int64) & 0xFFFF
    gradients = decoded[1:, :-1] - decoded[:-1, :-1]
    if not np.any(gradients != _wrapped(gradients)):
        return values
    predicted = np.full_like(decoded, 2 ** (PRECISION - 1))
    predicted[0, 1:] = decoded[0, :-1]
    predicted[1:, 0] = decoded[:-1, 0]
    predicted[1:, 1:] = decoded[:-1, 1:] + (gradients >> 1)
    repaired = _reconstructed((decoded - predicted) & 0xFFFF).astype(np.uint16).view(values.dtype)
    return repaired if _roughness(repaired) < SMOOTHER * _roughness(values) else values


def _reconstructed(residuals: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Add the wrapped prediction to the residuals, one antidiagonal after the other: each needs only the two before."""
    rows, columns = residuals.shape
    # diagonals[k, r + 1] is the pixel (r, k - r); the first column stands for the row above the picture.
    diagonals = np.zeros((rows + columns - 1, rows + 1), dtype=np.int64)
    for k in range(rows + columns - 1):
        row = np.arange(max(0, k - columns + 1), min(rows, k + 1))
        if k == 0:
            predicted = np.full(1, 2 ** (PRECISION - 1), dtype=np.int64)
        else:
            left, above = diagonals[k - 1, row + 1], diagonals[k - 1, row]
            predicted = above + (_wrapped(left - diagonals[k - 2, row]) >> 1)
            predicted = np.where(row == 0, left, np.where(row == k, above, predicted))
        diagonals[k, row + 1] = (predicted + residuals[row, k - row]) & 0xFFFF
    row, column = np.indices((rows, columns))
    return np.asarray(diagonals[row + column, row + 1])


def _wrapped(differences: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What is left of numbers in a signed integer of 16 bits."""
    return ((differences + 2**15) & 0xFFFF) - 2**15


def _roughness(values: Array) -> float:
    return float(np.abs(np.diff(values.astype(np.int64), axis=1)).mean())
