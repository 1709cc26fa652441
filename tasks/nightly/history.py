"""The nightly's memory: one record a night in an SQLite file, with every measured value beside it.

The file's journal is SQLite's default, a rollback journal, which holds on shared file systems too; a writer that is killed
leaves it to the next reader to undo the half. Every change is one transaction, and writers wait for one another.
Values that are not numbers are NULL. Older files are brought up to date when they are opened, newer ones are refused.
"""

import contextlib
import csv
import json
import math
import sqlite3
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from fse.errors import DataError, StageError


def _reports_of_all_runs(connection: sqlite3.Connection) -> None:
    """`doctor` was one report, or what was said in place of it; now it is a list of reports, one for each kind of training."""
    for date, text in connection.execute("SELECT date, record FROM nights").fetchall():
        record = json.loads(text)
        found = record.get("doctor")
        if not isinstance(found, list):
            record["doctor"] = [found] if isinstance(found, dict) and "checks" in found else []
            connection.execute("UPDATE nights SET record = ? WHERE date = ?", (json.dumps(record), date))


# What brings a file from one version to the next, as SQL or as a function; its version is the number of those done
# (PRAGMA user_version).
MIGRATIONS: Tuple[Union[str, Callable[[sqlite3.Connection], None]], ...] = (
    """
    CREATE TABLE nights (
      date TEXT PRIMARY KEY,      -- 2026-11-23
      verdict TEXT NOT NULL,      -- '' while it is being played
      environment TEXT NOT NULL,  -- fingerprint: nights of one are compared
      commit_id TEXT NOT NULL,
      record TEXT NOT NULL        -- JSON
    );
    CREATE TABLE measured (
      date TEXT NOT NULL REFERENCES nights ON DELETE CASCADE,
      run TEXT NOT NULL,
      metric TEXT NOT NULL,
      seed INTEGER NOT NULL,
      repeat INTEGER NOT NULL,    -- 1: of the night's repeat
      value REAL,
      PRIMARY KEY (date, run, metric, seed, repeat)
    );
    """,
    """
    CREATE TABLE told (           -- what hooks were told, and how it went
      id INTEGER PRIMARY KEY,
      date TEXT NOT NULL,
      hook TEXT NOT NULL,
      state TEXT NOT NULL,
      time TEXT NOT NULL,
      outcome TEXT NOT NULL       -- '' if it was told
    );
    """,
    _reports_of_all_runs,
)

# Verdicts that leave a night good, so that later ones are compared with it.
GOOD = ("pass", "warn")

# A writer waits for others at most that long.
_SECONDS = 60.0


class Told(NamedTuple):
    """An alarm. outcome: '' if the hook took it, else what went wrong."""

    date: str
    hook: str
    state: str
    time: str
    outcome: str


