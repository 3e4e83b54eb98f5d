"""Segmentation cohorts: how masks are found, named and brought onto their images; what is refused, and how."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from delegates import Elsewhere
from families import hounsfield
from hounsfield.cohorts import TARGETS, Cohort, MaskStore, assign_splits, load_cohort, read_mask
from hounsfield.cohorts.delegation import delegating
from hounsfield.drawing.boxed import class_colour
from hounsfield.errors import CohortError
from hounsfield.masks import IGNORE
from hounsfield.preprocessing import Pipeline, Reorient, Resample, ZScore
from hounsfield.reports.inspection import _previews
from test_masks import oblique

SHAPE = (9, 12, 10)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path_factory.mktemp("cache")))


def notes(cohort: Cohort) -> str:
    return " ".join(cohort.notes)


def write_volume(path: Path, voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64] | None = None) -> None:
    """Voxels (slice, row, column) as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels.T, np.eye(4) if affine is None else affine), path)


def label_map(number: int = 0, values: Sequence[int] = (1, 2)) -> npt.NDArray[np.uint8]:
    marked = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(values):
        marked[1 + place * 3 : 3 + place * 3, 2:7, 1 + number % 4 : 6] = value
    return marked


def volumes(folder: Path, num: int = 6, values: Sequence[int] = (1, 2), names: object = None) -> Path:
    """Volumes and their label maps, as the Decathlon has them."""
    for number in range(num):
        marked = label_map(number, values)
        noise = np.random.default_rng(number).normal(0, 3, SHAPE)
        write_volume(folder / "imagesTr" / f"case_{number:02}.nii.gz", (noise + 50 * (marked > 0)).astype(np.float32))
        write_volume(folder / "labelsTr" / f"case_{number:02}.nii.gz", marked)
    if names is not None:
        (folder / "dataset.json").write_text(json.dumps({"labels": names}))
    return folder


def masks_of(cohort: Cohort) -> list[npt.NDArray[np.uint8]]:
    return [read_mask(cohort, row, cohort.read(row)).pixels for row in range(len(cohort))]


def test_the_decathlons_folders_are_read_as_masks_with_its_names(tmp_path: Path) -> None:
    folder = volumes(tmp_path, names={"0": "background", "1": "Anterior", "2": "Posterior", "3": "Lesion"})
    cohort = load_cohort(folder)
    assert (cohort.task, cohort.kind, cohort.labels) == ("segmentation", "masks", ("Anterior", "Posterior"))
    assert cohort.table["label"].tolist() == ["Anterior;Posterior"] * 6
    assert cohort.table["mask"].iloc[0] == "labelsTr/case_00.nii.gz"
    assert "Read as masks; it could also be read as label maps or label components" in notes(cohort)
    assert "The labels Lesion are marked in no image and were left out." in notes(cohort)
    for row, mask in enumerate(masks_of(cohort)):
        np.testing.assert_array_equal(mask[..., 0], label_map(row))
    assert cohort.targets().tolist() == [[1, 1]] * 6


def test_values_are_classes_by_number_and_255_above_them_is_not_known(tmp_path: Path) -> None:
    cohort = load_cohort(volumes(tmp_path / "a", values=(1, 2, 255)))
    assert cohort.labels == ("1", "2")
    assert "The value 255 of the masks was read as unlabelled" in notes(cohort)
    assert set(np.unique(masks_of(cohort)[0])) == {0, 1, 2, IGNORE}
    alone = load_cohort(volumes(tmp_path / "b", values=(255,)))
    assert alone.labels == ("foreground",)
    assert set(np.unique(masks_of(alone)[0])) == {0, 1}
    assert load_cohort(volumes(tmp_path / "c", values=(128, 255))).labels == ("128", "255")
    (tmp_path / "names.csv").write_text("label,name\n1,liver\n2,unlabelled\n255,tumour\n")
    named = load_cohort(volumes(tmp_path / "d", values=(1, 2, 255)), class_names=tmp_path / "names.csv")
    assert named.labels == ("liver", "tumour")
    np.testing.assert_array_equal(masks_of(named)[0][..., 0], np.array([0, 1, IGNORE, 2])[label_map(0, (1, 2, 3))])


def test_a_mask_on_another_grid_is_brought_over_by_geometry(tmp_path: Path) -> None:
    affine = oblique()
    folder = volumes(tmp_path)
    for number in range(6):
        marked = label_map(number)
        write_volume(folder / "imagesTr" / f"case_{number:02}.nii.gz", (9 * marked).astype(np.float32), affine)
        # The same voxels stored from the other end, without two empty rows, and the axes in another order.
        shift = np.eye(4)
        shift[:3, 3] = (0, 1, 0)
        flip = np.diag([-1.0, 1, 1, 1])
        flip[0, 3] = SHAPE[2] - 1
        order = np.eye(4)[[1, 0, 2, 3]]
        moved = marked[:, 1:-1, ::-1].transpose(0, 2, 1)
        write_volume(folder / "labelsTr" / f"case_{number:02}.nii.gz", moved, affine @ shift @ flip @ order)
    cohort = load_cohort(folder)
    assert "6 masks lie on another grid" in notes(cohort)
    for row, mask in enumerate(masks_of(cohort)):
        np.testing.assert_array_equal(mask[..., 0], label_map(row))


REFUSED: dict[str, tuple[Callable[[npt.NDArray[Any]], npt.NDArray[Any]], str]] = {
    "has fractions": (lambda marked: marked * 0.3, "its values have fractions, such as 0.3"),
    "shape": (lambda marked: marked[:-2], "100% of what its mask marks lies outside"),
    "covers": (np.ones_like, "'1' covers 100.0% of the image"),
    "many": (
        lambda marked: np.arange(marked.size, dtype=np.int16).reshape(marked.shape),
        "it has 1080 values, more than a mask can have classes",
    ),
    "4D": (lambda marked: np.stack([marked, marked]), r"it is 4D: 2 volumes"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_masks_that_cannot_be_used_are_left_out_or_refused_in_one_paragraph(fault: str, tmp_path: Path) -> None:
    change, reason = REFUSED[fault]
    folder = volumes(tmp_path, num=24)
    for number in (3, 4):
        place = folder / "labelsTr" / f"case_{number:02}.nii.gz"
        affine = np.eye(4)
        affine[:3, 3] = 500 if fault == "shape" else 0
        write_volume(place, change(label_map(number)), affine)
        if number == 3:
            cohort = load_cohort(folder)
            assert len(cohort) == 23
            assert "1 image was left out, since its mask cannot be used: imagesTr/case_03.nii.gz (" in notes(cohort)
    with pytest.raises(
        CohortError, match=rf"Found 2 of 24 images .* whose mask cannot be used: .*({reason})"
    ) as raised:
        load_cohort(folder)
    assert "\n" not in str(raised.value)
    assert "and 1 more like it" in str(raised.value)


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    folder = volumes(tmp_path, names={"0": "background", "1": "a", "2": "b"})
    write_volume(folder / "labelsTr" / "case_00.nii.gz", label_map() * np.float32(0.5))
    write_volume(folder / "labelsTr" / "case_01.nii.gz", label_map() + np.uint8(7))
    write_volume(folder / "labelsTr" / "case_02.nii.gz", np.ones_like(label_map()))
    with pytest.raises(CohortError) as raised:
        load_cohort(folder)
    for said in ("fractions", "the value 7, which is no class (the classes are 1 a, 2 b)", "covers"):
        assert said in str(raised.value)


@pytest.mark.parametrize("most", [1500, 200])
def test_swapped_images_and_masks_are_told(most: int, tmp_path: Path) -> None:
    folder = volumes(tmp_path)
    for number in range(6):
        grey = np.random.default_rng(number).integers(0, most, SHAPE, np.int16)
        write_volume(folder / "labelsTr" / f"case_{number:02}.nii.gz", grey)
        write_volume(folder / "imagesTr" / f"case_{number:02}.nii.gz", label_map())
    with pytest.raises(CohortError, match="image and mask look swapped, since the image has 3 values"):
        load_cohort(folder)


def test_one_image_swapped_with_its_mask_is_named(tmp_path: Path) -> None:
    folder = volumes(tmp_path, num=24)
    grey = np.random.default_rng(0).integers(0, 200, SHAPE, np.uint8)
    write_volume(folder / "labelsTr" / "case_07.nii.gz", grey)
    write_volume(folder / "imagesTr" / "case_07.nii.gz", label_map())
    told = notes(load_cohort(folder))
    assert "1 image was left out, since its mask cannot be used: imagesTr/case_07.nii.gz (image and mask look" in told


@pytest.mark.parametrize(
    "resized",
    [lambda mask: mask[::2], lambda mask: mask.repeat(2, axis=1), lambda mask: mask[4]],
    ids=["half", "double", "one slice"],
)
def test_a_header_copied_to_a_resized_mask_is_not_believed(
    resized: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]], tmp_path: Path
) -> None:
    folder = volumes(tmp_path)
    for number in range(6):
        write_volume(folder / "labelsTr" / f"case_{number:02}.nii.gz", resized(label_map(number)), np.eye(4))
        write_volume(folder / "imagesTr" / f"case_{number:02}.nii.gz", (9 * label_map(number)).astype(np.float32))
    with pytest.raises(CohortError, match="the mask looks resized, with a copied header"):
        load_cohort(folder)


