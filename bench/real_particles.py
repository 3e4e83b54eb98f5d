"""How well are real particles counted? A detector's assay of the test images of its run beside that of their boxes.

    python bench/real_particles.py RUN

RUN is a finished detector, made of images with boxes such as those of EMPS. No specimen, magnification or
dilution of these micrographs is known, so each test image is a specimen of one field, the boxes are one instrument and
the detector is the other. Printed are: the fields that were refused; of the others the ratio of the two counts with its
interval and the limits of agreement; the slope of log found on log true, for which the true number stands in place of a
dilution; and the particles of a field on the mean, with the interval of each. Particles are counted as an assay counts
them: only whole ones, each with its weight.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield.cohorts import load_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.evaluation.assay import analyse_fields
from hounsfield.evaluation.field_rates import Figure
from hounsfield.runs import read_run
from hounsfield.testing.assay import assay_fields, whole

BOXES, DETECTOR = "boxes", "detector"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    wanted = parser.parse_args()
    run = read_run(wanted.run)
    cohort = load_request(DataRequest.from_dict(run.environment["data"]))
    tested = run.cohort.loc[run.cohort["split"] == "test", "image"]
    rows = np.flatnonzero(cohort.table["image"].isin(tested)).tolist()
    truth = pd.DataFrame([boxed(cohort, row) for row in rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fields.csv"
        truth[["image", "specimen"]].to_csv(path, index=False)
        found = assay_fields(wanted.run, path).fields
    names = cohort.labels
    kept = found["refused"] == ""
    print(f"{len(rows)} test images, {(~kept).sum()} refused; particles of {', '.join(names)}")
    pair = {BOXES: truth[kept.to_numpy()], DETECTOR: found[kept]}
    counts = {name: total(fields, names, "weight") for name, fields in pair.items()}
    both = pd.concat([fields.assign(instrument=name) for name, fields in pair.items()])
    (agreement,) = analyse_fields(both, names).agreement
    print(f"{agreement.specimens} fields in which both find particles: detector over boxes {shown(agreement.ratio)}")
    print("95 % of the ratios of single fields lie between {:.2f} and {:.2f}".format(*agreement.limits))
    filled = counts[BOXES] > 0
    line = pair[DETECTOR][filled].assign(specimen="all", dilution=counts[BOXES].max() / counts[BOXES][filled])
    slope = analyse_fields(line, names).slope
    least, most = counts[BOXES][filled].min(), counts[BOXES].max()
    print(f"slope of log found on log true, {filled.sum()} fields of {least:.0f} to {most:.0f}: {shown(slope)}")
    for name, fields in pair.items():
        rate = analyse_fields(fields.assign(specimen="all"), names).specimens[0].concentration
        print(f"particles in a field, {name}: {shown(rate)}; {total(fields, names, 'count').sum():,.0f} whole ones")
    gaps = counts[DETECTOR] - counts[BOXES]
    print(f"detector less boxes in a field: mean {gaps.mean():+.2f}, median {np.median(gaps):+.2f}")


def boxed(cohort, row: int) -> dict[str, object]:
    """A field as its boxes say, as an assay takes it."""
    shape = cohort.read(row).pixels.shape[:2]
    boxes, classes = cohort.boxes(row)
    weights = whole(boxes, shape)
    image = str((cohort.source.root / cohort.table["image"].iloc[row]).resolve())
    field: dict[str, object] = {"image": image, "specimen": Path(image).name}
    for number, label in enumerate(cohort.labels):
        mine = weights[np.asarray(classes) == number]
        field |= {f"count_{label}": int((mine > 0).sum()), f"weight_{label}": float(mine.sum())}
    return field


def total(fields: pd.DataFrame, labels: tuple[str, ...], what: str) -> np.ndarray:
    """Particles of each field, over the labels."""
    return fields[[f"{what}_{label}" for label in labels]].to_numpy(float).sum(axis=1)


def shown(figure: Figure) -> str:
    return f"{figure.value:.3g} ({figure.low:.3g} to {figure.high:.3g})"


if __name__ == "__main__":
    main()