class History:
    """The history of one nightly, in a file that is made if it is not there."""

    def __init__(self, path: Path):
        """Opens it, and brings it up to date.

        Raises:
          StageError: a newer version of this program wrote it, or it cannot be written.
          DataError: the file is something else.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StageError(f"{path.parent}: cannot be written: {error.strerror}") from error
        with self._changing() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                words = "{}: written by a newer version of this program (schema {}, this one knows {}); update it"
                raise StageError(words.format(path, version, len(MIGRATIONS)))
            for migration in MIGRATIONS[version:]:
                if callable(migration):
                    migration(connection)
                    continue
                for statement in _statements(migration):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def save(self, record: Dict[str, Any]) -> None:
        """Keeps a night's record, in place of an earlier one of its date.

        `record` is JSON with `date`, `verdict`, `fingerprint`, `commit` and `plays`, each of which has `run`, `seed`,
        `repeat` and `metrics`.
        """
        text = json.dumps(finite(record), allow_nan=False)
        row = (record["date"], record["verdict"], record["fingerprint"], record["commit"], text)
        with self._changing() as connection:
            connection.execute("DELETE FROM measured WHERE date = ?", row[:1])
            connection.execute("INSERT OR REPLACE INTO nights VALUES (?, ?, ?, ?, ?)", row)
            for play in record["plays"]:
                for metric, value in play["metrics"].items():
                    cells = (record["date"], play["run"], metric, play["seed"], int(play["repeat"]), finite(value))
                    connection.execute("INSERT INTO measured VALUES (?, ?, ?, ?, ?, ?)", cells)

    def record(self, date: str) -> Optional[Dict[str, Any]]:
        """The record of a night; None if there is none."""
        return next(iter(self._records("date = ?", date)), None)

    def records(self) -> List[Dict[str, Any]]:
        """All records, in the order of their dates."""
        return self._records("1")

    def before(self, date: str, verdicts: Any = GOOD) -> List[Dict[str, Any]]:
        """Records of the nights before a date that ended with one of `verdicts`, in the order of their dates."""
        return [record for record in self._records("date < ?", date) if record["verdict"] in verdicts]

    def past(self, environment: str, run: str, metric: str, since: str, date: str) -> List[float]:
        """The means of a metric in the good nights of an environment from `since` on and before `date`, oldest first.

        A repeat counts as much as the first run of its night. Nights without a value, or with one that is no number, are
        left out.
        """
        query = (
            "SELECT AVG(value), COUNT(value) = COUNT(*) FROM measured JOIN nights USING (date) "
            "WHERE environment = ? AND run = ? AND metric = ? AND date >= ? AND date < ? AND verdict IN (?, ?) "
            "GROUP BY date ORDER BY date"
        )
        with self._reading() as connection:
            rows = connection.execute(query, (environment, run, metric, since, date, *GOOD)).fetchall()
        return [float(mean) for mean, whole in rows if whole]

    def tell(self, told: Told) -> None:
        """Keeps what a hook was told."""
        with self._changing() as connection:
            connection.execute("INSERT INTO told (date, hook, state, time, outcome) VALUES (?, ?, ?, ?, ?)", told)

    def told(self, hook: str = "") -> List[Told]:
        """What a hook, or any, was told, oldest first."""
        query = "SELECT date, hook, state, time, outcome FROM told WHERE hook = ? OR ? = '' ORDER BY id"
        with self._reading() as connection:
            return [Told(*row) for row in connection.execute(query, (hook, hook))]

    def write_csv(self, stream: IO[str]) -> None:
        """Writes a line for every measured value."""
        names = ("date", "verdict", "environment", "commit", "run", "metric", "seed", "repeat", "value")
        query = "SELECT date, verdict, environment, commit_id, run, metric, seed, repeat, value FROM nights "
        with self._reading() as connection:
            rows = connection.execute(query + "JOIN measured USING (date) ORDER BY date, run, metric, repeat, seed")
            csv.writer(stream, lineterminator="\n").writerows([names, *rows])

    def write_lines(self, stream: IO[str]) -> None:
        """Writes each night's record as one line of JSON."""
        for record in self.records():
            stream.write(json.dumps(record, sort_keys=True) + "\n")

    def _records(self, where: str, *values: str) -> List[Dict[str, Any]]:
        with self._reading() as connection:
            rows = connection.execute(f"SELECT record FROM nights WHERE {where} ORDER BY date", values)
            return [json.loads(text) for (text,) in rows]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(
                sqlite3.connect(str(self.path), timeout=_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA foreign_keys = ON")
                yield connection
        except sqlite3.OperationalError as error:
            raise StageError(f"{self.path}: cannot be read or written: {error}") from OSError(str(error))
        except sqlite3.DatabaseError as error:
            words = "{}: is not a nightly's history ({}); move it away and a new one is begun"
            raise DataError(words.format(self.path, error)) from error

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is kept, or nothing."""
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def finite(value: Any) -> Any:
    """JSON values with None for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; sqlite3's own `executescript` would end the transaction."""
    lines = [line.split("--")[0] for line in script.splitlines()]
    return (statement for statement in "\n".join(lines).split(";") if statement.strip())
