"""What readers said comes back as DATA, exactly; and which images are to be labelled next."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_samples import make_dicom, make_series
from hounsfield.cohorts import load_cohort, read_mask
from hounsfield.errors import HounsfieldError, ServingError
from hounsfield.images import group_series, read_image
from hounsfield.reading.doubt import doubt_of
from hounsfield.reading.ranking import Candidate, ranked, value_of
from hounsfield.serving import statements as sql
from hounsfield.serving.corrections import TABLE, decode_runs, export_readings
from hounsfield.serving.database import Database, Reader
from hounsfield.serving.readings import Step, add_reading

READERS = ("alice", "bob")
NOW = 1_790_000_000.0


class Service:
    """The folder of a service, with cases whose files are written by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "instances").mkdir(parents=True)
        self.database = Database(folder / "service.sqlite")
        self.reader = Reader(folder / "service.sqlite")
        self._steps = 0

    def study(self, patient: str) -> int:
        with self.database.transaction() as writing:
            attributes = json.dumps({"PatientID": patient})
            values = {"uid": f"1.2.{patient}", "due": 0, "source": "", "attributes": attributes, "now": NOW}
            number = int(writing.change(sql.INSERT_STUDY, values).lastrowid or 0)
            writing.change("UPDATE study SET state = 'complete' WHERE id = ?", (number,))
            return number

    def read(self, study: int, files: list[Path], content: dict[str, Any], reader: str = "alice", **more: Any) -> None:
        self._steps += 1
        whole = {"opinions": {}, "marks": [], "regions": [], "comment": ""} | content
        places = {"0": {"files": [file.relative_to(self.folder).as_posix() for file in files], "volume": None}}
        last = self.database.row(sql.LAST_READING, {"study": study, "job": None, "reader": reader})
        step = {
            "nonce": f"step {self._steps}",
            "study": study,
            "job": None,
            "revision": 1,
            "reader": reader,
            "role": "annotator",
            "state": "final",
            "after": last["id"] if last else 0,
            "blind": False,
            "bundles": {"m": "b" * 64},
            "places": places,
            "content": whole,
            "subject": "",
        }
        add_reading(self.database, Step(**step | more), NOW)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "service")


def picture(service: Service, number: int) -> Path:
    pixels = np.random.default_rng(number).integers(0, 255, (40, 50)).astype(np.uint8)
    path = service.folder / "instances" / f"{number}.dcm"
    return make_dicom(path, pixels, PatientID=f"P{number}", SOPInstanceUID=f"1.2.9.{number}", Modality="CR")


def box(number: int, x0: float, y0: float, x1: float, y1: float, **more: Any) -> dict[str, Any]:
    place = {"stack": 0, "frame": 0, "from": [x0, y0], "to": [x1, y1], "label": "ring", "model": "m"}
    return {"id": str(number), "kind": "box"} | place | more


def test_a_study_that_still_arrives_is_not_finished(service):
    study = service.study("P1")
    with service.database.transaction() as writing:
        writing.change("UPDATE study SET state = 'receiving' WHERE id = ?", (study,))
    service.read(study, [], {"comment": "a draft is kept"}, state="draft")
    with pytest.raises(HounsfieldError, match="still arriving"):
        service.read(study, [], {})
    assert [row["state"] for row in service.reader.rows("SELECT state FROM reading")] == ["draft"]


def test_labels_come_back_with_patient_reader_date_and_bundle(service, tmp_path):
    truth = {}
    for number in range(12):
        label = "opacity" if number % 3 else "normal"
        opinion = {"verdict": "corrected", "labels": {"normal": label == "normal", "opacity": label == "opacity"}}
        study, file = service.study(f"P{number}"), picture(service, number)
        for reader in READERS:
            service.read(study, [file], {"opinions": {"m|0|": opinion}}, reader)
        truth[f"P{number}"] = label
    # What says nothing of this model, and a draft after a finished reading, are no truth.
    service.read(service.study("P98"), [picture(service, 98)], {"comment": "seen"})
    study = service.study("P99")
    service.read(study, [picture(service, 99)], {"opinions": {"m|0|": opinion}})
    service.read(study, [picture(service, 99)], {}, state="draft")
    written = export_readings(service.folder, service.reader, tmp_path / "out", model="m", family="labels", rank=2)
    assert (written.images, written.readings, written.left_out) == (12, 24, 1)
    cohort = load_cohort(str(tmp_path / "out"))
    assert dict(zip(cohort.table["patient"], cohort.table["label"], strict=True)) == truth
    table = (tmp_path / "out" / TABLE).read_text().splitlines()
    assert table[0] == "image,label,patient,reader,read,bundle,blind"
    assert table[1].split(",")[2:] == ["P0", "alice", "2026-09-21T14:13:20+00:00", "b" * 64, "0"]
    with pytest.raises(ServingError, match="there already"):
        export_readings(service.folder, service.reader, tmp_path / "out", model="m", family="labels", rank=2)


