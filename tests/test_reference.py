from __future__ import annotations

import importlib
import json
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from dicom_samples import make_dicom, make_series
from hounsfield.cli.main import COMMANDS, app
from hounsfield.cohorts import load_cohort, load_request
from hounsfield.cohorts.files import FileSource
from hounsfield.cohorts.request import DataRequest
from hounsfield.cohorts.shapes import image_shapes
from hounsfield.errors import ImageError, SeveralVolumes, UsageError
from hounsfield.images import Reference, read_image, read_series
from hounsfield.images.reading import read_reference
from hounsfield.images.settings import LEVEL_VARIABLE, UNEVEN_VARIABLE, VOLUME_VARIABLE
from hounsfield.inference.sources import sources

AFFINE = np.array([[-2.0, 0, 0, 10], [0, -3.0, 0, 20], [0, 0, 4.0, 30], [0, 0, 0, 1]])


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Three volumes of five slices, whose voxels hold ten times the volume plus the slice."""
    values = np.zeros((6, 7, 5, 3), np.int16)
    values += (np.arange(5)[:, np.newaxis] + 10 * np.arange(3)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "four.nii.gz")
    return tmp_path / "four.nii.gz"


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("a/b.nii", Reference("a/b.nii")),
        ("a/b.nii[3]", Reference("a/b.nii", frame=3)),
        ("a/b.nii[3][12]", Reference("a/b.nii", 3, 12)),
        ("a[1]/b.nii", Reference("a[1]/b.nii")),
        ("a[1]/b.nii[2]", Reference("a[1]/b.nii", frame=2)),
        ("[3]", Reference("[3]")),
        ("a[-1]", Reference("a[-1]")),
        ("a[x]", Reference("a[x]")),
        ("a[1][2][3]", Reference("a[1]", 2, 3)),
    ],
)
def test_what_a_person_types(text: str, reference: Reference) -> None:
    assert Reference.parse(text) == reference
    assert Reference.parse(text).text == str(reference) == text


def test_a_file_whose_own_name_has_brackets_is_meant_as_a_whole(tmp_path) -> None:
    (tmp_path / "scan[1]").write_bytes(b"")
    assert Reference.parse("scan[1]", tmp_path) == Reference("scan[1]")
    assert Reference.parse("scan[2]", tmp_path) == Reference("scan", frame=2)
    with pytest.raises(UsageError, match="empty name"):
        Reference.parse(" ")


def test_identifiers_take_no_part_in_the_comparison() -> None:
    assert Reference("a", 1, study="1.2") == Reference("a", 1, study="1.3")
    assert len({Reference("a", 1, series="1.2"), Reference("a", 1)}) == 1
    assert Reference("a", 1) != Reference("a", 1, 0)


def test_a_single_number_counts_volumes_where_there_are_several(four) -> None:
    with pytest.raises(SeveralVolumes, match="holds 3 volumes") as caught:
        read_image(four)
    assert len(caught.value.volumes) == 3
    image = read_image(Reference.parse(f"{four}[2]"))
    assert image.reference == Reference(str(four), 2)
    np.testing.assert_array_equal(image.pixels[:, 0, 0, 0], 20 + np.arange(5))
    np.testing.assert_array_equal(read_image(four, volume=2).pixels, image.pixels)
    with pytest.raises(ImageError, match="number 3"):
        read_image(four, volume=3)


def test_a_single_number_counts_slices_where_there_is_one_volume(tmp_path) -> None:
    values = np.zeros((6, 7, 5), np.int16) + np.arange(5, dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "one.nii")
    whole, one = read_image(tmp_path / "one.nii"), read_image(Reference.parse(f"{tmp_path / 'one.nii'}[3]"))
    assert one.reference == Reference(str(tmp_path / "one.nii"), frame=3)
    assert (one.shape, one.spacing) == ((7, 6), whole.spacing[1:])
    assert set(one.pixels.ravel()) == {3}
    np.testing.assert_allclose(one.affine @ [0, 1, 2, 1], whole.affine @ [3, 1, 2, 1])
    with pytest.raises(ImageError, match="5 frames or slices, and number 5"):
        read_image(Reference.parse(f"{tmp_path / 'one.nii'}[5]"))
    with pytest.raises(ImageError, match="holds one volume, and volume 1"):
        read_image(tmp_path / "one.nii", volume=1)


def test_a_slice_of_a_volume(four) -> None:
    image = read_image(Reference.parse(f"{four}[1][4]"))
    assert image.reference == Reference(str(four), 1, 4)
    assert set(image.pixels.ravel()) == {14}


def test_the_identifiers_of_dicom_are_found(tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), SOPInstanceUID="1.2.3.4.5")
    found = read_image(path).reference
    assert (found.path, found.study, found.series, found.instance) == (str(path), "1.2.3", "1.2.3.4", "1.2.3.4.5")


# --- a volume chosen in tables, inputs and by the setting of every command --------------------------------------------


@pytest.fixture
def cohort_folder(four: Path) -> Path:
    """Ten files of three volumes, whose table names the last volume of each."""
    folder = four.parent / "set"
    folder.mkdir()
    rows = ["image,label"]
    for number in range(10):
        (folder / f"{number}.nii.gz").write_bytes(four.read_bytes())
        rows.append(f"{number}.nii.gz[2],{'ab'[number % 2]}")
    (folder / "table.csv").write_text("\n".join(rows))
    return folder


def test_tables_choose_a_volume(cohort_folder) -> None:
    cohort = load_cohort(str(cohort_folder / "table.csv"))
    assert len(cohort.table) == 10
    images = list(cohort.source.stream(cohort.references()))
    assert all(set(image.pixels.ravel()) == set(range(20, 25)) for image in images)
    assert {image.reference.volume for image in images} == {2}
    assert image_shapes(cohort_folder, ["0.nii.gz[2]", "0.nii.gz[2][3]"]) == {
        "0.nii.gz[2]": (5, 7, 6),
        "0.nii.gz[2][3]": (7, 6),
    }


def test_the_setting_chooses_where_nothing_else_does(four, monkeypatch) -> None:
    source, place = FileSource(four.parent), Reference(four.name)
    before = source.digest([place])
    monkeypatch.setenv(VOLUME_VARIABLE, "1")
    assert read_image(four).reference == Reference(str(four), 1)
    assert read_image(Reference.parse(f"{four}[2]")).reference.volume == 2
    with pytest.raises(SeveralVolumes):
        source.read(place)  # made before the setting
    source = FileSource(four.parent)
    assert set(source.read(place).pixels.ravel()) == set(range(10, 15))
    assert source.digest([place]) != before
    monkeypatch.setenv(VOLUME_VARIABLE, "first")
    with pytest.raises(UsageError, match="expected a number"):
        read_image(four)


def test_inputs_of_prediction_choose_a_volume(four) -> None:
    (source,) = sources(f"{four}[1]", 3)
    assert source.reference.text == f"{four}[1]"
    assert set(source.load().pixels.ravel()) == set(range(10, 15))
    (source,) = sources(str(four), 3)
    with pytest.raises(SeveralVolumes):
        source.load()


def test_every_volume_of_a_folder_is_an_input_of_its_own(tmp_path, monkeypatch) -> None:
    for echo in (30, 80):
        (tmp_path / "in").mkdir(exist_ok=True)
        make_series(tmp_path / "in" / str(echo), [0.0, 2.0, 4.0], EchoTime=echo)
    found = list(sources(str(tmp_path / "in"), 3))
    assert [source.reference.text for source in found] == [f"{tmp_path / 'in'}[0]", f"{tmp_path / 'in'}[1]"]
    for number, source in enumerate(found):
        again = read_reference(Reference.parse(source.reference.text))
        np.testing.assert_array_equal(source.load().pixels, again.pixels)
        assert again.reference.volume == number
    monkeypatch.setenv(VOLUME_VARIABLE, "1")
    assert [source.reference.text for source in sources(str(tmp_path / "in"), 3)] == [f"{tmp_path / 'in'}[1]"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_settings(command) -> None:
    if hasattr(importlib.import_module(COMMANDS[command].module), "app"):
        # A group of commands that read no images.
        return
    done = CliRunner().invoke(app, [command, "--help"], catch_exceptions=False)
    assert "--max-pixels" in done.output
    assert "--volume" in done.output
    assert "--level" in done.output


def test_the_command_line_chooses(four, monkeypatch) -> None:
    monkeypatch.setenv(VOLUME_VARIABLE, "")
    target = four.parent / "out"
    arguments = ["preprocess", str(four), "--min-max", "--out", str(target), "--volume", "2"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert read_image(target / "four.nii.gz").shape == (5, 7, 6)
    arguments = ["preprocess", f"{four}[1]", "--min-max", "--out", str(target)]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert len(list(target.iterdir())) == 2


def test_a_volume_of_a_series_whose_files_are_known_is_chosen(tmp_path, monkeypatch) -> None:
    paths = [path for echo in (30, 80) for path in make_series(tmp_path / str(echo), [0.0, 2.0], EchoTime=echo)]
    source = FileSource(tmp_path, {"scan": [str(path.relative_to(tmp_path)) for path in paths]})
    with pytest.raises(SeveralVolumes):
        source.read(Reference("scan"))
    expected = read_series(tmp_path, volume=1)
    np.testing.assert_array_equal(source.read(Reference("scan", 1)).pixels, expected.pixels)
    monkeypatch.setenv(VOLUME_VARIABLE, "1")
    np.testing.assert_array_equal(FileSource(tmp_path, source.series).read(Reference("scan")).pixels, expected.pixels)


def test_data_is_read_again_with_the_settings_of_the_first_time(cohort_folder, monkeypatch) -> None:
    table = cohort_folder / "plain.csv"
    table.write_text("image,label\n" + "".join(f"{number}.nii.gz,{number % 2}\n" for number in range(10)))
    for variable, text in ((VOLUME_VARIABLE, "2"), (LEVEL_VARIABLE, "0"), (UNEVEN_VARIABLE, "refuse")):
        monkeypatch.setenv(variable, text)
    request = DataRequest(str(table)).with_settings()
    assert (request.volume, request.level, request.uneven, request.max_pixels) == (2, 0, "refuse", None)
    assert "--volume 2 --level 0 --uneven refuse" in request.command_line()
    kept = DataRequest.from_dict(json.loads(json.dumps(request.to_dict())))
    monkeypatch.setenv(VOLUME_VARIABLE, "1")
    with pytest.raises(UsageError, match=r"--volume 1 was given.*--volume 2"):
        load_request(kept)
    monkeypatch.setenv(VOLUME_VARIABLE, "")
    cohort = load_request(kept)
    # As another process reads it, and on several threads.
    source = pickle.loads(pickle.dumps(cohort.source))  # noqa: S301 - our own
    images = list(source.stream(cohort.references()))
    assert {image.reference.volume for image in images} == {2}
    assert all(set(image.pixels.ravel()) == set(range(20, 25)) for image in images)
    other = DataRequest(str(table)).read_as(kept)
    assert {image.reference.volume for image in load_request(other).source.stream(cohort.references())} == {2}
    assert DataRequest(str(table), volume=0).read_as(kept).volume == 0


def test_the_level_of_slides_is_a_setting(tmp_path, monkeypatch) -> None:
    picture = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(picture)
        file.write(picture[::2, ::2], subfiletype=1)
    source, place = FileSource(tmp_path), Reference("slide.tif")
    np.testing.assert_array_equal(source.read(place).pixels[..., 0], picture)
    before = source.digest([place])
    monkeypatch.setenv(LEVEL_VARIABLE, "1")
    source = FileSource(tmp_path)
    np.testing.assert_array_equal(source.read(place).pixels[..., 0], picture[::2, ::2])
    assert source.digest([place]) != before
    assert read_image(tmp_path / "slide.tif", level=0).shape == (48, 64)
    monkeypatch.setenv(LEVEL_VARIABLE, "2")
    with pytest.raises(ImageError, match="level 2 was asked for"):
        read_image(tmp_path / "slide.tif")
    monkeypatch.setenv(LEVEL_VARIABLE, "best")
    with pytest.raises(UsageError, match="expected a number"):
        read_image(tmp_path / "slide.tif")