def test_a_mask_cut_off_at_its_end_lies_where_its_geometry_says(tmp_path: Path) -> None:
    folder = volumes(tmp_path)
    for number in range(6):
        write_volume(folder / "imagesTr" / f"case_{number:02}.nii.gz", (9 * label_map(number)).astype(np.float32))
        write_volume(folder / "labelsTr" / f"case_{number:02}.nii.gz", label_map(number)[:, :-1])
    for row, mask in enumerate(masks_of(load_cohort(folder))):
        np.testing.assert_array_equal(mask[:, :-1, :, 0], label_map(row)[:, :-1])
        assert not mask[:, -1].any()


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.nan, "not finite, such as nan"), (np.inf, "not finite, such as inf"), (-1, r"background or not known \(-1\)")],
)
def test_values_that_mark_nothing_are_named(value: float, said: str, tmp_path: Path) -> None:
    folder = volumes(tmp_path)
    for number in range(6):
        marked = np.where(label_map(number) > 0, np.float32(value), np.float32(0))
        write_volume(folder / "labelsTr" / f"case_{number:02}.nii.gz", marked)
    with pytest.raises(CohortError, match=said):
        load_cohort(folder)


def test_pictures_without_geometry_must_have_the_size_of_their_mask(tmp_path: Path) -> None:
    for number in range(4):
        for name in ("images", "masks"):
            (tmp_path / name).mkdir(exist_ok=True)
            side = 20 if name == "images" or number else 24
            pixels = np.zeros((side, 30), np.uint8)
            pixels[4:9, 3:20] = 255
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), pixels)
    with pytest.raises(CohortError, match="the mask has the shape 24×30 and the image 20×30, and neither says where"):
        load_cohort(tmp_path)