def test_boxes_come_back_to_the_last_digit_and_images_without_any_are_negatives(service, tmp_path):
    truth: dict[str, list[list[float]]] = {}
    for number in range(8):
        drawn = [[3.25 + number, 4.5, 20.125, 30.75], [30, 2, 44.5, 12]][: number % 3]
        marks = [box(index, *corners) for index, corners in enumerate(drawn)]
        content = {"marks": marks, "opinions": {"m|0|": {"verdict": "accepted"}}}
        service.read(service.study(f"P{number}"), [picture(service, number)], content)
        truth[f"P{number}"] = [[y0, x0, y1, x1] for x0, y0, x1, y1 in drawn]
    export_readings(service.folder, service.reader, tmp_path / "out", model="m", family="boxes", rank=2)
    cohort = load_cohort(str(tmp_path / "out"), kind="box table")
    found = {patient: cohort.boxes(row)[0].tolist() for row, patient in enumerate(cohort.table["patient"])}
    assert found == truth


def test_masks_of_a_volume_come_back_pixel_by_pixel(service, tmp_path):
    generator = np.random.default_rng(5)
    truth = {}
    for number in range(6):
        folder = service.folder / "instances" / str(number)
        folder.mkdir()
        uids = {
            "StudyInstanceUID": f"1.2.5.{number}",
            "SeriesInstanceUID": f"1.2.5.{number}.1",
            "PatientID": f"P{number}",
        }
        make_series(folder, [0.0, 3.0, 6.0, 9.0], **uids)
        (series,) = group_series(folder).series
        rows, columns = read_image(series.paths[0]).shape
        mask = np.zeros((4, rows, columns), np.uint8)
        mask[1:3, 2:5, 1:4] = 1 + (generator.random((2, 3, 3)) > 0.5)
        regions = [
            {"stack": 0, "frame": frame, "label": label, "model": "m", "runs": runs_of(mask[frame] == value)}
            for frame in (1, 2)
            for value, label in ((1, "liver"), (2, "spleen"))
        ]
        service.read(service.study(f"P{number}"), list(series.paths), {"regions": regions})
        truth[f"P{number}"] = mask
    export_readings(service.folder, service.reader, tmp_path / "out", model="m", family="masks", rank=3)
    cohort = load_cohort(str(tmp_path / "out"))
    assert cohort.labels == ("liver", "spleen")
    for row, patient in enumerate(cohort.table["patient"]):
        found = read_mask(cohort, row, cohort.read(row)).pixels[..., 0]
        assert (found == truth[patient]).all()


def series(service: Service, number: int, depths: list[float], **more: Any) -> tuple[list[Path], tuple[int, int]]:
    """The slices of a series in the order in which they are shown, and their size."""
    folder = service.folder / "instances" / f"series {number}"
    uids = {"StudyInstanceUID": f"1.2.6.{number}", "SeriesInstanceUID": f"1.2.6.{number}.1", "PatientID": f"P{number}"}
    make_series(folder, depths, **uids, **more)
    (found,) = group_series(folder).series
    rows, columns = read_image(found.paths[0]).shape
    return list(found.paths), (rows, columns)


def region(frame: int, mask: np.ndarray) -> dict[str, Any]:
    return {"stack": 0, "frame": frame, "label": "liver", "model": "m", "runs": runs_of(mask)}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("depths", "more"), [([0, 3, 6, 9], {"shift": (0.0, 0.5, 0.0)}), ([0, 3, 6, 9, 15, 21, 27], {})]
)
def test_what_was_drawn_on_slices_that_are_resampled_is_left_out(service, tmp_path, caplog, depths, more):
    for number, (places, options) in enumerate((([0.0, 3.0, 6.0, 9.0], {}), ([float(each) for each in depths], more))):
        paths, shape = series(service, number, places, **options)
        content = {"regions": [region(1, np.eye(*shape))], "marks": [box(1, 1, 1, 3, 3, slices=[1, 2])]}
        service.read(service.study(f"P{number}"), paths, content)
    for family in ("masks", "boxes"):
        out = tmp_path / family
        written = export_readings(service.folder, service.reader, out, model="m", family=family, rank=3)
        assert (written.readings, written.left_out) == (1, 1)
        assert {row["patient"] for row in table(out)} == {"P0"}
    assert "no place in the resampled volume" in caplog.text


def test_what_is_drawn_on_one_slice_belongs_to_this_slice(service, tmp_path):
    """A model of images judges each slice; a verdict on one of them says nothing against what is drawn on another."""
    paths, shape = series(service, 0, [0.0, 3.0, 6.0, 9.0])
    mask = np.random.default_rng(3).random(shape) > 0.5
    content = {
        "regions": [region(2, mask)],
        "marks": [box(1, 1, 1, 3, 3, frame=3)],
        "opinions": {"m|0|0": {"verdict": "rejected"}},
    }
    service.read(service.study("P0"), paths, content)
    for family, place in (("masks", 2), ("boxes", 3)):
        out = tmp_path / family
        export_readings(service.folder, service.reader, out, model="m", family=family, rank=2)
        (row,) = table(out)
        assert (read_image(out / row["image"]).pixels == read_image(paths[place]).pixels).all()
        if family == "masks":
            assert (read_image(out / row["liver_mask"]).pixels.squeeze() == mask).all()


