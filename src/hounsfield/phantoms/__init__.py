"""Made-up cohorts with known truth: simulated images, written as the DICOM files that a hospital would send."""

from hounsfield.phantoms.catalogue import PHANTOMS, Phantom, make_phantom, source_digest

__all__ = ["PHANTOMS", "Phantom", "make_phantom", "source_digest"]
