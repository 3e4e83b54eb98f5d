"""The phantom of micrographs, and the boxes of the CT phantom: true boxes, the physics of the picture, two readings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hounsfield.cohorts import load_cohort, read_mask
from hounsfield.cohorts.coco_shapes import shape_mask
from hounsfield.images import read_image
from hounsfield.masks import region_boxes
from hounsfield.phantoms import make_phantom, micrograph, microscope, particles
from hounsfield.phantoms.microscope import MICROSCOPES
from hounsfield.phantoms.patients import Bias, WeakGroup


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom("phantom:micrograph", tmp_path_factory.mktemp("phantom") / "fields", num_patients=6).parent


def test_fields_are_files_of_8_and_of_16_bits_with_boxes_inside(folder: Path) -> None:
    rows = pd.read_csv(folder / "cohort.csv", keep_default_na=False)
    assert set(rows["label"]) == {"", *particles.KINDS}
    kinds = {}
    for name in rows["image"].unique():
        image = read_image(folder / name)
        assert image.shape == (micrograph.SIZE, micrograph.SIZE)
        kinds[Path(name).suffix] = image.pixels.dtype.name
        assert image.pixels.std() > 0
    assert kinds == {".png": "uint8", ".tif": "uint16"}
    boxes = rows.loc[rows["label"] != "", list(micrograph.COLUMNS)].astype(int)
    assert boxes.min(axis=None) >= 0
    assert boxes.max(axis=None) <= micrograph.SIZE
    assert ((boxes["y1"] > boxes["y0"]) & (boxes["x1"] > boxes["x0"])).all()


def test_table_and_coco_say_the_same(folder: Path) -> None:
    by_table = load_cohort(folder)
    by_coco = load_cohort(folder / "annotations.json")
    assert (by_table.kind, by_coco.kind) == ("box table", "coco")
    assert by_table.labels == by_coco.labels == tuple(particles.KINDS)
    assert by_table.knows_patients
    assert by_coco.knows_patients
    assert by_table.table["image"].tolist() == by_coco.table["image"].tolist()
    for row in range(len(by_table)):
        np.testing.assert_array_equal(by_table.boxes(row)[0], by_coco.boxes(row)[0])
        np.testing.assert_array_equal(by_table.boxes(row)[1], by_coco.boxes(row)[1])
    assert (by_table.table["label"] == "").any()


def test_outlines_of_particles_are_masks_and_fit_their_boxes(folder: Path) -> None:
    boxes = load_cohort(folder)
    cohort = load_cohort(folder / "annotations.json", kind="coco masks")
    assert (cohort.task, cohort.labels) == ("segmentation", tuple(particles.KINDS))
    assert cohort.table["image"].tolist() == boxes.table["image"].tolist()
    sheet = json.loads((folder / "annotations.json").read_text())
    names = {image["id"]: image["file_name"] for image in sheet["images"]}
    for item in sheet["annotations"]:
        region = shape_mask(item["segmentation"], (micrograph.SIZE, micrograph.SIZE))
        (box,) = region_boxes(region).tolist()
        assert [box[1], box[0], box[3] - box[1], box[2] - box[0]] == item["bbox"]
        assert region.sum() == item["area"]
    row = cohort.table["image"].tolist().index(names[sheet["annotations"][0]["image_id"]])
    mask = read_mask(cohort, row, cohort.read(row)).pixels
    marked = mask.any(axis=-1) if cohort.overlapping else mask[..., 0] > 0
    pixels = cohort.read(row).pixels[..., 0].astype(float)
    # Stain surrounds particles, so they are brighter than the field.
    assert pixels[marked].mean() > pixels[~marked].mean()


def particle_of(name: str, seed: int) -> particles.Particle:
    return particles.draw_particle(particles.KINDS[name], 1.5, (0.0, 0.0), np.random.default_rng(seed))


@pytest.mark.parametrize("name", particles.KINDS)
def test_a_particle_lies_whole_on_its_grid_and_has_its_size(name: str) -> None:
    for seed in range(6):
        particle = particle_of(name, seed)
        outline = particle.thickness > particles.OUTLINE * particle.thickness.max()
        rows, columns = np.nonzero(outline)
        side = outline.shape[0]
        assert min(rows.min(), columns.min()) > 0
        assert max(rows.max(), columns.max()) < side - 1
        longest = 1.5 * max(np.ptp(rows), np.ptp(columns))
        assert 1.2 * particle.reach < longest < 2.4 * particle.reach


def test_the_icosahedron_has_its_volume() -> None:
    normals = particles.FACES
    assert normals.shape == (20, 3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    y, x = particles.grid(40, 0.5, (0.0, 0.0))
    volume = particles._solid(y, x, normals, 30.0).sum() * 0.25
    # Inradius r = φ² a / (2 √3); volume = 5 φ² a³ / 6.
    edge = 30 * 2 * np.sqrt(3) / particles.GOLDEN**2
    assert volume == pytest.approx(5 / 6 * particles.GOLDEN**2 * edge**3, rel=0.01)


def one_field(label: str, strength: float) -> tuple[np.ndarray, micrograph.Outlines]:
    scope = MICROSCOPES["Lumen 120"]
    specimen = micrograph.Specimen("S", scope, dict.fromkeys(particles.KINDS, 0.0) | {label: 6.0}, 0.0, 30, 10, 0.0)
    return micrograph.render(specimen, strength, np.random.default_rng(3))


@pytest.mark.parametrize("label", particles.KINDS)
def test_particles_are_bright_in_their_boxes_and_weak_ones_less(label: str) -> None:
    full, boxes = one_field(label, 1.0)
    weak, same = one_field(label, 0.4)
    none, _ = one_field(label, 0.0)
    assert [name for name, _ in boxes] == [name for name, _ in same] == [label] * len(boxes)
    assert all((one == other).all() for (_, one), (_, other) in zip(boxes, same, strict=True))
    inside = np.zeros(full.shape, bool)
    for _, region in boxes:
        (box,) = region_boxes(region).tolist()
        inside[slice(*box[::2]), slice(*box[1::2])] = True

    def gain(picture: np.ndarray) -> float:
        values = picture.astype(float)
        return float((values[inside].mean() - values[~inside].mean()) / values[~inside].std())

    assert gain(full) > gain(weak) + 0.05 > gain(none) + 0.06
    assert gain(full) > 0.5


def test_weakening_without_a_lens_is_beer_and_lamberts() -> None:
    plain = microscope.Microscope("", 1.5, 0.0037, 0.0, 0.0, 1e6, 0.3, 0.0, 16)
    protein, stain = np.full((16, 16), 50.0), np.full((16, 16), 20.0)
    intensity = microscope.wave_intensity(protein, stain, np.zeros((16, 16)), plain, 0.0)
    np.testing.assert_allclose(intensity, np.exp(-0.0035 * 50 - 0.021 * 20), rtol=1e-9)


def test_defocus_turns_phase_into_contrast_as_the_transfer_function_says() -> None:
    scope = microscope.Microscope("", 1.5, 0.0037, 2e6, 0.0, 1e6, 0.3, 0.0, 16)
    side, waves = 96, 12
    ripple = 1e-3 * np.cos(2 * np.pi * waves * np.arange(side) / side)[None] * np.ones((side, 1))
    frequency = waves / (side * scope.pixel)
    zero = np.zeros((side, side))
    for defocus in (400.0, 1500.0, 3000.0):
        turned = np.pi * 0.0037 * defocus * frequency**2 - np.pi / 2 * 2e6 * 0.0037**3 * frequency**4
        intensity = microscope.wave_intensity(zero, zero, ripple, scope, defocus)
        contrast = (intensity * np.cos(2 * np.pi * waves * np.arange(side) / side)[None]).mean() * 2
        assert contrast == pytest.approx(2 * 1e-3 * np.sin(turned), abs=2e-6)


def test_a_weak_group_changes_only_its_microscope(tmp_path: Path) -> None:
    weak = Bias(weak=WeakGroup("microscope", "Ardent 80", 0.3))
    for name in ("a", "b"):
        (tmp_path / name / "images").mkdir(parents=True)
    same: dict[object, set[tuple[bool, bool]]] = {}
    models = [micrograph.draw_specimen(0, index)[0].microscope.model for index in range(9)]
    for index in {models.index(model) for model in MICROSCOPES}:
        plain = micrograph.write_specimen(tmp_path / "a", index, seed=0, bias=Bias())
        biased = micrograph.write_specimen(tmp_path / "b", index, seed=0, bias=weak)
        assert plain == biased
        for row in plain:
            files = [(tmp_path / name / str(row["image"])).read_bytes() for name in ("a", "b")]
            same.setdefault(row["microscope"], set()).add((files[0] == files[1], row["label"] != ""))
    assert same["Lumen 120"] <= {(True, True), (True, False)}
    assert (False, True) in same["Ardent 80"]


def test_boxes_of_the_ct_phantom_hold_the_nodule_after_reading(tmp_path: Path) -> None:
    table = make_phantom("ct-nodule", tmp_path / "ct", num_patients=4)
    cohort = load_cohort(table, kind="box-table")
    assert (cohort.task, cohort.labels, cohort.box_rank) == ("detection", ("nodule",), 3)
    assert 0 < cohort.box_counts().sum() < 4
    for row in np.flatnonzero(cohort.box_counts()[:, 0]):
        pixels = cohort.read(row).pixels[..., 0]
        box = cohort.boxes(int(row))[0][0]
        middle = pixels[tuple(int(at) for at in (box[:3] + box[3:]) / 2)]
        # Soft tissue in the middle, lung around: the slices lie as the box counts them.
        corners = [pixels[int(z), int(y), int(x)] for z in (box[0], box[3] - 1) for y in box[[1]] for x in box[[2]]]
        assert middle > -350
        assert min(corners) < middle
