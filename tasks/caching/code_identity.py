"""The code that a stage's output depends on, as digests of syntax trees.

From the stage's function, the search follows every name to the functions, classes and module-level variables of our
packages that define it. Comments, docstrings and formatting do not count. The digests are the same on every Python.

Where names are ambiguous, the search includes too much rather than too little:

- A module that is passed on as a value, or named in a string (`"fse.devices." + name`), counts with all its names.
- Statements that run on import count with their module, and with every module that imports it. Module-level calls of our
  own functions are such statements, since they may fill a table.
- Files beside a module that uses `__file__` (templates) count with that module.
"""

import ast
import functools
import hashlib
import re
from pathlib import Path
from typing import Dict, List, Set, Tuple

from tasks.caching import source_modules
from tasks.caching.source_modules import ON_IMPORT, Module, file_of, parse
from tasks.caching.syntax import FUNCTIONS, append_canonical, used_names

# The module of the configuration's classes. Their values are among the stages' settings, so only their methods count.
SETTINGS_MODULE = "fse.config.schema"

# A module and a name in it. Two names are special: `ON_IMPORT` stands for the statements that run when the module is
# imported, `_ALL_NAMES` for every name in it.
Place = Tuple[str, str]
_ALL_NAMES = "<all>"

# A function that uses one of these may use any name of its module.
_NAMESPACE_ACCESS = ("globals", "vars", "eval", "exec")


def functions(entry: str) -> Dict[str, str]:
    """Return digests of all names of our packages that a function uses, itself included.

    Args:
      entry: the function, as `module:name`.

    Returns:
      digests of 12 hexadecimal digits by dotted name, sorted by name.

    Raises:
      LookupError: there is no such function.
    """
    module, name = entry.split(":")
    if file_of(module) is None or name not in parse(module).definitions:
        raise LookupError("{}: no such function in {}".format(entry, ", ".join(source_modules.PACKAGES)))
    digests: Dict[str, str] = {}
    seen: Set[Place] = set()
    waiting = [(module, name)]
    while waiting:
        place = waiting.pop()
        if place not in seen:
            seen.add(place)
            place_digests, used = _examine(*place)
            digests.update(place_digests)
            waiting.extend(used)
    return dict(sorted(digests.items()))


def forget() -> None:
    """Drop all that was read, so that changed files are read again."""
    source_modules.forget()
    _examine.cache_clear()


@functools.lru_cache(maxsize=None)
def _examine(module: str, name: str) -> Tuple[Dict[str, str], List[Place]]:
    """Return the digests of a name's definition, and the names that the definition uses."""
    source = parse(module)
    if name == _ALL_NAMES:
        names = {*source.definitions, *source.imports} - {ON_IMPORT}
        return {}, [(module, ON_IMPORT), *(place for each in sorted(names) for place in _resolve(source, [each]))]
    statements = source.effects if name == ON_IMPORT else source.definitions[name]
    used = _imported_with(source) if name == ON_IMPORT else [(module, ON_IMPORT)]
    if module == SETTINGS_MODULE:
        statements = [kept for statement in statements for kept in _without_values(statement)]
    if not statements:
        return {}, used
    digests: Dict[str, str] = {}
    parts: List[str] = []
    bindings: Set[str] = set()
    for statement in statements:
        append_canonical(statement, parts)
        for chain in used_names(statement):
            used += _resolve(source, chain)
            bindings.update(f"{chain[0]}={dotted}" for dotted in source.imports.get(chain[0], ()))
            if chain[0] == "__file__":
                digests.update(_files_beside(source.path))
    text = "\n".join([*parts, *sorted(bindings)])
    label = module if name == ON_IMPORT else f"{module}.{name}"
    digests[label] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return digests, used


def _imported_with(source: Module) -> List[Place]:
    """Return what else runs when a module is imported: its parent packages, and every module that it imports."""
    dotted = [source.name, *(name for names in source.imports.values() for name in names)]
    parents = {".".join(parts[:n]) for parts in (name.split(".") for name in dotted) for n in range(1, len(parts) + 1)}
    return [(name, ON_IMPORT) for name in sorted(parents) if file_of(name) is not None]


def _resolve(source: Module, chain: List[str]) -> List[Place]:
    """Return the places in our packages that a chain of names in a module stands for."""
    name, attributes = chain[0], chain[1:]
    if not name:
        return _resolve_text(attributes[0])
    places = [(source.name, name)] if name in source.definitions else []
    if name in _NAMESPACE_ACCESS:
        places.append((source.name, _ALL_NAMES))
    for dotted in source.imports.get(name, ()):
        places += _resolve_dotted(dotted.split(".") + attributes)
    if name not in source.definitions and name not in source.imports:
        for dotted in source.imports.get("*", ()):
            places += _resolve_dotted(dotted.split(".") + chain)
    return places


def _resolve_dotted(parts: List[str]) -> List[Place]:
    """Return the places that `fse.a.b.c` stands for: names of the module `fse.a.b`, or all its names if `c` is unknown.

    A name that the module imports is followed to where it is defined, so re-exports count by their definition.
    """
    length = next((n for n in range(len(parts), 0, -1) if file_of(".".join(parts[:n])) is not None), 0)
    if not length:
        return []
    source, rest = parse(".".join(parts[:length])), parts[length:]
    if not rest:
        return [(source.name, _ALL_NAMES)]
    if rest[0] in source.definitions or rest[0] in source.imports or "*" in source.imports:
        return [(source.name, ON_IMPORT), *_resolve(source, rest)]
    return [(source.name, ON_IMPORT if rest[0].startswith("__") else _ALL_NAMES)]


def _resolve_text(text: str) -> List[Place]:
    """Return the places that a string may stand for.

    `fse.a` and `fse.a:function` stand for all names of the module `fse.a`. `fse.a.` and `fse.a.{}` stand for all names of
    every module in the package `fse.a`.
    """
    if text.split(".")[0] not in source_modules.PACKAGES:
        return []
    match = re.match(r"(\w+(?:\.\w+)+|\w+(?=\.))(?:(\.)(?:[{%].*)?|:\w+)?\Z", text)
    path = file_of(match.group(1)) if match else None
    if match is None or path is None:
        return []
    modules = [match.group(1)]
    if match.group(2):
        modules += [f"{match.group(1)}.{file.stem}" for file in sorted(path.parent.glob("*.py"))]
        modules.remove(f"{match.group(1)}.__init__")
    return [(module, _ALL_NAMES) for module in modules if file_of(module) is not None]


def _without_values(statement: ast.stmt) -> List[ast.stmt]:
    """Return the methods of a class; any other statement unchanged."""
    if not isinstance(statement, ast.ClassDef):
        return [statement]
    return [node for node in statement.body if isinstance(node, FUNCTIONS)]


def _files_beside(path: Path) -> Dict[str, str]:
    """Return digests of the files in a module's folder that are not modules, by path within our packages."""
    digests = {}
    for file in sorted(path.parent.iterdir()):
        if file.is_file() and file.suffix not in (".py", ".pyc"):
            package = next(folder for folder in source_modules.PACKAGES.values() if folder in file.parents)
            name = file.relative_to(package.parent).as_posix()
            digests[name] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return digests