def test_empty_masks_are_negatives_and_only_empty_ones_are_refused(tmp_path: Path) -> None:
    folder = volumes(tmp_path)
    write_volume(folder / "labelsTr" / "case_00.nii.gz", np.zeros(SHAPE, np.uint8))
    cohort = load_cohort(folder)
    assert "1 of the masks mark nothing" in notes(cohort)
    train = cohort.with_splits(["train", "train", "validation", "validation", "test", "test"])
    TARGETS["masks"].check_trainable(train)
    empty = cohort.with_splits(["train", *["validation"] * 3, "test", "test"])
    with pytest.raises(CohortError, match=r"The masks of all 1 train images .* are empty"):
        TARGETS["masks"].check_trainable(empty)
    for number in range(6):
        write_volume(folder / "labelsTr" / f"case_{number:02}.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(CohortError, match="Found nothing marked in any of the 6 masks"):
        load_cohort(folder)


def test_a_label_that_a_split_lacks_is_named(tmp_path: Path) -> None:
    folder = volumes(tmp_path)
    for number in (0, 1):
        write_volume(folder / "labelsTr" / f"case_{number:02}.nii.gz", label_map(number, (1,)))
    cohort = load_cohort(folder)
    with pytest.raises(CohortError, match=r"The validation split .* has no mask with 2"):
        TARGETS["masks"].check_trainable(
            cohort.with_splits(["validation", "validation", "train", "train", "test", "test"])
        )
    untested = cohort.with_splits(["test", "test", "train", "train", "validation", "validation"])
    TARGETS["masks"].check_trainable(untested)
    assert "No test image has a mask with 2" in TARGETS["masks"].findings(untested, [])[-1].text


def test_numbers_of_objects_are_not_taken_for_classes(tmp_path: Path) -> None:
    def write(folder: Path, counts: Sequence[int]) -> Path:
        for number, count in enumerate(counts):
            marked = np.zeros((4, 6, 20), np.uint8)
            for value in range(1, count + 1):
                marked[1:3, 1:5, 2 * value : 2 * value + 2] = value
            write_volume(folder / "imagesTr" / f"case_{number}.nii.gz", (7.0 * marked).astype(np.float32))
            write_volume(folder / "labelsTr" / f"case_{number}.nii.gz", marked)
        return folder

    cells = write(tmp_path / "cells", (2, 7, 4, 5, 3))
    with pytest.raises(CohortError, match=r"from 1 on in each image, up to 2 in one and up to 7 .* --class-names"):
        load_cohort(cells)
    (tmp_path / "names.csv").write_text("value,name\n" + "".join(f"{value},cell\n" for value in range(1, 8)))
    cohort = load_cohort(cells, class_names=tmp_path / "names.csv")
    assert cohort.labels == ("cell",)
    assert [int(mask.max()) for mask in masks_of(cohort)] == [1] * 5
    # Numbers by chance, and a count with gaps in one image.
    for number in range(5):
        marked = np.zeros((4, 6, 20), np.uint8)
        marked[1:3, 1:5, 2:8] = 40 * number + np.arange(1, 7)
        marked[0, 0, 0] = 7
        write_volume(cells / "labelsTr" / f"case_{number}.nii.gz", marked)
    with pytest.raises(CohortError, match=r"hold 31 values, 30 of them in one image alone: .* --class-names"):
        load_cohort(cells)
    gaps = write(tmp_path / "gaps", (2, 7, 4, 5, 3, 6, 2, 3, 4, 5))
    marked = np.zeros((4, 6, 20), np.uint8)
    marked[1:3, 1:5, 2:4], marked[1:3, 1:5, 6:8] = 1, 3
    write_volume(gaps / "labelsTr" / "case_9.nii.gz", marked)
    with pytest.raises(CohortError, match=r"from 1 on in 9 of 10 images"):
        load_cohort(gaps)
    # Organs of which most images show all, and values that leave numbers out, are classes.
    assert load_cohort(write(tmp_path / "organs", (7, 7, 6, 7))).labels == tuple("1234567")
    assert load_cohort(volumes(tmp_path / "some", values=(2, 3))).labels == ("2", "3")


def test_labels_that_a_network_knows_keep_their_names(tmp_path: Path) -> None:
    cohort = load_cohort(volumes(tmp_path, values=(2,)), labels=("1", "2"), task="segmentation")
    assert cohort.labels == ("1", "2")
    assert set(np.unique(masks_of(cohort)[0])) == {0, 2}
    with pytest.raises(CohortError, match="Found the label '2'"):
        load_cohort(volumes(tmp_path, values=(1, 2)), labels=("1", "3"), task="segmentation")


def test_the_store_holds_images_and_masks_of_their_own_shapes(tmp_path: Path) -> None:
    folder = volumes(tmp_path)
    for number in (1, 2):
        for name, dtype in (("imagesTr", np.float32), ("labelsTr", np.uint8)):
            path = folder / name / f"case_{number:02}.nii.gz"
            kept = np.asarray(nibabel.load(path).dataobj).T[:, number:, :].astype(dtype)
            write_volume(path, kept, oblique())
    cohort = assign_splits(load_cohort(folder))
    pipeline = Pipeline(steps=(Reorient(), Resample(spacing=(1.0, 1.0, 1.0)), ZScore()))
    store = MaskStore.build(cohort, pipeline)
    assert store.spacing == (1.0, 1.0, 1.0)
    assert len({tuple(shape) for shape in store.shapes.tolist()}) > 1
    assert store.needs == sum(store.image(row).nbytes + store.mask(row).nbytes for row in range(6))
    for row in range(6):
        image, mask = store.image(row), store.mask(row)
        assert isinstance(image, np.memmap)
        assert (image.dtype.name, mask.dtype.name) == ("float32", "uint8")
        assert image.shape[:-1] == mask.shape[:-1] == tuple(store.shapes[row][:-1])
        assert image[mask > 0].mean() > image[mask == 0].mean()
        for label, places in enumerate(store.foreground(row)):
            assert len(places) == min(2000, int((mask == label + 1).sum()))
            assert (mask[tuple(places.T)] == label + 1).all()
        truth = read_mask(cohort, row, cohort.read(row)).pixels
        back = store.change(row).mask_back(mask, store.read_shapes[row])
        assert (back == truth).mean() > 0.99
    # Other processes write the same.
    others = Elsewhere()
    with delegating(others):
        again = MaskStore.build(cohort, pipeline, folder=tmp_path / "others")
    assert set(others.called) == {"prepare_portion"}
    files = sorted(path.name for path in store.folder.iterdir())
    assert sorted(path.name for path in again.folder.iterdir()) == files
    for name in files:
        if name.endswith("npy"):
            assert (store.folder / name).read_bytes() == (again.folder / name).read_bytes()
    np.testing.assert_array_equal(again.foreground(4)[0], store.foreground(4)[0])


def test_a_stopped_build_goes_on_and_a_changed_mask_is_another_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = load_cohort(volumes(tmp_path))

    def stop(task: str, done: int, total: int | None) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        MaskStore.build(cohort, Pipeline(steps=(ZScore(),)), folder=tmp_path / "stores", progress=stop)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("stores/*/*-image.npy")}
    assert len(written) >= 4
    store = MaskStore.build(cohort, Pipeline(steps=(ZScore(),)), folder=tmp_path / "stores")
    assert {path: path.stat().st_mtime_ns for path in written} == written
    again = MaskStore.build(cohort, Pipeline(steps=(ZScore(),)), folder=tmp_path / "stores")
    assert again.folder == store.folder
    write_volume(tmp_path / "labelsTr" / "case_03.nii.gz", label_map(9))
    other = MaskStore.build(load_cohort(tmp_path), Pipeline(steps=(ZScore(),)), folder=tmp_path / "stores")
    assert other.folder != store.folder
    np.testing.assert_array_equal(other.mask(3)[..., 0], label_map(9))


