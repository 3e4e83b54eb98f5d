"""All SQL of the service: the schema and the named statements."""

from __future__ import annotations

from hounsfield.serving.lifecycle import STATES, Kind


def _states(kind: Kind) -> str:
    return ", ".join(f"'{state}'" for state in STATES[kind])


SCHEMA = f"""
CREATE TABLE study (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ({_states("study")})),
    attempt INTEGER NOT NULL DEFAULT 0,
    due REAL,
    reason TEXT NOT NULL DEFAULT '',
    revision INTEGER NOT NULL DEFAULT 1,
    source TEXT NOT NULL,
    attributes TEXT NOT NULL,
    received REAL NOT NULL,
    changed REAL NOT NULL
) STRICT;
CREATE INDEX study_due ON study (due) WHERE due IS NOT NULL;
CREATE TABLE instance (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL,
    study INTEGER NOT NULL REFERENCES study (id),
    series_uid TEXT NOT NULL,
    sop_class TEXT NOT NULL,
    transfer_syntax TEXT NOT NULL,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    attributes TEXT NOT NULL,
    revision INTEGER NOT NULL,
    replaced INTEGER NOT NULL DEFAULT 0,
    received REAL NOT NULL
) STRICT;
-- One copy of an instance counts; those that it replaced are kept beside it.
CREATE UNIQUE INDEX instance_current ON instance (uid) WHERE replaced = 0;
CREATE INDEX instance_study ON instance (study);
CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    study INTEGER REFERENCES study (id),
    revision INTEGER NOT NULL DEFAULT 1,
    upload TEXT,
    model TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ({_states("job")})),
    attempt INTEGER NOT NULL DEFAULT 0,
    due REAL,
    reason TEXT NOT NULL DEFAULT '',
    bundle TEXT,
    answer TEXT,
    owner TEXT NOT NULL DEFAULT '',
    made REAL NOT NULL,
    changed REAL NOT NULL,
    CHECK ((study IS NULL) != (upload IS NULL))
) STRICT;
CREATE UNIQUE INDEX job_once ON job (study, revision, model) WHERE study IS NOT NULL;
CREATE INDEX job_due ON job (state, due);
CREATE TABLE result (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    job INTEGER NOT NULL REFERENCES job (id),
    kind TEXT NOT NULL,
    quirk TEXT,
    sop_class TEXT NOT NULL,
    path TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL
) STRICT;
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY,
    result INTEGER NOT NULL REFERENCES result (id),
    destination TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ({_states("delivery")})),
    attempt INTEGER NOT NULL DEFAULT 0,
    due REAL,
    reason TEXT NOT NULL DEFAULT '',
    changed REAL NOT NULL,
    UNIQUE (result, destination)
) STRICT;
CREATE INDEX delivery_due ON delivery (state, due);
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    record INTEGER NOT NULL,
    event TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    reason TEXT NOT NULL,
    time REAL NOT NULL
) STRICT;
CREATE INDEX event_record ON event (kind, record);
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE TABLE audit_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id INTEGER NOT NULL,
    hash TEXT NOT NULL
) STRICT;
PRAGMA user_version = 1;
"""

