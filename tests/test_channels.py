"""Images whose channels lie in several files or volumes: read on one grid, named, planned, trained and predicted."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from families import hounsfield
from hounsfield.cohorts import load_cohort
from hounsfield.cohorts.channels import channel_of
from hounsfield.cohorts.fingerprint import fingerprint
from hounsfield.errors import CohortError, ImageError, PreprocessingError, UsageError
from hounsfield.images import Reference
from hounsfield.images.reading import read_reference
from hounsfield.planning import Facts, Wish, make_plan
from hounsfield.preprocessing import Pipeline

pytestmark = pytest.mark.usefixtures("known_speed")

NAMES = ("t1", "t1ce", "flair")
SHAPE = (10, 12, 8)


def write(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)


def write_brats(folder: Path, cases: int = 8) -> Path:
    """HGG and LGG, a folder a case, a file a channel; the second channel tells the class."""
    generator = np.random.default_rng(0)
    for number in range(cases):
        label = ("LGG", "HGG")[number % 2]
        case = f"Brats_{number:03}"
        for name in NAMES:
            values = generator.normal(100, 10, SHAPE).astype(np.float32)
            if name == "t1ce" and label == "HGG":
                values[3:7, 3:9, 2:6] += 80
            write(folder / label / case / f"{case}_{name}.nii.gz", values)
    return folder


def test_files_of_one_grid_are_the_channels_of_one_image(tmp_path: Path) -> None:
    values = [np.arange(960, dtype=np.int16).reshape(SHAPE) + 1000 * number for number in range(3)]
    for name, each in zip(NAMES, values, strict=True):
        write(tmp_path / f"a_{name}.nii.gz", each)
    reference = Reference.joined([str(tmp_path / f"a_{name}.nii.gz") for name in NAMES])
    assert reference.text == f"{tmp_path}/a_{{t1,t1ce,flair}}.nii.gz"
    assert Reference.parse(reference.text) == reference
    image = read_reference(reference)
    assert image.channels == 3
    assert image.pixels.dtype == np.int16
    assert not image.metadata.resampled
    for number, name in enumerate(NAMES):
        alone = read_reference(Reference(str(tmp_path / f"a_{name}.nii.gz")))
        np.testing.assert_array_equal(image.pixels[..., number], alone.pixels[..., 0])
        np.testing.assert_array_equal(image.affine, alone.affine)


def test_a_channel_on_another_grid_is_resampled_onto_the_first(tmp_path: Path) -> None:
    # A plane, which linear interpolation gives back exactly.
    i, j, k = np.meshgrid(*(np.arange(length) for length in SHAPE), indexing="ij")
    write(tmp_path / "a_t1.nii", (i + 2 * j + 3 * k).astype(np.float32))
    fine = np.diag([0.5, 0.5, 0.5, 1.0])
    i, j, k = np.meshgrid(*(np.arange(2 * length) for length in SHAPE), indexing="ij")
    write(tmp_path / "a_t2.nii", (0.5 * i + j + 1.5 * k).astype(np.float32), fine)
    image = read_reference(Reference.joined([str(tmp_path / "a_t1.nii"), str(tmp_path / "a_t2.nii")]))
    assert image.metadata.resampled
    assert image.channels == 2
    np.testing.assert_allclose(image.pixels[..., 1], image.pixels[..., 0], atol=1e-4)


def test_pictures_of_other_sizes_are_refused(tmp_path: Path) -> None:
    for name, side in (("a", 16), ("b", 17)):
        np.save(tmp_path / f"{name}.npy", np.arange(side * side, dtype=np.uint16).reshape(side, side))
    with pytest.raises(ImageError, match="16×16 and 17×17"):
        read_reference(Reference.joined([str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]))


def test_the_volumes_of_a_file_are_channels_and_none_is_dropped(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(*SHAPE, 3)).astype(np.float32)
    write(tmp_path / "a.nii", values)
    image = read_reference(Reference.joined([f"{tmp_path}/a.nii[{number}]" for number in range(3)]))
    np.testing.assert_array_equal(image.pixels, np.moveaxis(values, (2, 1, 0), (0, 1, 2)))
    with pytest.raises(ImageError, match="more than the 2 volumes"):
        read_reference(Reference.joined([f"{tmp_path}/a.nii[{number}]" for number in range(2)]))
    with pytest.raises(ImageError):
        read_reference(Reference.joined([f"{tmp_path}/a.nii[{number}]" for number in range(4)]))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("x/case_t1.nii.gz", ("x/case", "t1")),
        ("x/case_t1ce.nii.gz", ("x/case", "t1ce")),
        ("x/case-FLAIR.png", ("x/case", "flair")),
        ("x/t1.nii", ("x", "t1")),
        ("x/case_seg.nii.gz", None),
        ("x/weight1.nii", None),
    ],
)
def test_channels_are_told_by_how_names_end(name: str, found: tuple[str, str] | None) -> None:
    assert channel_of(name, NAMES) == found


def test_class_folders_of_cases(tmp_path: Path) -> None:
    cohort = load_cohort(write_brats(tmp_path), channels=("t1,t1ce,flair",), label_level=1)
    assert (len(cohort), cohort.labels, cohort.channels) == (8, ("LGG", "HGG"), NAMES)
    assert cohort.read(0).channels == 3
    assert "3 channels (t1, t1ce, flair) are read from as many files of each of 8 images." in cohort.notes
    (tmp_path / "HGG" / "Brats_001" / "Brats_001_t1.nii.gz").unlink()
    with pytest.raises(CohortError, match=r"1 of 8 cases without all of the channels.*lacks t1"):
        load_cohort(tmp_path, channels=NAMES, label_level=1)
    with pytest.raises(UsageError, match="expected two names or more"):
        load_cohort(tmp_path, channels=("t1",))


def test_tables_name_a_case_or_a_file_for_each_channel(tmp_path: Path) -> None:
    write_brats(tmp_path / "all")
    cases = sorted(path for label in ("LGG", "HGG") for path in (tmp_path / "all" / label).iterdir())
    rows = [(path.name, path.parent.name) for path in cases]
    pd.DataFrame(rows, columns=["case", "grade"]).to_csv(tmp_path / "all" / "names.csv", index=False)
    by_case = load_cohort(tmp_path / "all" / "names.csv", channels=NAMES, label_columns="grade")
    columns = {name: [f"{case.parent.name}/{case.name}/{case.name}_{name}.nii.gz" for case in cases] for name in NAMES}
    pd.DataFrame(columns | {"label": [label for _, label in rows]}).to_csv(tmp_path / "all" / "files.csv", index=False)
    by_file = load_cohort(tmp_path / "all" / "files.csv", channels=NAMES)
    for cohort in (by_case, by_file):
        assert (len(cohort), set(cohort.labels), cohort.channels) == (8, {"LGG", "HGG"}, NAMES)
    first = by_file.references([0])[0].text
    other = {reference.text: row for row, reference in enumerate(by_case.references())}
    np.testing.assert_array_equal(by_file.read(0).pixels, by_case.read(other[first]).pixels)


def test_any_number_of_channels_is_planned_each_on_its_own_scale(tmp_path: Path) -> None:
    cohort = load_cohort(write_brats(tmp_path), channels=NAMES, label_level=1)
    found = fingerprint(cohort)
    plan = make_plan(Facts(found), Wish("quick"), "binary")
    assert plan.input_shape[-1] == 3
    assert plan.channels == NAMES  # type: ignore[attr-defined]
    image = cohort.read(0)
    values = image.pixels * (1, 10, 100) + (0, 50, 500)
    prepared = plan.pipeline.apply(image.replace(pixels=values.astype(np.float32)))
    np.testing.assert_allclose(prepared.pixels.reshape(-1, 3).mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(prepared.pixels.reshape(-1, 3).std(axis=0), 1, atol=0.02)
    with pytest.raises(PreprocessingError, match="met an image with 1 channels, and expects 3"):
        plan.pipeline.apply(image.replace(pixels=values[..., :1]))
    assert Pipeline.from_dict(plan.pipeline.to_dict()) == plan.pipeline


def test_from_files_to_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    data, run = write_brats(tmp_path / "data", cases=20), tmp_path / "run"
    named = ("--channels", "t1,t1ce,flair", "--label-level", "1")
    changes = [word for change in ("epochs=1", "width=4") for word in ("--set", change)]
    assert hounsfield(monkeypatch, "train", data, *named, "--effort", "quick", *changes, "--out", run) == 0
    case = data / "HGG" / "Brats_001"
    assert hounsfield(monkeypatch, "predict", run, case, "-o", "folder.csv") == 0
    typed = case / "Brats_001_{t1,t1ce,flair}.nii.gz"
    assert hounsfield(monkeypatch, "predict", run, typed, "-o", "typed.csv") == 0
    table = pd.DataFrame({name: [f"data/HGG/Brats_001/Brats_001_{name}.nii.gz"] for name in NAMES})
    table.to_csv("channels.csv", index=False)
    assert hounsfield(monkeypatch, "predict", run, "channels.csv", "-o", "table.csv") == 0
    found = [pd.read_csv(f"{name}.csv")["p_HGG"].tolist() for name in ("folder", "typed", "table")]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 1
    capsys.readouterr()
    # One file alone is no image of this network.
    assert hounsfield(monkeypatch, "predict", run, case / "Brats_001_t1.nii.gz") == 1
    assert hounsfield(monkeypatch, "evaluate", run, "--json") == 0
    assert hounsfield(monkeypatch, "explain", run, case, "-o", "evidence") == 0
    assert list(Path("evidence").glob("*.png"))
    assert hounsfield(monkeypatch, "report", run) == 0