def test_an_image_that_cannot_be_prepared_is_left_out_and_named(tmp_path: Path) -> None:
    cohort = load_cohort(volumes(tmp_path, num=24))
    broken = np.full(SHAPE, np.nan, np.float32)
    write_volume(tmp_path / "imagesTr" / "case_05.nii.gz", broken)
    store = MaskStore.build(cohort, Pipeline(steps=(ZScore(),)))
    assert len(store) == 23
    assert store.bad[0][0] == "imagesTr/case_05.nii.gz"
    np.testing.assert_array_equal(store.mask(5)[..., 0], label_map(6))


@pytest.mark.data
def test_the_hippocampus_goes_through(data_folder: Path) -> None:
    cohort = load_cohort(data_folder / "hippocampus")
    assert (len(cohort), cohort.task, cohort.labels) == (110, "segmentation", ("1", "2"))
    for row in (0, 50, 109):
        truth = nibabel.load(data_folder / "hippocampus" / cohort.table["mask"].iloc[row])
        found = read_mask(cohort, row, cohort.read(row))
        np.testing.assert_array_equal(found.pixels[..., 0], np.asarray(truth.dataobj).T)


def picture(path: Path, mark: int = 0, box: tuple[int, int, int, int] = (4, 3, 9, 20)) -> None:
    """A grey image, or a mask with one rectangle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(str(path).encode()[-4:])
    pixels = np.zeros((16, 24), np.uint8) if mark else np.random.default_rng(seed).integers(0, 90, (16, 24), np.uint8)
    if mark:
        pixels[box[0] : box[2], box[1] : box[3]] = mark
    assert cv2.imwrite(str(path), pixels)


# Layout -> image and masks, with the label that each mask file is of where files tell it.
LAYOUTS: dict[str, tuple[str, dict[str, str]]] = {
    "beside": ("scan{n}.png", {"scan{n}_mask.png": "foreground"}),
    "dotted": ("x/s.{n}.png", {"x/s.{n}_seg.png": "foreground"}),
    "label": ("a{n}.tif", {"a{n}_label.png": "foreground"}),
    "numbered": ("u ({n}).png", {"u ({n})_mask.png": "foreground", "u ({n})_mask_1.png": "foreground"}),
    "isic": ("Task1_Training_Input/I_{n}.jpg", {"Task1_Training_GroundTruth/I_{n}_segmentation.png": "foreground"}),
    "idrid": (
        "A/1. Original Images/D_{n}.jpg",
        {
            "A/2. Segmentation Groundtruths/1. Haemorrhages/D_{n}_HE.png": "Haemorrhages HE",
            "A/2. Segmentation Groundtruths/2. Exudates/D_{n}_EX.png": "Exudates EX",
        },
    ),
    "class folders of masks": (
        "images/{n}.png",
        {"masks/liver/{n}.png": "liver", "masks/spleen/{n}.png": "spleen"},
    ),
    "folders named after labels": (
        "images/{n}.png",
        {"liver masks/{n}.png": "liver", "spleen masks/{n}.png": "spleen"},
    ),
    "totalsegmentator": (
        "s00{n}/ct.png",
        {"s00{n}/segmentations/liver.png": "liver", "s00{n}/segmentations/lung_left.png": "lung_left"},
    ),
    "kits": ("case_0000{n}/imaging.png", {"case_0000{n}/segmentation.png": "foreground"}),
    "lits": ("volume-{n}.png", {"segmentation-{n}.png": "foreground"}),
    "tags": ("p{n}.png", {"p{n}_mask_cup.png": "cup", "p{n}_mask_disc.png": "disc"}),
    "splits": ("train/images/{n}.png", {"train/masks/{n}.png": "foreground"}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_are_found_by_the_names_of_files_and_folders(name: str, tmp_path: Path) -> None:
    image, files = LAYOUTS[name]
    for number in range(1, 5):
        picture(tmp_path / image.format(n=number))
        for place, file in enumerate(files):
            picture(tmp_path / file.format(n=number), 255, (1 + 7 * place, number, 6 + 7 * place, 20))
    cohort = load_cohort(tmp_path)
    labels = tuple(sorted(set(files.values())))
    assert (cohort.kind, cohort.task, cohort.labels, len(cohort)) == ("masks", "segmentation", labels, 4)
    assert cohort.table["image"].tolist() == [image.format(n=number) for number in range(1, 5)]
    for row, mask in enumerate(masks_of(cohort)):
        expected = np.zeros((16, 24), np.uint8)
        for place, label in enumerate(files.values()):
            expected[1 + 7 * place : 6 + 7 * place, row + 1 : 20] = labels.index(label) + 1
        np.testing.assert_array_equal(mask[..., 0], expected)


def test_class_folders_with_masks_are_either_and_say_so(tmp_path: Path) -> None:
    for number in range(6):
        name = ("benign", "malignant")[number % 2]
        picture(tmp_path / name / f"{name} ({number}).png")
        picture(tmp_path / name / f"{name} ({number})_mask.png", 255)
    classes = load_cohort(tmp_path)
    assert classes.kind == "class folders"
    assert "it could also be read as masks: ask for that with --kind" in notes(classes)
    masks = load_cohort(tmp_path, kind="masks")
    assert masks.labels == ("foreground",)
    assert masks.table["folder"].tolist() == ["benign"] * 3 + ["malignant"] * 3
    assert load_cohort(tmp_path, task="segmentation", labels=("foreground",)).kind == "masks"


def test_labels_that_overlap_get_a_channel_each(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "images" / f"{number}.png")
        picture(tmp_path / "masks" / "liver" / f"{number}.png", 255, (2, 2, 12, 20))
        picture(tmp_path / "masks" / "tumour" / f"{number}.png", 1, (4, 5, 8, 9))
    cohort = load_cohort(tmp_path)
    assert cohort.overlapping
    assert "Some labels overlap" in notes(cohort)
    mask = masks_of(cohort)[0]
    assert mask.shape == (16, 24, 2)
    assert mask[..., 0].sum() == 10 * 18
    assert mask[..., 1].sum() == 16
    assert (mask[..., 0] & mask[..., 1]).sum() == 16
    store = MaskStore.build(cohort, Pipeline(steps=(ZScore(),)))
    assert store.mask(0).shape == (16, 24, 2)
    assert [len(places) for places in store.foreground(0)] == [180, 16]


def test_colours_are_classes_and_grey_saved_as_colour_is_grey(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "images" / f"{number}.png")
        pixels = np.zeros((16, 24, 3), np.uint8)
        pixels[3:6, 4:9], pixels[8:12, 4:9] = (0, 0, 255), (0, 255, 0)
        (tmp_path / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), pixels)
    cohort = load_cohort(tmp_path)
    assert cohort.labels == ("#00ff00", "#ff0000")
    assert masks_of(cohort)[0][4, 5, 0] == 2
    (tmp_path / "names.json").write_text(json.dumps({"#ff0000": "artery", "#00ff00": "vein"}))
    assert load_cohort(tmp_path, class_names=tmp_path / "names.json").labels == ("artery", "vein")
    for number in range(4):
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), np.repeat(pixels.max(axis=-1, keepdims=True), 3, -1))
    assert load_cohort(tmp_path).labels == ("foreground",)


def test_lossy_black_and_white_masks_are_read_and_others_refused(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "images" / f"{number}.png")
        picture(tmp_path / "masks" / f"{number}.jpg", 255)
    cohort = load_cohort(tmp_path)
    assert cohort.labels == ("foreground",)
    assert masks_of(cohort)[0].sum() == 5 * 17
    assert "4 masks are black and white with smoothed edges" in notes(cohort)
    for number in range(4):
        picture(tmp_path / "masks" / f"{number}.jpg", 120)
    with pytest.raises(CohortError, match="it is a JPEG, whose compression changes values"):
        load_cohort(tmp_path)


def test_a_folder_of_masks_is_told_by_its_values_whatever_it_is_called(tmp_path: Path) -> None:
    for number in range(6):
        picture(tmp_path / "radiographs" / f"{number}.png")
        picture(tmp_path / "contours" / f"{number}.png", 255)
    cohort = load_cohort(tmp_path)
    assert (cohort.kind, cohort.labels, len(cohort)) == ("masks", ("foreground",), 6)
    assert "The images in contours hold two values or few, and were taken for the masks of the others." in notes(cohort)
    for number in range(6):
        (tmp_path / "contours" / f"{number}.png").rename(tmp_path / "contours" / f"other-{number + 50}.png")
    with pytest.raises(CohortError, match="hold two values or few, as masks do"):
        load_cohort(tmp_path)


def test_regions_of_several_values_are_labels_that_overlap(tmp_path: Path) -> None:
    names = {"background": 0, "whole": [1, 2], "core": [2]}
    cohort = load_cohort(volumes(tmp_path, names=names))
    assert (cohort.labels, cohort.overlapping) == (("whole", "core"), True)
    mask = masks_of(cohort)[0]
    np.testing.assert_array_equal(mask[..., 0], label_map(0) > 0)
    np.testing.assert_array_equal(mask[..., 1], label_map(0) == 2)
    write_volume(tmp_path / "labelsTr" / "case_00.nii.gz", label_map(0, (1, 5)))
    with pytest.raises(CohortError, match="it has the value 5, which is no class"):
        load_cohort(tmp_path)


def test_an_ignore_label_of_nnunet_is_not_known(tmp_path: Path) -> None:
    cohort = load_cohort(volumes(tmp_path, names={"background": 0, "organ": 1, "ignore": 2}))
    assert cohort.labels == ("organ",)
    assert set(np.unique(masks_of(cohort)[0])) == {0, 1, IGNORE}
    assert "What the masks call ignore is not known" in notes(cohort)


def test_masks_with_smoothed_edges_are_cut_at_half(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "images" / f"{number}.png")
        large = np.zeros((64, 96), np.float32)
        cv2.circle(large, (50, 30), 20, 255, -1)
        small = cv2.resize(cv2.GaussianBlur(large, (5, 5), 1), (24, 16), interpolation=cv2.INTER_AREA)
        (tmp_path / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), np.rint(small).astype(np.uint8))
    cohort = load_cohort(tmp_path)
    assert (cohort.labels, len(cohort)) == (("foreground",), 4)
    np.testing.assert_array_equal(masks_of(cohort)[0][..., 0], small > 127)
    assert "4 masks are black and white with smoothed edges" in notes(cohort)


def test_a_file_of_one_label_with_several_values_is_refused(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "images" / f"{number}.png")
        for label in ("liver", "spleen"):
            pixels = np.zeros((16, 24), np.uint8)
            pixels[2:5, 3:9], pixels[7:9, 3:9] = 1, 2
            (tmp_path / "masks" / label).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "masks" / label / f"{number}.png"), pixels)
    with pytest.raises(CohortError, match=r"is of the label 'liver' by its name and has the values 1, 2: one is"):
        load_cohort(tmp_path)


def test_channels_in_several_files_are_one_image(tmp_path: Path) -> None:
    folder = volumes(tmp_path, names={"background": 0, "zone": 1, "lesion": 2})
    for number in range(6):
        place = folder / "imagesTr" / f"case_{number:02}.nii.gz"
        write_volume(folder / "imagesTr" / f"case_{number:02}_0000.nii.gz", label_map(number).astype(np.int16))
        write_volume(folder / "imagesTr" / f"case_{number:02}_0001.nii.gz", 7 * label_map(number).astype(np.int16))
        place.unlink()
    sheet = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(sheet | {"channel_names": {"0": "T2", "1": "ADC"}}))
    cohort = load_cohort(folder)
    assert (len(cohort), cohort.channels, cohort.labels) == (6, ("T2", "ADC"), ("zone", "lesion"))
    assert "2 channels (T2, ADC) make one image." in notes(cohort)
    image = cohort.read(2)
    assert image.channels == 2
    np.testing.assert_array_equal(image.pixels[..., 1], 7 * label_map(2))
    np.testing.assert_array_equal(masks_of(cohort)[2][..., 0], label_map(2))
    store = MaskStore.build(cohort, Pipeline(steps=(ZScore(),)))
    assert store.image(0).shape == (*SHAPE, 2)
    (folder / "imagesTr" / "case_03_0001.nii.gz").unlink()
    assert "1 images have fewer than 2 channels" in notes(load_cohort(folder))
    assert load_cohort(folder, exclude=["*_0001.nii.gz"]).read(0).channels == 1


def test_volumes_of_one_file_are_the_channels_of_its_image(tmp_path: Path) -> None:
    folder = volumes(tmp_path, names={"background": 0, "zone": 1, "lesion": 2})
    for number in range(6):
        pair = np.stack([label_map(number), 5 * label_map(number)]).astype(np.int16)
        write_volume(folder / "imagesTr" / f"case_{number:02}.nii.gz", pair)
    cohort = load_cohort(folder)
    assert (len(cohort), cohort.channels) == (6, ("0", "1"))
    image = cohort.read(4)
    np.testing.assert_array_equal(image.pixels[..., 1], 5 * label_map(4))
    np.testing.assert_array_equal(masks_of(cohort)[4][..., 0], label_map(4))


def test_preprocess_moves_masks_with_their_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = volumes(tmp_path / "data", num=3)
    assert hounsfield(monkeypatch, "preprocess", folder, "-o", tmp_path / "out", "--resample=0.6", "--z-score") == 0
    assert "3 files are masks of other ones: they are moved with their images" in capsys.readouterr().err
    before, after = load_cohort(folder), load_cohort(tmp_path / "out")
    assert after.table["mask"].tolist() == before.table["mask"].tolist()
    for row in range(3):
        image, mask = after.read(row), masks_of(after)[row]
        assert image.shape == (15, 20, 17)
        assert image.pixels.std() == pytest.approx(1, abs=0.01)
        assert set(np.unique(mask)) == {0, 1, 2}
        expected = Pipeline(steps=(Resample(spacing=0.6, interpolation="nearest"),))
        given = read_mask(before, row, before.read(row))
        np.testing.assert_array_equal(mask, expected.apply_steps(given).pixels)


def test_inspect_tells_labels_and_volumes_first_and_draws_outlines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = volumes(tmp_path / "data", names={"background": 0, "liver": 1, "lesion": 2})
    write_volume(folder / "labelsTr" / "case_00.nii.gz", np.zeros(SHAPE, np.uint8))
    monkeypatch.chdir(tmp_path)
    assert hounsfield(monkeypatch, "inspect", folder, "-o", "page", "--no-cost") == 0
    told = capsys.readouterr().out
    assert "Masks" in told
    # 2 slices of 5 rows and 2 to 5 columns, of voxels of a cubic millimetre.
    cohort = load_cohort(folder)
    sizes = np.sort([int((label_map(number) == 1).sum()) / 1000 for number in range(1, 6)])
    assert re.search(rf"liver\W+5\W+.*{np.median(sizes):.3g}", told)
    assert "1 images have nothing marked." in told
    content = json.loads((tmp_path / "page" / "inspection.json").read_text())["fingerprint"]["masks"]
    assert content["images"] == {"liver": 5, "lesion": 5}
    assert (content["unit"], content["negatives"]) == ("ml", 1)
    assert content["sizes"]["liver"]["median"] == pytest.approx(np.median(sizes))
    page = (tmp_path / "page" / "inspection.html").read_text()
    assert "lesion (ml)" in page
    assert "■" in page
    assert cohort.notes[1] in page


def test_the_pictures_of_a_label_show_its_slice(tmp_path: Path) -> None:
    cohort = load_cohort(volumes(tmp_path))
    pictures = _previews(cohort, {"1": [0], "2": [0], "1. near-duplicates": [0]}, lambda *_: None)
    assert [*pictures["1"]] == [0]
    # Label 1 lies in other slices than label 2: each has its own outline, and no picture has both.
    colours = [tuple(int(class_colour(number)[at : at + 2], 16) for at in (1, 3, 5)) for number in range(2)]
    seen = {name: [bool((drawn[0] == colour).all(-1).any()) for colour in colours] for name, drawn in pictures.items()}
    assert (seen["1"], seen["2"]) == ([True, False], [False, True])
    assert any(seen["1. near-duplicates"])


def test_what_has_no_partner_is_said(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "images" / f"{number}.png")
        picture(tmp_path / "masks" / f"{number}.png", 1)
    picture(tmp_path / "images" / "alone.png")
    picture(tmp_path / "masks" / "stray.png", 1)
    said = notes(load_cohort(tmp_path))
    assert "1 images have no mask and were left out: images/alone.png." in said
    assert "1 masks are of no image here and were left out: masks/stray.png." in said
