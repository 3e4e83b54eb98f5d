"""From matter in the beam to the picture of a transmission electron microscope with negative stain.

A thin object turns and weakens the electron wave; the objective lens turns each spatial frequency by its aberration
(Scherzer's phase, with defocus and spherical aberration) under an envelope of coherence; the camera counts Poisson
electrons and blurs them (Reimer and Kohl, Transmission Electron Microscopy, chapters 3, 4 and 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
# Weakening (1/nm, of the intensity) and phase (rad/nm) of protein and of uranyl stain, rounded.
PROTEIN = (0.0035, 0.018)
STAIN = (0.021, 0.040)


@dataclass(frozen=True)
class Microscope:
    """One make of microscope with its camera."""

    model: str
    pixel: float  # nm in the specimen
    wavelength: float  # nm
    aberration: float  # Cs, nm
    spread: float  # of the coherence envelope, nm
    electrons: float  # a pixel in the open beam
    blur: float  # of the camera, standard deviation in pixels
    falloff: float  # of the illumination towards the corners
    bits: int  # 8: levels stretched, PNG; 16: counts, TIFF


MICROSCOPES = {
    "Lumen 120": Microscope("Lumen 120", 1.5, 0.00335, 2.0e6, 0.9, 150.0, 0.60, 0.10, 8),
    "Ardent 80": Microscope("Ardent 80", 1.9, 0.00418, 2.4e6, 1.2, 90.0, 0.85, 0.25, 16),
}


def stain_around(protein: Array, depth: Array, pool: float, pixel: float) -> Array:
    """Thickness of stain (nm) where a layer of this depth dries around particles: displaced by them, pooled at them.

    Args:
        protein: projected thickness, nm.
        depth: of the layer where there is nothing, nm.
        pool: how much more stands at the foot of a particle, nm.
        pixel: nm.
    """
    support = np.clip(protein / 8, 0, 1)
    foot = cv2.GaussianBlur(support, (0, 0), 9 / pixel) * (1 - support) + 0.3 * support
    filled = depth + pool * foot
    return np.asarray(np.maximum(filled - 0.9 * protein, 0.12 * depth))


def wave_intensity(protein: Array, stain: Array, film: Array, microscope: Microscope, defocus: float) -> Array:
    """Intensity at the camera as a part of the open beam.

    Args:
        protein: nm.
        stain: nm.
        film: phase of the carbon film, rad.
        microscope: the lens.
        defocus: nm, positive for underfocus.
    """
    weakening = PROTEIN[0] * protein + STAIN[0] * stain
    phase = PROTEIN[1] * protein + STAIN[1] * stain + film
    wave = np.exp(-weakening / 2 + 1j * phase)
    rows, columns = (np.fft.fftfreq(length, microscope.pixel) for length in wave.shape)
    squared = rows[:, None] ** 2 + columns[None, :] ** 2
    turned = np.pi * microscope.wavelength * defocus * squared
    turned -= 0.5 * np.pi * microscope.aberration * microscope.wavelength**3 * squared**2
    envelope = np.exp(-(np.pi**2) * microscope.spread**2 * squared / 4)
    return np.asarray(np.abs(np.fft.ifft2(np.fft.fft2(wave) * np.exp(-1j * turned) * envelope)) ** 2)


def expose(intensity: Array, microscope: Microscope, exposure: float, rng: np.random.Generator) -> Array:
    """Counts of the camera: uneven light, Poisson electrons, the camera's blur.

    Args:
        intensity: part of the open beam.
        microscope: its light and camera.
        exposure: electrons as a factor of the microscope's own.
        rng: draws electrons and where the light is brightest.
    """
    rows, columns = intensity.shape
    middle = rng.uniform(0.3, 0.7, 2)
    y, x = np.linspace(0, 1, rows)[:, None] - middle[0], np.linspace(0, 1, columns)[None] - middle[1]
    slope = rng.normal(0, 0.08, 2)
    light = 1 - microscope.falloff * 2 * (y**2 + x**2) + slope[0] * y + slope[1] * x
    counts = rng.poisson(microscope.electrons * exposure * np.maximum(light, 0.2) * intensity).astype(np.float64)
    return np.asarray(cv2.GaussianBlur(counts, (0, 0), microscope.blur))


def develop(counts: Array, microscope: Microscope) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """The stored picture: counts in 16 bits, or levels stretched to 8."""
    if microscope.bits == 16:
        return np.clip(np.rint(counts * 64 + 512), 0, 65535).astype(np.uint16)
    low, high = np.percentile(counts, (0.3, 99.7))
    levels = (counts - low) * (255 / max(float(high - low), 1e-9))
    return np.asarray(np.clip(np.rint(levels), 0, 255)).astype(np.uint8)
