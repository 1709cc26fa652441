"""The received part of an unfinished download, from which a later attempt resumes."""

import json
from pathlib import Path
from typing import Any, Dict, Optional


class PartialFile:
    """`STEM.part`, the bytes received so far, and `STEM.json`, the metadata of the response that they belong to.

    The metadata has `url`, redacted; `total`, the full length in bytes or null; and `validator`, the ETag or
    Last-Modified header by which the server recognizes this version of the file, or ''. Bytes and metadata always belong
    to the same response, because `restart` deletes the bytes before it writes other metadata.
    """

    def __init__(self, stem: Path) -> None:
        self.path = stem.with_suffix(".part")
        self._metadata_path = stem.with_suffix(".json")

    @property
    def size(self) -> int:
        """Number of bytes received so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def total(self) -> Optional[int]:
        """Full length in bytes; None if the server has not sent it."""
        total: Optional[int] = self.metadata.get("total")
        return total

    @property
    def validator(self) -> str:
        """The server's ETag or Last-Modified value; '' if there is none, so that the download cannot be resumed."""
        validator: str = self.metadata.get("validator", "")
        return validator

    @property
    def metadata(self) -> Dict[str, Any]:
        """Metadata of the response that the bytes belong to; empty if there is none."""
        try:
            metadata = json.loads(self._metadata_path.read_text())
        except (OSError, ValueError):
            return {}
        return metadata if isinstance(metadata, dict) else {}

    def restart(self, metadata: Dict[str, Any]) -> None:
        """Delete the bytes and write the metadata of those that will follow."""
        if self.path.exists():
            self.path.unlink()
        self._metadata_path.write_text(json.dumps(metadata))

    def publish(self, path: Path) -> None:
        """Move the complete bytes to `path` and delete the metadata."""
        self.path.replace(path)
        self._metadata_path.unlink()

    def status(self) -> str:
        """Return how much was received and what the next run will do, for the end of an error message."""
        size, total = self.size, self.total
        if not size:
            return "nothing was received; run again"
        received = f"{size:,} of {total:,} bytes" if total else f"{size:,} bytes"
        if self.validator:
            return f"{received} were received and are kept; run again to resume the download"
        return f"{received} were received, but the server does not support resuming; the next run starts over"