# What readers said: a row is added for each step, and none is changed.
READINGS = """
CREATE TABLE reading (
    id INTEGER PRIMARY KEY,
    nonce TEXT NOT NULL UNIQUE,
    study INTEGER REFERENCES study (id),
    job INTEGER REFERENCES job (id),
    revision INTEGER NOT NULL,
    reader TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('draft', 'final')),
    blind INTEGER NOT NULL,
    bundles TEXT NOT NULL,
    places TEXT NOT NULL,
    content TEXT NOT NULL,
    time REAL NOT NULL,
    CHECK ((study IS NULL) != (job IS NULL))
) STRICT;
CREATE INDEX reading_study ON reading (study, reader) WHERE study IS NOT NULL;
CREATE INDEX reading_job ON reading (job, reader) WHERE job IS NOT NULL;
CREATE TRIGGER reading_kept BEFORE UPDATE ON reading BEGIN SELECT RAISE (ABORT, 'readings are only added'); END;
CREATE TRIGGER reading_left BEFORE DELETE ON reading BEGIN SELECT RAISE (ABORT, 'readings are only added'); END;
PRAGMA user_version = 2;
"""
# Instances that are acknowledged, and not entered yet; ``received`` is JSON.
ARRIVED = """
CREATE TABLE arrival (
    id INTEGER PRIMARY KEY,
    received TEXT NOT NULL,
    start INTEGER NOT NULL,
    time REAL NOT NULL
) STRICT;
PRAGMA user_version = 3;
"""
# What makes of a database of one version the next, from an empty one on.
SCRIPTS = (SCHEMA, READINGS, ARRIVED)
VERSION = len(SCRIPTS)

INSERT_STUDY = """
INSERT INTO study (uid, state, due, source, attributes, received, changed)
VALUES (:uid, 'receiving', :due, :source, :attributes, :now, :now)
"""
STUDY_BY_UID = "SELECT * FROM study WHERE uid = ?"
REVISE_STUDY = "UPDATE study SET revision = revision + 1 WHERE id = ?"
QUIET_STUDIES = "SELECT * FROM study WHERE state = 'receiving' AND due <= ? ORDER BY due LIMIT ?"

INSERT_ARRIVAL = "INSERT INTO arrival (received, start, time) VALUES (?, ?, ?)"
ARRIVALS = "SELECT * FROM arrival ORDER BY id"
REMOVE_ARRIVAL = "DELETE FROM arrival WHERE id = ?"
CURRENT_INSTANCE = "SELECT * FROM instance WHERE uid = ? AND replaced = 0"
REPLACE_INSTANCE = "UPDATE instance SET replaced = 1 WHERE id = ?"
INSERT_INSTANCE = """
INSERT INTO instance (
    uid, study, series_uid, sop_class, transfer_syntax, path, sha256, size, attributes, revision, received)
VALUES (:uid, :study, :series_uid, :sop_class, :transfer_syntax, :path, :sha256, :size, :attributes, :revision, :now)
"""
INSTANCES_OF_STUDY = "SELECT * FROM instance WHERE study = ? AND replaced = 0 ORDER BY series_uid, uid"
WAS_REPLACED = "SELECT 1 FROM instance WHERE study = ? AND replaced = 1 LIMIT 1"
STUDIES_BEFORE = """
SELECT * FROM study WHERE state = 'complete' AND changed < :before
AND NOT EXISTS (SELECT 1 FROM job WHERE job.study = study.id AND job.state IN ('waiting', 'running'))
AND NOT EXISTS (
    SELECT 1 FROM job JOIN result ON result.job = job.id JOIN delivery ON delivery.result = result.id
    WHERE job.study = study.id AND delivery.state != 'delivered')
AND NOT EXISTS (SELECT 1 FROM reading WHERE reading.study = study.id)
ORDER BY changed LIMIT :limit
"""
STORED_BYTES = "SELECT COALESCE(SUM(size), 0) AS bytes FROM instance"

INSERT_JOB = """
INSERT INTO job (study, revision, upload, model, state, due, reason, owner, made, changed)
VALUES (:study, :revision, :upload, :model, :state, :now, :reason, :owner, :now, :now)
ON CONFLICT DO NOTHING
"""
NEXT_JOB = "SELECT * FROM job WHERE state = 'waiting' AND due <= :now AND model = :model ORDER BY due, id LIMIT 1"
OPEN_JOBS_OF_STUDY = "SELECT * FROM job WHERE study = ? AND state IN ('waiting', 'running', 'refused', 'dead')"
# Uploads that may still be worked on, or be read by a person.
OPEN_UPLOADS = """
SELECT upload FROM job WHERE upload IS NOT NULL AND (state != 'done' OR json_extract(upload, '$.kept'))
"""
UPLOADS_BEFORE = """
SELECT * FROM job WHERE upload IS NOT NULL AND state NOT IN ('waiting', 'running') AND changed < ?
AND NOT EXISTS (SELECT 1 FROM reading WHERE reading.job = job.id) LIMIT ?
"""
REMOVE_JOB = "DELETE FROM job WHERE id = ?"
ANSWER_JOB = "UPDATE job SET answer = :answer, bundle = :bundle WHERE id = :id"

