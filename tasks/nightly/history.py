"""The history of a nightly: one record per night in an SQLite file, with a row for every measured value.

The file uses SQLite's default rollback journal, which also works on shared file systems. If a writer is killed, the next
reader rolls its transaction back. Every change is one transaction, and writers wait for each other. Values that are not
finite numbers are NULL. Opening an older file migrates it to the current schema; a newer file is refused.
"""

import contextlib
import csv
import json
import math
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from fse.errors import DataError, StageError
from tasks.nightly.verdicts import GOOD, REGRESSION

# A night's record as JSON: the content of verdict.json. Its keys are fixed, except through a migration.
Record = Dict[str, Any]


def _doctor_reports_as_list(connection: sqlite3.Connection) -> None:
    """Convert `doctor` from one report, or a message in its place, to a list of reports, one per kind of training."""
    for date, text in connection.execute("SELECT date, record FROM nights").fetchall():
        record = json.loads(text)
        report = record.get("doctor")
        if not isinstance(report, list):
            record["doctor"] = [report] if isinstance(report, dict) and "checks" in report else []
            connection.execute("UPDATE nights SET record = ? WHERE date = ?", (json.dumps(record), date))


def _rename_mend_to_fix(connection: sqlite3.Connection) -> None:
    """Rename the key of the advice in the checks of `fse doctor` as the command's own output did."""
    for date, text in connection.execute("SELECT date, record FROM nights").fetchall():
        record = json.loads(text)
        checks = [check for report in record.get("doctor", []) for check in report["checks"] if "mend" in check]
        for check in checks:
            check["fix"] = check.pop("mend")
        if checks:
            connection.execute("UPDATE nights SET record = ? WHERE date = ?", (json.dumps(record), date))


# Each migration, SQL or a function, upgrades the file to the next version. The file's version (PRAGMA user_version) is the
# number of migrations applied to it.
MIGRATIONS: Tuple[Union[str, Callable[[sqlite3.Connection], None]], ...] = (
    """
    CREATE TABLE nights (
      date TEXT PRIMARY KEY,      -- 2026-11-23
      verdict TEXT NOT NULL,      -- '' until the night has ended
      environment TEXT NOT NULL,  -- fingerprint; only nights with the same fingerprint are compared
      commit_id TEXT NOT NULL,
      record TEXT NOT NULL        -- JSON
    );
    CREATE TABLE measured (
      date TEXT NOT NULL REFERENCES nights ON DELETE CASCADE,
      run TEXT NOT NULL,
      metric TEXT NOT NULL,
      seed INTEGER NOT NULL,
      repeat INTEGER NOT NULL,    -- 1 if the value is from the repeat of the night
      value REAL,
      PRIMARY KEY (date, run, metric, seed, repeat)
    );
    """,
    """
    CREATE TABLE told (           -- notifications
      id INTEGER PRIMARY KEY,
      date TEXT NOT NULL,
      hook TEXT NOT NULL,
      state TEXT NOT NULL,
      time TEXT NOT NULL,
      outcome TEXT NOT NULL       -- '' if it was delivered, otherwise the error
    );
    """,
    _doctor_reports_as_list,
    _rename_mend_to_fix,
)

# How long a writer waits for other writers.
_LOCK_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Notification:
    """An attempt to notify a hook of a new state."""

    date: str  # of the night
    hook: str
    state: str
    time: str
    outcome: str  # '' if it was delivered, otherwise the error


