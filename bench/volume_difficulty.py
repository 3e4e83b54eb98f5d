"""How hard is phantom:ct-nodule for models that do not look for a nodule? AUC by seed of the cohort.

    python bench/volume_difficulty.py --seeds 2

They are the mean of all Hounsfield units, the share of lung, and a logistic regression on the means of cubes of 4 and
of 8 voxels a side, whose C and cube are chosen on validation. Patients are split 70/10/20. Volumes are read from
their DICOM series and brought to one orientation.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hounsfield.cohorts import load_cohort
from hounsfield.phantoms import make_phantom
from hounsfield.preprocessing import Pipeline


def volumes_of(table: Path) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (patients, slices, rows, columns) in HU, and whether each has a nodule."""
    cohort = load_cohort(table)
    turned = Pipeline.from_dict({"steps": [{"name": "reorient"}]})
    volumes = [turned.apply(cohort.read(row)).pixels[..., 0] for row in range(len(cohort))]
    return np.stack(volumes).astype(np.float32), cohort.table["label"].to_numpy() == "nodule"


def linear_auc(volumes: np.ndarray, diseased: np.ndarray) -> tuple[float, float]:
    """(validation, test) of the regression that validates best."""
    part = np.digitize(np.arange(len(volumes)) / len(volumes), (0.7, 0.8))
    best = (0.0, 0.0)
    for side in (4, 8):
        shape = [size for length in volumes.shape[1:] for size in (length // side, side)]
        cells = volumes.reshape(len(volumes), *shape).mean((2, 4, 6)).reshape(len(volumes), -1)
        for strength in (1e-5, 1e-4, 1e-3, 1e-2):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
            score = model.fit(cells[part == 0], diseased[part == 0]).decision_function(cells)
            validated, tested = (float(roc_auc_score(diseased[part == k], score[part == k])) for k in (1, 2))
            best = max(best, (validated, tested))
    return best


def main() -> None:
    """Print one line a seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--patients", type=int, default=None)
    arguments = parser.parse_args()
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            table = make_phantom("phantom:ct-nodule", Path(folder) / "ct", seed=seed, num_patients=arguments.patients)
            volumes, diseased = volumes_of(table)
        mean = roc_auc_score(diseased, volumes.mean((1, 2, 3)))
        lung = roc_auc_score(diseased, (volumes < -600).mean((1, 2, 3)))
        validated, tested = linear_auc(volumes, diseased)
        print(
            f"seed {seed}: {len(volumes)} volumes, mean {mean:.3f}, share of lung {lung:.3f}, "
            f"linear {tested:.3f} (validation {validated:.3f})"
        )


if __name__ == "__main__":
    main()