INSERT_RESULT = """
INSERT INTO result (uid, job, kind, quirk, sop_class, path, sha256)
VALUES (:uid, :job, :kind, :quirk, :sop_class, :path, :sha256)
ON CONFLICT (uid) DO NOTHING
"""
ANSWERS = "SELECT model, changed, answer FROM job WHERE answer IS NOT NULL ORDER BY changed"
RESULT_BY_UID = "SELECT * FROM result WHERE uid = ?"
INSERT_DELIVERY = """
INSERT INTO delivery (result, destination, state, due, changed) VALUES (:result, :destination, 'waiting', :now, :now)
ON CONFLICT DO NOTHING
"""
NEXT_DELIVERIES = """
SELECT delivery.*, result.uid, result.kind, result.sop_class, result.path FROM delivery
JOIN result ON result.id = delivery.result
WHERE delivery.state = 'waiting' AND delivery.due <= :now AND delivery.destination = :destination
ORDER BY delivery.due, delivery.id LIMIT :limit
"""
DELIVERY_BY_UID = """
SELECT delivery.*, result.uid FROM delivery JOIN result ON result.id = delivery.result
WHERE result.uid = :uid AND delivery.destination = :destination
"""

SELECT = {kind: f"SELECT * FROM {kind} WHERE id = ?" for kind in STATES}  # noqa: S608 - names of our own tables
# One row changes, or somebody else was first.
MOVE = {
    kind: f"""
UPDATE {kind} SET state = :state, attempt = :attempt, due = :due, reason = :reason, changed = :now
WHERE id = :id AND state = :old_state AND attempt = :old_attempt
"""  # noqa: S608 - names of our own tables
    for kind in STATES
}
EXPIRED = {
    "job": "SELECT * FROM job WHERE state = 'running' AND due <= ?",
    "delivery": "SELECT * FROM delivery WHERE state IN ('sending', 'stored') AND due <= ?",
}
COUNTS = {kind: f"SELECT state, COUNT(*) AS count FROM {kind} GROUP BY state" for kind in STATES}  # noqa: S608
IN_STATE = {
    "job": "SELECT * FROM job WHERE state = ? ORDER BY changed DESC LIMIT ?",
    "delivery": """
SELECT delivery.*, result.uid FROM delivery JOIN result ON result.id = delivery.result
WHERE delivery.state = ? ORDER BY delivery.changed DESC LIMIT ?
""",
}
INSERT_EVENT = """
INSERT INTO event (kind, record, event, before, after, attempt, reason, time)
VALUES (:kind, :record, :event, :before, :after, :attempt, :reason, :now)
"""

# What goes with a study that is removed, children first.
REMOVE_STUDY = (
    """DELETE FROM delivery WHERE result IN
    (SELECT result.id FROM result JOIN job ON job.id = result.job WHERE job.study = ?)""",
    "DELETE FROM result WHERE job IN (SELECT id FROM job WHERE study = ?)",
    "DELETE FROM job WHERE study = ?",
    "DELETE FROM instance WHERE study = ?",
    "DELETE FROM study WHERE id = ?",
)
FILES_OF_STUDY = """
SELECT path FROM instance WHERE study = :study
UNION ALL SELECT result.path FROM result JOIN job ON job.id = result.job WHERE job.study = :study
"""

