"""The one SQLite file of the service: one process has the only connection that writes, others read."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hounsfield.errors import ServingError
from hounsfield.serving.statements import SCRIPTS, VERSION

# The name of the file in the folder of the service.
DATABASE = "service.sqlite"

Values = Mapping[str, Any] | Sequence[Any]
Row = dict[str, Any]


class Database:
    """The connection that writes; several threads may use it, one transaction at a time.

    Every commit is on disk when it returns (write-ahead log, ``synchronous=FULL``).

    Args:
        path: of the file, which is made where it is not there.

    Raises:
        ServingError: the file is no database of this service, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            self._connection = _connect(path)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            for script in SCRIPTS[version:]:
                self._connection.executescript(f"BEGIN IMMEDIATE; {script} COMMIT;")
        except sqlite3.DatabaseError as error:
            raise ServingError(
                f"{path} cannot be opened as the database of the service ({error}). Give another folder, or restore "
                "the file from a backup."
            ) from error
        if version > VERSION:
            raise ServingError(
                f"{path} has the version {version}, and this Hounsfield knows versions to {VERSION}. Use the newer "
                "Hounsfield that wrote it."
            )

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """All statements of the block, or none of them."""
        with self._lock:
            if self._connection.in_transaction:
                yield self
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self
                self._connection.commit()
            except BaseException:
                # A commit that failed may leave the transaction open, and what follows would join it, never committed.
                self._connection.rollback()
                raise

    def change(self, statement: str, values: Values = ()) -> sqlite3.Cursor:
        """Run a statement that writes; ``rowcount`` and ``lastrowid`` tell what it did."""
        with self._lock:
            if not self._connection.in_transaction:
                raise ServingError("A statement that writes was run outside a transaction.")
            return self._connection.execute(statement, values)

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """What a statement selects."""
        with self._lock:
            return [dict(row) for row in self._connection.execute(statement, values)]

    def row(self, statement: str, values: Values = ()) -> Row | None:
        """The first row that a statement selects."""
        with self._lock:
            found = self._connection.execute(statement, values).fetchone()
        return None if found is None else dict(found)

    def each(self, statement: str, values: Values = ()) -> Iterator[Row]:
        """What a statement selects, one row after another."""
        with self._lock:
            yield from map(dict, self._connection.execute(statement, values))

    def close(self) -> None:
        """Twice does no harm."""
        with self._lock:
            self._connection.close()


class Reader:
    """A connection that only reads, for another process or thread; it never checkpoints the write-ahead log."""

    def __init__(self, path: Path) -> None:
        self._local = threading.local()
        self._path = path

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """What a statement selects."""
        return [dict(row) for row in self._connection().execute(statement, values)]

    def row(self, statement: str, values: Values = ()) -> Row | None:
        """The first row that a statement selects."""
        found = self._connection().execute(statement, values).fetchone()
        return None if found is None else dict(found)

    def each(self, statement: str, values: Values = ()) -> Iterator[Row]:
        """What a statement selects, one row after another."""
        yield from map(dict, self._connection().execute(statement, values))

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            connection = _connect(self._path)
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._local.connection = connection
        found: sqlite3.Connection = self._local.connection
        return found


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection
