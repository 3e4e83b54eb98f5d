"""From path lengths of materials to the stored values of a digital radiograph.

Beer–Lambert attenuation at two effective energies (so that the beam hardens), scatter as a blurred share of the
primary beam, Poisson noise of the detected quanta, the detector's blur, and the vendor's processing: logarithm,
automatic levels, a grey-scale curve and edge enhancement.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hounsfield.phantoms.anatomy import Array, single

# Linear attenuation in 1/mm at about 50 and 80 keV (NIST XCOM, rounded): soft tissue, cortical bone; and the part of
# soft tissue's attenuation that inflated lung has.
_ENERGIES = ((0.55, 0.0227, 0.0815), (0.45, 0.0183, 0.0428))
LUNG_DENSITY = 0.28
MAGNIFICATION = 1.12  # of the chest on the detector, source at 1.8 m


@dataclass(frozen=True)
class Detector:
    """One make of X-ray machine: its detector and what its processing does to a picture."""

    manufacturer: str
    model: str
    photometric: str  # MONOCHROME1 or MONOCHROME2
    spacing: float  # mm at the detector, of a 128 × 128 picture
    blur: float  # standard deviation in pixels
    quanta: float  # per pixel in the open beam at reference exposure
    scatter: float  # scattered share behind the grid
    gamma: float
    edge_gain: float  # strength of edge enhancement
    edge_scale: float  # its standard deviation in pixels


DETECTORS = {
    "Radion DX-40": Detector(
        "Aldermoor Imaging", "Radion DX-40", "MONOCHROME2", 2.73, 0.50, 16000, 0.30, 1.15, 0.60, 3.0
    ),
    "Clarus 7": Detector("Veldt Medical", "Clarus 7", "MONOCHROME1", 2.95, 0.75, 9000, 0.42, 0.90, 0.30, 5.0),
}


def expose(soft: Array, bone: Array, detector: Detector, exposure: float, rng: np.random.Generator) -> Array:
    """Detected signal as a part of the open beam.

    Args:
        soft: mm of soft tissue (lung counted by its density) along each ray.
        bone: mm of cortical bone along each ray.
        detector: the machine.
        exposure: dose as a factor of the machine's reference.
        rng: draws the quanta.
    """
    primary = np.zeros_like(soft)
    for weight, mu_soft, mu_bone in _ENERGIES:
        primary += np.float32(weight) * np.exp(-(np.float32(mu_soft) * soft + np.float32(mu_bone) * bone))
    share = detector.scatter / (1 - detector.scatter)
    small = cv2.resize(primary, (32, 32), interpolation=cv2.INTER_AREA)
    scattered = cv2.resize(cv2.GaussianBlur(small, (0, 0), 4.5), primary.shape[::-1], interpolation=cv2.INTER_LINEAR)
    beam = np.float32(detector.quanta * exposure * 12.0)
    quanta = rng.poisson(beam * (primary + np.float32(share) * scattered)).astype(np.float32)
    return single(cv2.GaussianBlur(quanta, (0, 0), detector.blur) / beam)


def develop(signal: Array, detector: Detector, brightness: float, contrast: float) -> Array:
    """Processed picture in [0, 1], dense tissue bright, as the vendor's console shows it.

    Args:
        signal: what ``expose`` gave.
        detector: the machine.
        brightness: shift of the levels, as a part of their range.
        contrast: factor on the levels' range.
    """
    density = -np.log(np.maximum(signal, np.float32(1e-5)))
    density += np.float32(detector.edge_gain) * (density - cv2.GaussianBlur(density, (0, 0), detector.edge_scale))
    size = density.shape[0]
    field = density[size // 6 : -size // 4 : 2, size // 6 : -size // 6 : 2]
    low, high = np.percentile(field, (3, 97))
    level = (density - np.float32(low)) / np.float32(max(high - low, 1e-3))
    level = (level - np.float32(0.5)) * np.float32(0.80 * contrast) + np.float32(0.52 + brightness)
    return single(np.clip(level, 0, 1) ** np.float32(detector.gamma))