AUDIT_HEAD = "SELECT id, hash FROM audit_head"
INSERT_AUDIT = """
INSERT INTO audit (id, time, actor, role, action, subject, outcome, hash)
VALUES (:id, :time, :actor, :role, :action, :subject, :outcome, :hash)
"""
SET_AUDIT_HEAD = """
INSERT INTO audit_head (one, id, hash) VALUES (1, :id, :hash)
ON CONFLICT (one) DO UPDATE SET id = excluded.id, hash = excluded.hash
"""
AUDIT = "SELECT * FROM audit WHERE id <= ? ORDER BY id"
AUDIT_PAGE = "SELECT * FROM audit WHERE id > ? ORDER BY id LIMIT ?"

ALL_PATHS = "SELECT path FROM instance UNION SELECT path FROM result"

# Of a list of what is to be read: those that changed after a time, with what was done about them.
STUDIES_TO_READ = """
SELECT * FROM study WHERE changed > :after
OR EXISTS (SELECT 1 FROM job WHERE job.study = study.id AND job.changed > :after)
OR EXISTS (SELECT 1 FROM reading WHERE reading.study = study.id AND reading.time > :after)
ORDER BY received DESC
"""
JOBS_TO_READ = """
SELECT job.* FROM job JOIN study ON study.id = job.study AND study.revision = job.revision
WHERE job.state != 'superseded' AND (study.changed > :after OR EXISTS (
    SELECT 1 FROM job AS other WHERE other.study = study.id AND other.changed > :after)
    OR EXISTS (SELECT 1 FROM reading WHERE reading.study = study.id AND reading.time > :after))
ORDER BY job.id
"""
UPLOADS_TO_READ = """
SELECT * FROM job WHERE upload IS NOT NULL AND json_extract(upload, '$.kept') AND owner = COALESCE(:owner, owner)
    AND (changed > :after
    OR EXISTS (SELECT 1 FROM reading WHERE reading.job = job.id AND reading.time > :after))
ORDER BY made DESC
"""
JOBS_OF_STUDY = """
SELECT job.* FROM job JOIN study ON study.id = job.study AND study.revision = job.revision
WHERE job.study = ? AND job.state != 'superseded' ORDER BY job.id
"""
CASES = """
SELECT (SELECT COUNT(*) FROM study)
    + (
        SELECT COUNT(*) FROM job
        WHERE upload IS NOT NULL AND json_extract(upload, '$.kept') AND owner = COALESCE(:owner, owner)) AS count
"""

SENT_READING = "SELECT * FROM reading WHERE nonce = ?"
INSERT_READING = """
INSERT INTO reading (nonce, study, job, revision, reader, state, blind, bundles, places, content, time)
VALUES (:nonce, :study, :job, :revision, :reader, :state, :blind, :bundles, :places, :content, :now)
"""
LAST_READING = """
SELECT * FROM reading WHERE study IS :study AND job IS :job AND reader = :reader ORDER BY id DESC LIMIT 1
"""
FINISHED = """
SELECT 1 FROM reading WHERE study IS :study AND job IS :job AND reader = :reader AND state = 'final' LIMIT 1
"""
FINISHED_BY = "SELECT DISTINCT study, job FROM reading WHERE reader = ? AND state = 'final'"
OTHERS_READINGS = """
SELECT * FROM reading WHERE id IN (
    SELECT MAX(id) FROM reading
    WHERE study IS :study AND job IS :job AND reader != :reader AND state = 'final' GROUP BY reader)
ORDER BY id
"""
# Who has read what: of each reader and case the last step.
READERS = """
SELECT study, job, reader, state, time FROM reading
WHERE id IN (SELECT MAX(id) FROM reading GROUP BY study, job, reader)
"""
# Of each reader and case the last end of a reading, where nothing was entered since.
FINISHED_READINGS = """
SELECT reading.*, study.attributes FROM reading LEFT JOIN study ON study.id = reading.study
WHERE reading.state = 'final' AND reading.id IN (SELECT MAX(id) FROM reading GROUP BY study, job, reader)
ORDER BY reading.id
"""
