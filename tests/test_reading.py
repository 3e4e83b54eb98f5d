"""What readers say: its form, agreement between two, blind reading, and the log that keeps every step."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hounsfield.errors import HounsfieldError
from hounsfield.reading import agreement, is_blind, read_content
from hounsfield.serving import statements as sql
from hounsfield.serving.audit import verify
from hounsfield.serving.cases import find_case, summarised
from hounsfield.serving.database import Database, Reader
from hounsfield.serving.readings import OutdatedError, Step, add_reading, others_readings, own_reading

BOX = {
    "id": "a",
    "kind": "box",
    "stack": 0,
    "frame": 2,
    "from": [10, 20],
    "to": [30, 40],
    "label": "ring",
    "model": "m",
}


JOB = {
    "study": 1,
    "revision": 1,
    "upload": None,
    "model": "m",
    "state": "waiting",
    "now": 0,
    "reason": "",
    "owner": "",
}


def content(*boxes: dict[str, Any], comment: str = "") -> dict[str, Any]:
    return {"opinions": {}, "marks": list(boxes), "regions": [], "comment": comment}


def test_a_reading_comes_back_as_it_was_sent():
    sent = content(BOX, BOX | {"id": "b", "slices": [2, 5]}, comment="two")
    sent["opinions"] = {"m|0|": {"verdict": "corrected", "labels": {"ring": True}, "grade": ""}}
    sent["regions"] = [{"stack": 0, "frame": 1, "label": "ring", "model": "m", "runs": [3, 4, 5]}]
    assert read_content(sent).json() == sent


@pytest.mark.parametrize(
    "fault",
    [
        {"marks": [BOX | {"from": [30, 20], "to": [10, 40]}]},
        {"marks": [BOX | {"from": [float("nan"), 20]}]},
        {"marks": [BOX | {"slices": [5, 5]}]},
        {"marks": [BOX | {"stack": -1}]},
        {"opinions": {"m|0|": {"verdict": "perhaps"}}},
        {"opinions": {"m": {"verdict": "accepted"}}},
        {"opinions": {"m|0": {"verdict": "accepted"}}},
        {"opinions": {"m|0|x": {"verdict": "accepted"}}},
        {"regions": [{"stack": 0, "frame": 0, "label": "a", "model": "m", "runs": [-1]}]},
        {"patient": "Mustermann"},
        {"comment": 7},
    ],
)
def test_another_form_is_refused_without_quoting_it(fault):
    with pytest.raises(HounsfieldError, match="The reading cannot be kept") as caught:
        read_content(fault)
    assert "Mustermann" not in str(caught.value)


def test_agreement_counts_labels_and_pairs_each_box_once():
    def opinion(ring: bool, grade: str = "") -> dict[str, Any]:
        return {"m|0|": {"verdict": "corrected", "labels": {"ring": ring, "rod": True}, "grade": grade}}

    # Half of each other, a third of both together; the second overlaps by 3 quarters.
    half, near = BOX | {"from": [20, 20], "to": [40, 40]}, BOX | {"from": [10, 20], "to": [30, 35]}
    one = content(BOX) | {"opinions": opinion(ring=True, grade="2")}
    other = content(half, near, BOX | {"label": "rod"}) | {"opinions": opinion(ring=False, grade="2")}
    found = agreement(read_content(one), read_content(other))
    assert found == {"labels": 3, "same_labels": 2, "boxes": 3, "same_boxes": 1}
    assert found == agreement(read_content(other), read_content(one))


def test_the_blind_share_is_that_of_many_cases_and_stays():
    drawn = [is_blind(f"1.2.{number}", 0.2) for number in range(5000)]
    assert drawn == [is_blind(f"1.2.{number}", 0.2) for number in range(5000)]
    # Four standard deviations.
    assert abs(sum(drawn) / 5000 - 0.2) < 0.023
    assert not is_blind("1.2.3", 0)
    assert is_blind("1.2.3", 1)


def step(**changes: Any) -> Step:
    values: dict[str, Any] = {
        "nonce": "t1",
        "study": 1,
        "job": None,
        "revision": 1,
        "reader": "alice",
        "role": "annotator",
        "state": "draft",
        "after": 0,
        "blind": False,
        "bundles": {"m": "abc"},
        "places": {},
        "content": content(comment="first"),
        "subject": "1.2",
    }
    return Step(**values | changes)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    found = Database(tmp_path / "service.sqlite")
    with found.transaction() as writing:
        writing.change(sql.INSERT_STUDY, {"uid": "1.2", "due": 0, "source": "", "attributes": "{}", "now": 0})
        writing.change("UPDATE study SET state = 'complete'")
    return found


def test_a_step_that_is_sent_twice_is_kept_once(database):
    first = add_reading(database, step(), 1.0)
    assert add_reading(database, step(), 2.0) == first
    second = add_reading(database, step(nonce="t2", after=first, state="final"), 3.0)
    assert add_reading(database, step(), 4.0) == first
    assert second != first
    assert len(database.rows("SELECT * FROM reading")) == 2
    assert verify(database) == 2


@pytest.mark.parametrize(
    "other", [{"content": content(comment="other")}, {"reader": "bob"}, {"state": "final"}, {"study": 2}]
)
def test_another_step_under_the_same_nonce_is_never_taken_for_kept(database, other):
    with database.transaction() as writing:
        writing.change(sql.INSERT_STUDY, {"uid": "1.3", "due": 0, "source": "", "attributes": "{}", "now": 0})
    add_reading(database, step(), 1.0)
    with pytest.raises(OutdatedError):
        add_reading(database, step(**other), 2.0)
    assert len(database.rows("SELECT * FROM reading")) == 1


def test_a_commit_that_fails_takes_nothing_that_follows_with_it(database, tmp_path):
    def fail_at_the_commit() -> None:
        with database.transaction() as writing:
            # A row that refers to none is then found at the commit alone, which SQLite leaves open.
            writing.change("PRAGMA defer_foreign_keys = ON")
            writing.change(sql.INSERT_JOB, JOB | {"study": 99})

    with pytest.raises(sqlite3.IntegrityError):
        fail_at_the_commit()
    add_reading(database, step(), 1.0)
    assert len(Reader(tmp_path / "service.sqlite").rows("SELECT * FROM reading")) == 1


def test_a_step_from_a_second_window_or_of_an_earlier_state_is_refused(database):
    first = add_reading(database, step(), 1.0)
    with pytest.raises(OutdatedError, match="another window"):
        add_reading(database, step(nonce="t2", after=0), 2.0)
    with database.transaction() as writing:
        writing.change(sql.REVISE_STUDY, (1,))
    with pytest.raises(OutdatedError, match="Further images"):
        add_reading(database, step(nonce="t3", after=first), 3.0)
    assert len(database.rows("SELECT * FROM reading")) == 1


def test_any_text_that_json_holds_is_kept(database, tmp_path):
    add_reading(database, step(content=content(comment="half a pair: \ud800, 肺")), 1.0)
    case = find_case(reader := Reader(tmp_path / "service.sqlite"), "s1")
    assert case is not None
    assert json.loads(own_reading(reader, case, "alice")["content"])["comment"] == "half a pair: \ud800, 肺"


def test_two_readers_are_kept_apart(database, tmp_path):
    add_reading(database, step(nonce="a", state="final"), 1.0)
    add_reading(database, step(nonce="b", reader="bob"), 2.0)
    reader = Reader(tmp_path / "service.sqlite")
    case = find_case(reader, "s1")
    assert case is not None
    assert own_reading(reader, case, "bob")["nonce"] == "b"
    assert [row["reader"] for row in others_readings(reader, case, "bob")] == ["alice"]
    # A draft is its reader's own.
    assert others_readings(reader, case, "alice") == []


def test_no_step_is_ever_changed_or_removed(database):
    add_reading(database, step(), 1.0)
    for statement in ("UPDATE reading SET content = ''", "DELETE FROM reading", "DELETE FROM study"):
        with pytest.raises(sqlite3.IntegrityError), database.transaction() as writing:
            writing.change(statement)
    assert database.rows(sql.STUDIES_BEFORE, {"before": 1e12, "limit": 10}) == []


def test_the_database_of_the_version_before_is_opened(tmp_path):
    with sqlite3.connect(tmp_path / "old.sqlite") as old:
        old.executescript(sql.SCHEMA)
        old.execute(sql.INSERT_STUDY, {"uid": "1.2", "due": 0, "source": "", "attributes": "{}", "now": 0})
    old.close()
    database = Database(tmp_path / "old.sqlite")
    assert add_reading(database, step(), 1.0) == 1
    assert database.row("PRAGMA user_version") == {"user_version": sql.VERSION}


def test_a_list_says_what_was_found_and_what_is_unclear():
    binary = {"prediction": "opacity", "probabilities": {"normal": 0.1, "opacity": 0.9}}
    calm = {"prediction": "normal", "probabilities": {"normal": 0.7, "opacity": 0.3}, "set": ["normal", "opacity"]}
    several = {"prediction": "normal", "probabilities": {"bacteria": 0.1, "normal": 0.7, "virus": 0.2}}
    assert summarised([binary]) == {
        "findings": ["opacity"],
        "score": 0.9,
        "unlike": False,
        "unsure": False,
        "failed": 0,
    }
    assert summarised([calm])["findings"] == []
    assert summarised([calm])["unsure"]
    assert summarised([several])["findings"] == []
    boxes = {"findings": [{"label": "ring", "score": 0.4}, {"label": "rod", "score": 0.8}], "out_of_distribution": True}
    assert summarised([boxes, {"reason": "damaged"}]) == {
        "findings": ["rod", "ring"],
        "score": 0.8,
        "unlike": True,
        "unsure": False,
        "failed": 1,
    }
    assert summarised([{"labels": {"lung": {"pixels": 3}, "heart": {"pixels": 0}}}])["findings"] == ["lung"]