class History:
    """The history of one nightly. The file is created if it does not exist."""

    def __init__(self, path: Path):
        """Open the file and migrate it to the current schema.

        Raises:
          StageError: a newer version of this program wrote the file, or it cannot be written.
          DataError: the file is not a history.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StageError(f"{path.parent}: cannot be written: {error.strerror}") from error
        with self._transaction() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise StageError(
                    f"{path}: written by a newer version of this program (schema {version}, "
                    f"this version supports {len(MIGRATIONS)}); update the program"
                )
            for migration in MIGRATIONS[version:]:
                if callable(migration):
                    migration(connection)
                    continue
                for statement in _statements(migration):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def save(self, record: Record) -> None:
        """Store a night's record, which replaces an earlier record of the same date.

        Args:
          record: JSON with `date`, `verdict`, `fingerprint`, `commit` and `plays`. Each play has `run`, `seed`, `repeat`
            and `metrics`.
        """
        text = json.dumps(replace_nonfinite(record), allow_nan=False)
        row = (record["date"], record["verdict"], record["fingerprint"], record["commit"], text)
        with self._transaction() as connection:
            connection.execute("DELETE FROM measured WHERE date = ?", row[:1])
            connection.execute("INSERT OR REPLACE INTO nights VALUES (?, ?, ?, ?, ?)", row)
            for play in record["plays"]:
                key = (record["date"], play["run"])
                for metric, value in play["metrics"].items():
                    cells = (*key, metric, play["seed"], int(play["repeat"]), replace_nonfinite(value))
                    connection.execute("INSERT INTO measured VALUES (?, ?, ?, ?, ?, ?)", cells)

    def record(self, date: str) -> Optional[Record]:
        """Return the record of a night; None if there is none."""
        return next(iter(self._records("date = ?", date)), None)

    def records(self) -> List[Record]:
        """Return all records, ordered by date."""
        return self._records("1")

    def records_before(self, date: str, verdicts: Iterable[str] = GOOD) -> List[Record]:
        """Return the records of the nights before a date that have one of the verdicts, ordered by date."""
        return [record for record in self._records("date < ?", date) if record["verdict"] in verdicts]

    def last_good(self, date: str) -> Dict[str, str]:
        """Return date and commit of the last good night before a date; empty if there is none."""
        return _date_and_commit(self.records_before(date)[-1:])

    def first_bad(self, date: str) -> Dict[str, str]:
        """Return date and commit of the first regression between the last good night and a date; empty if there is none."""
        since = self.last_good(date).get("date", "")
        regressions = [record for record in self.records_before(date, (REGRESSION,)) if record["date"] > since]
        return _date_and_commit(regressions[:1])

    def past_means(self, environment: str, run: str, metric: str, since: str, date: str) -> List[float]:
        """Return the means of a metric in the good nights of an environment, oldest first.

        Values of a repeat and of the first run count equally. Nights without a value, or with a value that is not a finite
        number, are left out.

        Args:
          environment: fingerprint.
          run: name of the run.
          metric: name of the metric.
          since: first date to include.
          date: first date not to include.
        """
        query = (
            "SELECT AVG(value), COUNT(value) = COUNT(*) FROM measured JOIN nights USING (date) "
            "WHERE environment = ? AND run = ? AND metric = ? AND date >= ? AND date < ? AND verdict IN (?, ?) "
            "GROUP BY date ORDER BY date"
        )
        with self._connection() as connection:
            rows = connection.execute(query, (environment, run, metric, since, date, *GOOD)).fetchall()
        return [float(mean) for mean, all_finite in rows if all_finite]

    def save_notification(self, sent: Notification) -> None:
        """Store a notification."""
        row = (sent.date, sent.hook, sent.state, sent.time, sent.outcome)
        with self._transaction() as connection:
            connection.execute("INSERT INTO told (date, hook, state, time, outcome) VALUES (?, ?, ?, ?, ?)", row)

    def notifications(self, hook: str = "") -> List[Notification]:
        """Return the notifications of a hook, or of all hooks, oldest first."""
        query = "SELECT date, hook, state, time, outcome FROM told WHERE hook = ? OR ? = '' ORDER BY id"
        with self._connection() as connection:
            return [Notification(*row) for row in connection.execute(query, (hook, hook))]

    def write_csv(self, stream: IO[str]) -> None:
        """Write one CSV line per measured value."""
        names = ("date", "verdict", "environment", "commit", "run", "metric", "seed", "repeat", "value")
        query = "SELECT date, verdict, environment, commit_id, run, metric, seed, repeat, value FROM nights "
        with self._connection() as connection:
            rows = connection.execute(query + "JOIN measured USING (date) ORDER BY date, run, metric, repeat, seed")
            csv.writer(stream, lineterminator="\n").writerows([names, *rows])

    def write_jsonl(self, stream: IO[str]) -> None:
        """Write each night's record as one line of JSON."""
        for record in self.records():
            stream.write(json.dumps(record, sort_keys=True) + "\n")

    def _records(self, where: str, *values: str) -> List[Record]:
        with self._connection() as connection:
            rows = connection.execute(f"SELECT record FROM nights WHERE {where} ORDER BY date", values)
            return [json.loads(text) for (text,) in rows]

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(
                sqlite3.connect(self.path, timeout=_LOCK_TIMEOUT_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA foreign_keys = ON")
                yield connection
        except sqlite3.OperationalError as error:
            # An OSError as the cause marks the failure as the machine's: the disk is full, or the file is not writable.
            raise StageError(f"{self.path}: cannot be read or written: {error}") from OSError(str(error))
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.path}: is not a nightly's history ({error}); move it away to start a new history"
            ) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection inside a transaction; commit it at the end of the block, or roll it back on an exception."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def replace_nonfinite(value: Any) -> Any:
    """Return JSON values with None in place of NaN and infinity, which JSON cannot represent."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: replace_nonfinite(item) for name, item in value.items()}
    return [replace_nonfinite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _date_and_commit(records: List[Record]) -> Dict[str, str]:
    """Return date and commit of the only record; empty if there is none."""
    return {name: record[name] for record in records for name in ("date", "commit")}


def _statements(script: str) -> Iterator[str]:
    """Return the statements of an SQL script; sqlite3's `executescript` would commit the transaction first."""
    lines = [line.split("--")[0] for line in script.splitlines()]
    return (statement for statement in "\n".join(lines).split(";") if statement.strip())
