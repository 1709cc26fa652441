"""Why a stage runs: the difference between its key parts now and those of earlier outputs."""

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from fse.errors import FseError
from fse.runtime.manifests import MANIFEST, read_manifest
from tasks.caching.fingerprint import KeyParts

# Changed functions that are named one by one; more are counted.
_MAX_NAMED = 3


def key_parts_of(manifest: Dict[str, Any]) -> KeyParts:
    """Return what the output with this manifest depended on."""
    covers = manifest["covers"]
    return KeyParts(
        stage=manifest["stage"],
        settings=covers.get("settings", {}),
        code=covers.get("code", {}),
        inputs={role: identity.get("content") for role, identity in manifest["inputs"].items()},
        tensorflow=covers.get("tensorflow", ""),
    )


def earlier_manifests(folder: Path) -> List[Dict[str, Any]]:
    """Return the readable manifests of a stage's outputs in `folder`, oldest first."""
    manifests = [readable_manifest(path.parent) for path in folder.glob("*/" + MANIFEST)]
    return sorted(filter(None, manifests), key=lambda manifest: str(manifest["started"]))


def readable_manifest(folder: Path) -> Dict[str, Any]:
    """Return the manifest of an output; empty if it is missing, broken or of another version."""
    try:
        return read_manifest(folder)
    except FseError:
        return {}


def nearest_manifest(parts: KeyParts, manifests: List[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """Return the manifest with the fewest differences from `parts`; of several, the newest."""
    return min(
        reversed(manifests),
        key=lambda manifest: len(list(differences(parts, key_parts_of(manifest)))),
        default=None,
    )


def differences(now: KeyParts, then: KeyParts) -> Iterator[str]:
    """Yield every change from `then` to `now`. Inputs that do not exist yet are left out."""
    for name in sorted({*now.settings, *then.settings}):
        old, new = then.settings.get(name), now.settings.get(name)
        if old != new:
            yield f"{name} {_shorten(old)} → {_shorten(new)}"
    for name in sorted({*now.code, *then.code}):
        if name not in then.code:
            yield f"code of {name} is new"
        elif name not in now.code:
            yield f"code of {name} is no longer used"
        elif now.code[name] != then.code[name]:
            yield f"code of {name} changed"
    if now.tensorflow != then.tensorflow:
        yield "TensorFlow {} → {}".format(then.tensorflow or "none", now.tensorflow or "none")
    for role, content in now.inputs.items():
        if content is not None and content != then.inputs.get(role):
            yield f"output of {role} changed"


def summarize(changes: List[str]) -> str:
    """Return changes in one line; of many changes of code, the first are named and the rest counted."""
    code = sorted(change for change in changes if change.startswith("code of "))
    code.sort(key=lambda change: not change.endswith(" changed"))
    others = [change for change in changes if change not in code]
    if len(code) > _MAX_NAMED:
        code = code[:_MAX_NAMED] + [f"{len(code) - _MAX_NAMED} more code changes"]
    return ", ".join(others + code)


def _shorten(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:12] + "…"
