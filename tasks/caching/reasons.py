"""Why a stage runs, in words: what it depends on now, compared with what earlier outputs depended on."""

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from fse.errors import FseError
from fse.runtime import outputs

# Changed functions that are named one by one.
_NAMED = 3


class Parts(NamedTuple):
    """What a stage's output depends on.

    settings: values by `section.key`. code: digests by function. inputs: content hashes by stage; None of one that is to
    be made first. tensorflow: its version; '' if it computes nothing.
    """

    stage: str
    settings: Dict[str, Any]
    code: Dict[str, str]
    inputs: Dict[str, Optional[str]]
    tensorflow: str


def of_manifest(made: Dict[str, Any]) -> Parts:
    """What the output with this manifest depended on."""
    covers = made["covers"]
    inputs = {stage: identity.get("content") for stage, identity in made["inputs"].items()}
    return Parts(
        made["stage"],
        covers.get("settings", {}),
        covers.get("code", {}),
        inputs,
        covers.get("tensorflow", ""),
    )


def made_before(folder: Path) -> List[Dict[str, Any]]:
    """Manifests of a stage's outputs in `folder` that can be read, oldest first."""
    found = [read(path.parent) for path in folder.glob("*/" + outputs.MANIFEST)]
    return sorted(filter(None, found), key=lambda made: str(made["started"]))


def read(folder: Path) -> Dict[str, Any]:
    """The manifest of an output; empty if there is none of this version that can be read."""
    try:
        return outputs.read_manifest(folder)
    except FseError:
        return {}


def nearest(parts: Parts, made: List[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """The manifest that differs from `parts` in the fewest things; the newest of several."""
    return min(reversed(made), key=lambda manifest: len(list(differences(parts, of_manifest(manifest)))), default=None)


def differences(now: Parts, then: Parts) -> Iterator[str]:
    """What changed, one thing at a time. Inputs that are not made yet are left out."""
    for name in sorted({*now.settings, *then.settings}):
        old, new = then.settings.get(name), now.settings.get(name)
        if old != new:
            yield f"{name} {_value(old)} → {_value(new)}"
    for name in sorted({*now.code, *then.code}):
        if name not in then.code:
            yield f"code of {name} is new"
        elif name not in now.code:
            yield f"code of {name} is used no more"
        elif now.code[name] != then.code[name]:
            yield f"code of {name} changed"
    if now.tensorflow != then.tensorflow:
        yield "TensorFlow {} → {}".format(then.tensorflow or "none", now.tensorflow or "none")
    for stage, content in now.inputs.items():
        if content is not None and content != then.inputs.get(stage):
            yield f"output of {stage} changed"


def in_words(changes: List[str]) -> str:
    """Changes in one line; many changes of code are counted."""
    code = sorted(change for change in changes if change.startswith("code of "))
    code.sort(key=lambda change: not change.endswith(" changed"))
    rest = [change for change in changes if change not in code]
    if len(code) > _NAMED:
        code = code[:_NAMED] + [f"{len(code) - _NAMED} more of its functions"]
    return ", ".join(rest + code)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:12] + "…"
