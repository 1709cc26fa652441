"""What a stage's output depends on, as a key: settings, code, content of the inputs, and TensorFlow's version."""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any, Dict, Optional

from fse.config import Config, is_remote
from fse.redaction import redact_url
from fse.runtime.versions import tensorflow_version
from fse.training import checkpoint_paths
from tasks.caching import key_cache
from tasks.caching.key_cache import digest_of

# Looking up installed distributions takes milliseconds each, and every key of a TensorFlow stage needs it.
installed_tensorflow = functools.lru_cache(maxsize=None)(tensorflow_version)


@dataclasses.dataclass(frozen=True)
class KeyParts:
    """All that a stage's output depends on."""

    # The stage's verb.
    stage: str
    # Settings by `section.key`.
    settings: Dict[str, Any]
    # Digests of the code by dotted name.
    code: Dict[str, str]
    # Content hashes of the inputs by role; None for an input that does not exist yet.
    inputs: Dict[str, Optional[str]]
    # TensorFlow's version; '' if the stage does not use TensorFlow.
    tensorflow: str

    @property
    def complete(self) -> bool:
        """Whether all inputs exist, so that the key is known."""
        return None not in self.inputs.values()

    def key(self) -> str:
        """Return the key: the name of the output's folder, 16 hexadecimal digits."""
        return digest_of(dataclasses.asdict(self))


def dataset_identity(config: Config, workspace: Path) -> Dict[str, Any]:
    """Return what identifies the data set: its settings, and the content of a local archive or folder.

    Where the files are does not count. A local archive that no longer exists counts with its last known content.
    """
    settings = config.dataset
    if settings.name == "synthetic":
        names = ("name", "train", "test", "size", "seed")
        return {"dataset." + name: getattr(settings, name) for name in names}
    if not settings.archive:
        return _known_dataset_identity(config, workspace)
    sampled_by = ("test_share", "seed") if settings.name == "folder" else ("images",)
    identity = {"dataset." + name: getattr(settings, name) for name in ("name", "annotations", *sampled_by)}
    source = settings.archive
    if settings.sha256:
        identity["dataset.sha256"] = settings.sha256.lower()
    elif is_remote(source):
        # The URL's query may hold a token. The digest tells URLs apart without showing it.
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        identity["dataset.archive"] = f"{redact_url(source)} ({digest})"
    else:
        identity["content of dataset.archive"] = key_cache.CACHE.content_hash(local_path(source), workspace)
    return identity


def _known_dataset_identity(config: Config, workspace: Path) -> Dict[str, Any]:
    """Return what identifies a data set of the registry: its name and part, and the content of its files."""
    from fse.datasets import registry, source

    known = registry.KNOWN[config.dataset.name]
    identity: Dict[str, Any] = {"dataset.name": config.dataset.name}
    identity["dataset.part"] = config.dataset.part or next(iter(known.parts))
    for file in known.files:
        path = source.find_local(file, config.download.data_path)
        if path and (path.is_dir() or not file.hash):
            identity["content of " + file.name] = key_cache.CACHE.content_hash(path, workspace)
        else:
            identity["content of " + file.name] = file.hash or "as downloaded"
    return identity


def checkpoint_identity(init_from: str, workspace: Path) -> str:
    """Return the hash of the checkpoint that a training starts from.

    A checkpoint that no longer exists counts with its last known content; 'missing' if it never existed.
    """
    prefix = checkpoint_paths.resolve_checkpoint(init_from)
    files = list(checkpoint_paths.checkpoint_files(prefix)) if prefix else []
    return key_cache.CACHE.combined_hash(f"checkpoint of {Path(init_from).absolute()}", files, workspace)


def missing_files(config: Config) -> Dict[str, str]:
    """Return the files of a known data set that the user must download and that are missing: advice by path."""
    from fse.datasets import registry, source

    known, settings = registry.KNOWN[config.dataset.name], config.download
    return {
        str(Path(settings.data_path, file.name)): source.manual_instructions(
            [file], settings, known.homepage, known.terms
        )
        for file in source.unavailable_files(known.files, settings)
    }


def local_path(source: str) -> Path:
    """Return the path of a `dataset.archive` that is a local file or folder."""
    return Path(source[len("file://") :] if source.startswith("file://") else source)
