"""The phantom of abdominal organs: outlines where the organs are, planted volumes, a lesion that grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydicom
import pytest

from hounsfield.cohorts import Cohort, load_cohort, read_mask
from hounsfield.masks import components, label_sizes, region_of
from hounsfield.phantoms import make_phantom, organs
from hounsfield.phantoms.patients import Bias, WeakGroup, draw_patient
from hounsfield.phantoms.scanner import POSITIONS, Frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(
        "phantom:ct-organs", tmp_path_factory.mktemp("phantom") / "organs", seed=1, num_patients=6
    ).parent


@pytest.fixture(scope="module")
def cohort(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cohort]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOUNSFIELD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield load_cohort(folder)


def test_visits_are_series_with_segmentations(cohort: Cohort) -> None:
    assert (cohort.task, cohort.kind, set(cohort.labels)) == ("segmentation", "mask table", set(organs.LABELS))
    assert cohort.table.groupby("patient").size().tolist() == [2] * 6
    for row in range(len(cohort)):
        image = cohort.read(row)
        assert image.modality == "CT"
        mask = read_mask(cohort, row, image).pixels
        means = {
            label: float(image.pixels[..., 0][region_of(mask, index)].mean())
            for index, label in enumerate(cohort.labels)
            if region_of(mask, index).any()
        }
        assert 90 < means["liver"] < 120
        assert means["left kidney"] > means["spleen"] + 20
        if "lesion" in means:
            assert means["lesion"] < means["liver"] - 25
        # An organ is one piece.
        for index, label in enumerate(cohort.labels):
            if label != "lesion":
                assert components(region_of(mask, index))[1] == 1


def test_sides_are_those_of_the_patient_however_it_lies(cohort: Cohort) -> None:
    for row in range(len(cohort)):
        image = cohort.read(row)
        mask = read_mask(cohort, row, image).pixels
        assert image.affine is not None
        middles = {}
        for index, label in enumerate(cohort.labels):
            places = np.argwhere(region_of(mask, index))
            if len(places):
                middles[label] = image.affine @ [*places.mean(axis=0), 1]
        # Left is where x grows; the liver lies right of the spleen, and above the kidneys.
        assert middles["left kidney"][0] > 20 > -20 > middles["right kidney"][0]
        assert middles["liver"][0] < middles["spleen"][0]
        assert middles["liver"][2] > middles["right kidney"][2]


def test_the_planted_volumes_are_those_of_the_masks_and_lesions_grow(cohort: Cohort) -> None:
    table = cohort.table
    lesion = cohort.labels.index("lesion")
    for row in range(len(cohort)):
        image = cohort.read(row)
        sizes = label_sizes(read_mask(cohort, row, image).pixels, len(cohort.labels), image.spacing)
        assert sizes[lesion] == pytest.approx(table["lesion_ml"][row], abs=1e-3)
    by_visit = table.pivot_table(index="patient", columns="visit", values="lesion_ml")
    grown = by_visit[by_visit[1] > 0]
    assert len(grown) >= 3
    assert (grown[2] > grown[1]).all()
    assert (by_visit[by_visit[1] == 0][2] == 0).all()


def test_a_lesion_has_the_volume_of_its_ellipsoid() -> None:
    ratios = []
    for index in range(24):
        patient, rng = draw_patient(organs.NAME, 9, index, prevalence=1.0)
        body = organs.draw_abdomen(patient, rng)
        frame = Frame.of("HFS", 0.0, organs.SHAPE, organs.SPACING)
        volumes = [
            float((organs.render(frame, body, visit, "Spira 16", 1.0, np.random.default_rng(0))[1] == 5).sum())
            * np.prod(organs.SPACING)
            for visit in (1, 2)
        ]
        planted = 4 / 3 * np.pi * np.prod(body.lesion_half) * body.scale**3
        ratios.append((volumes[0] / planted, volumes[1] / (planted * body.growth)))
    assert np.mean(ratios, axis=0) == pytest.approx([1, 1], abs=0.06)


@pytest.mark.parametrize("position", POSITIONS)
def test_every_position_sees_the_same_organs(position: str) -> None:
    patient, rng = draw_patient(organs.NAME, 2, 0, prevalence=1.0)
    body = organs.draw_abdomen(patient, rng)
    found = []
    for where, tilt in (("HFS", 0.0), (position, 0.08)):
        frame = Frame.of(where, tilt, organs.SHAPE, organs.SPACING)
        mask = organs.render(frame, body, 1, "Spira 16", 1.0, np.random.default_rng(4))[1]
        found.append(np.bincount(mask.ravel(), minlength=6)[1:])
    np.testing.assert_allclose(found[1], found[0], rtol=0.06, atol=12)


def test_segmentations_name_their_series_and_organs(folder: Path) -> None:
    for row in pd.read_csv(folder / "cohort.csv").to_dict("records"):
        dataset = pydicom.dcmread(folder / str(row["mask"]))
        assert dataset.Modality == "SEG"
        assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == row["series"]
        assert dataset.PatientID == row["patient"]
        names = [item.SegmentLabel for item in dataset.SegmentSequence]
        assert set(names) >= set(organs.LABELS) - {"lesion"}
        assert ("lesion" in names) == (row["lesion_ml"] > 0)


def test_a_weak_group_has_fainter_lesions() -> None:
    weak = WeakGroup.parse("sex=F", 0.4, organs.ATTRIBUTES)
    assert Bias(weak=weak).strength({"sex": "F"}) == 0.4
    patient, rng = draw_patient(organs.NAME, 2, 0, prevalence=1.0)
    body = organs.draw_abdomen(patient, rng)
    frame = Frame.of("HFS", 0.0, organs.SHAPE, organs.SPACING)

    def contrast(strength: float) -> float:
        volume: npt.NDArray[np.floating]
        volume, mask = organs.render(frame, body, 2, "Spira 16", strength, np.random.default_rng(4))
        return float(volume[mask == 1].mean() - volume[mask == 5].mean())

    assert contrast(0.4) < 0.6 * contrast(1.0)