def test_a_box_drawn_in_a_volume_is_one_slice_thick(service, tmp_path):
    paths, _ = series(service, 0, [0.0, 3.0, 6.0, 9.0])
    service.read(service.study("P0"), paths, {"marks": [box(1, 1, 1, 3, 3, frame=2)]})
    export_readings(service.folder, service.reader, tmp_path / "out", model="m", family="boxes", rank=3)
    (row,) = table(tmp_path / "out")
    assert (row["z0"], row["z1"]) == ("2", "3")


def test_masks_are_not_lost_to_a_later_reader_who_draws_none(service, tmp_path):
    paths, shape = series(service, 0, [0.0, 3.0, 6.0, 9.0])
    study = service.study("P0")
    service.read(study, paths, {"regions": [region(1, np.eye(*shape))]}, "alice")
    service.read(study, paths, {"comment": "seen"}, "bob")
    written = export_readings(service.folder, service.reader, tmp_path / "out", model="m", family="masks", rank=3)
    assert (written.readings, written.left_out) == (1, 0)
    assert table(tmp_path / "out")[0]["reader"] == "alice"


@pytest.mark.parametrize("wrong", [{"runs": [2**31 - 1] * 9}, {"runs": [3]}, {"frame": 70}])
def test_one_reading_that_fits_no_image_does_not_keep_the_others_back(service, tmp_path, caplog, wrong):
    for number in range(2):
        paths, shape = series(service, number, [0.0, 3.0, 6.0, 9.0])
        drawn = region(1, np.eye(*shape)) | (wrong if number else {})
        service.read(service.study(f"P{number}"), paths, {"regions": [drawn]})
    written = export_readings(service.folder, service.reader, tmp_path / "out", model="m", family="masks", rank=3)
    assert (written.readings, written.left_out) == (1, 1)
    assert "Reading 2 by alice is left out" in caplog.text


def runs_of(mask: np.ndarray) -> list[int]:
    flat = mask.ravel().astype(int)
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]
    runs = np.diff(ends).tolist()
    return [0, *runs] if flat[0] else runs


def test_runs_are_read_as_the_page_writes_them():
    mask = np.random.default_rng(0).random((7, 9)) > 0.5
    assert (decode_runs(runs_of(mask), (7, 9)) == mask).all()


def test_what_is_not_known_does_not_count():
    assert value_of(0.6, None, None) == 0.6
    assert value_of(0.6, 0.1, None) == pytest.approx(0.4)
    # An image far from those of training counts as much as one that is doubted, and not more.
    assert value_of(0.5, 0.25, 7.0) == pytest.approx(2 / 3)


def candidate(name: str, doubt: float, *features: float, ood: float | None = None) -> Candidate:
    return Candidate(name, doubt, None, ood, np.array(features, np.float32))


def test_what_the_model_doubts_comes_first_and_copies_of_it_last():
    pool = [
        candidate("sure", 0.1, 0, 5),
        candidate("doubted", 0.9, 0, 0),
        candidate("its copy", 0.9, 0, 0.01),
        candidate("doubted elsewhere", 0.8, 5, 0),
    ]
    names = [choice.candidate.image for choice in ranked(pool, count=4, random_share=0, seed=0)]
    assert names[:2] == ["doubted", "doubted elsewhere"]
    assert names[-1] == "its copy"


def test_the_random_share_is_drawn_from_all_and_repeats_with_its_seed():
    pool = [candidate(str(number), number / 1000, number) for number in range(1000)]
    choices = ranked(pool, count=200, random_share=0.5, seed=3)
    drawn = [choice.candidate.doubt for choice in choices if choice.is_random]
    assert len(choices) == len({choice.candidate.image for choice in choices}) == 200
    assert len(drawn) == 100
    # Uniform from 0 to 1: four standard errors.
    assert abs(np.mean(drawn) - 0.5) < 4 * np.sqrt(1 / 12 / 100)
    assert choices == ranked(pool, count=200, random_share=0.5, seed=3)
    assert ranked([], count=5, random_share=0.1, seed=0) == []


def test_doubt_is_greatest_at_the_threshold():
    def binary(probability: float) -> float:
        content = {"prediction": "", "probabilities": {"normal": 1 - probability, "opacity": probability}}
        return doubt_of(content, 0.2, "binary")

    assert [binary(value) for value in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    own = {"probabilities": {"a": 0.3, "b": 0.3}}
    assert doubt_of(own, (0.9, 0.4), "multi-label") == pytest.approx(0.75)
    several = {"probabilities": {"a": 0.5, "b": 0.4, "c": 0.1}}
    assert doubt_of(several, 0.5, "multi-class") == pytest.approx(0.9)
    assert doubt_of({"findings": [{"score": 0.9}, {"score": 0.6}]}, 0.5, "detection") == pytest.approx(0.8)
    assert doubt_of({"findings": []}, 0.5, "detection") == 0
    assert doubt_of({"labels": {"a": {"uncertainty": 0.25}, "b": {"uncertainty": None}}}, 0.5, "segmentation") == 0.25
    assert doubt_of({"value": 7}, 0.5, "regression") == 0
