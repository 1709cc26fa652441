"""The code that a stage's output depends on: what its function uses of our packages, as syntax trees.

From the entry function it goes to every function, class and module-level name of `PACKAGES` that is named in what was
reached so far. Comments, docstrings and formatting do not count, and the digests are the same on every Python.

Where names do not tell, it takes more rather than less. A module that is handed on as a value or named in a string
(`"fse.devices." + name`) counts whole. Statements that run on import, and module-level calls of our own functions (they
may fill a table), count with their module, and with every module that imports it. Files beside a module that asks for
its own place (templates) count with it.
"""

import ast
import functools
import hashlib
import re
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Set, Tuple

import fse

# Our packages, by name: a change in them is a change of the stages' code.
PACKAGES: Dict[str, Path] = {"fse": Path(fse.__file__).resolve().parent}

# What its classes hold is in the stages' settings; only their methods count as code.
SETTINGS = "fse.config"

# A name (module, name in it); these stand for what runs when the module is imported, and for all names in it.
Place = Tuple[str, str]
_IMPORT = "<import>"
_ALL = "<all>"

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

# A function that uses one of these may use anything of its module.
_LOOKS_AROUND = ("globals", "vars", "eval", "exec")

# Fields of syntax trees that say nothing, or not on every Python.
_UNIMPORTANT = ("ctx", "kind", "type_comment", "type_ignores")
_CONSTANTS = {"Constant": "value", "NameConstant": "value", "Num": "n", "Str": "s", "Bytes": "s"}


class Module(NamedTuple):
    """A parsed module.

    definitions: the statements that define each of its names. imports: the dotted names behind each name that is
    imported anywhere in it. effects: other statements that run when it is imported.
    """

    name: str
    path: Path
    definitions: Dict[str, List[ast.stmt]]
    imports: Dict[str, List[str]]
    effects: List[ast.stmt]


def functions(entry: str) -> Dict[str, str]:
    """Digests of all names of our packages that a function uses, itself included, by dotted name, sorted.

    Args:
      entry: `module:name`.

    Raises:
      LookupError: there is no such function.
    """
    module, name = entry.split(":")
    if _file(module) is None or name not in _module(module).definitions:
        raise LookupError("{}: no such function in {}".format(entry, ", ".join(PACKAGES)))
    digests: Dict[str, str] = {}
    seen: Set[Place] = set()
    waiting = [(module, name)]
    while waiting:
        place = waiting.pop()
        if place not in seen:
            seen.add(place)
            found, used = _examined(*place)
            digests.update(found)
            waiting.extend(used)
    return dict(sorted(digests.items()))


def forget() -> None:
    """Reads files again that may have changed since."""
    for memory in (_file, _module, _examined):
        memory.cache_clear()


@functools.lru_cache(maxsize=None)
def _examined(module: str, name: str) -> Tuple[Dict[str, str], List[Place]]:
    """Digests of what a name stands for, and the names that it uses."""
    source = _module(module)
    if name == _ALL:
        names = {*source.definitions, *source.imports} - {_IMPORT}
        return {}, [(module, _IMPORT), *(place for each in sorted(names) for place in _meant(source, [each]))]
    statements = source.effects if name == _IMPORT else source.definitions[name]
    used = _imported_with(source) if name == _IMPORT else [(module, _IMPORT)]
    if module == SETTINGS:
        statements = [kept for statement in statements for kept in _without_values(statement)]
    if not statements:
        return {}, used
    digests: Dict[str, str] = {}
    parts: List[str] = []
    bindings: Set[str] = set()
    for statement in statements:
        _append_canonical(statement, parts)
        for chain in _chains(statement):
            used += _meant(source, chain)
            bindings.update(f"{chain[0]}={dotted}" for dotted in source.imports.get(chain[0], ()))
            if chain[0] == "__file__":
                digests.update(_files_beside(source.path))
    text = "\n".join([*parts, *sorted(bindings)])
    label = module if name == _IMPORT else f"{module}.{name}"
    digests[label] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return digests, used


def _imported_with(source: Module) -> List[Place]:
    """What else runs when a module is imported: the packages it is in, and all that it imports."""
    dotted = [source.name, *(name for names in source.imports.values() for name in names)]
    parents = {".".join(parts[:n]) for parts in (name.split(".") for name in dotted) for n in range(1, len(parts) + 1)}
    return [(name, _IMPORT) for name in sorted(parents) if _file(name) is not None]


def _meant(source: Module, chain: List[str]) -> List[Place]:
    """What a chain of names in a module stands for in our packages."""
    name, rest = chain[0], chain[1:]
    if not name:
        return _named_in_text(rest[0])
    places = [(source.name, name)] if name in source.definitions else []
    if name in _LOOKS_AROUND:
        places.append((source.name, _ALL))
    for dotted in source.imports.get(name, ()):
        places += _dotted(dotted.split(".") + rest)
    if name not in source.definitions and name not in source.imports:
        for dotted in source.imports.get("*", ()):
            places += _dotted(dotted.split(".") + chain)
    return places


def _dotted(parts: List[str]) -> List[Place]:
    """What `fse.a.b.c` stands for: names of the module fse.a.b, or of all of it where that cannot be told."""
    length = next((n for n in range(len(parts), 0, -1) if _file(".".join(parts[:n])) is not None), 0)
    if not length:
        return []
    source, rest = _module(".".join(parts[:length])), parts[length:]
    if not rest:
        return [(source.name, _ALL)]
    if rest[0] in source.definitions or rest[0] in source.imports or "*" in source.imports:
        return [(source.name, _IMPORT), *_meant(source, rest)]
    return [(source.name, _IMPORT if rest[0].startswith("__") else _ALL)]


def _named_in_text(text: str) -> List[Place]:
    """All names of the module in `fse.a` or `fse.a:function`, or of all modules of the package in `fse.a.`, `fse.a.{}`."""
    match = re.match(r"(\w+(?:\.\w+)+|\w+(?=\.))(?:(\.)(?:[{%].*)?|:\w+)?\Z", text)
    path = _file(match.group(1)) if match else None
    if match is None or path is None:
        return []
    modules = [match.group(1)]
    if match.group(2):
        modules += [f"{match.group(1)}.{file.stem}" for file in sorted(path.parent.glob("*.py"))]
        modules.remove(f"{match.group(1)}.__init__")
    return [(module, _ALL) for module in modules if _file(module) is not None]


def _chains(node: ast.AST, local: FrozenSet[str] = frozenset()) -> Iterator[List[str]]:
    """The names in a tree, each with the attributes that follow it; a string that may name a module as ['', text].

    `local`: names that are a function's own here, and no module-level names.
    """
    attributes: List[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        if node.id not in local:
            yield [node.id, *reversed(attributes)]
        return
    text = getattr(node, _CONSTANTS.get(type(node).__name__, ""), None)
    if isinstance(text, str) and text.split(".")[0] in PACKAGES:
        yield ["", text]
    inside = _own_names(node) if isinstance(node, _FUNCTIONS) else frozenset()
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _chains(child, local | inside if field == "body" else local)


def _own_names(function: ast.AST) -> FrozenSet[str]:
    """Names that are local to a function: its parameters, and what it assigns to."""
    own: Set[str] = set()
    shared: Set[str] = set()
    waiting: List[ast.AST] = [function.args, *function.body]  # type: ignore[attr-defined]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            own.add(node.id)
        elif isinstance(node, ast.Global):
            shared.update(node.names)
        elif not isinstance(node, (*_DEFINITIONS, ast.Lambda, *_COMPREHENSIONS)):  # scopes of their own
            waiting.extend(ast.iter_child_nodes(node))
    return frozenset(own - shared)


def _append_canonical(node: Any, parts: List[str]) -> None:
    """Writes a syntax tree out in the same way on Python 3.7, which has other nodes for some things, and later ones."""
    kind = type(node).__name__
    if kind in _CONSTANTS or kind == "Ellipsis":
        value = getattr(node, _CONSTANTS.get(kind, ""), ...)
        parts.append(f"{type(value).__name__} {ascii(value)}")
    elif kind == "Index":
        _append_canonical(node.value, parts)
    elif isinstance(node, ast.AST):
        parts.append("Tuple" if kind == "ExtSlice" else kind)
        for field, value in ast.iter_fields(node):
            if field == "body" and isinstance(node, _DEFINITIONS) and ast.get_docstring(node, clean=False) is not None:
                value = value[1:]
            if field not in _UNIMPORTANT and value is not None and value != []:
                parts.append("elts" if kind == "ExtSlice" else field)
                _append_canonical(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        for item in node:
            _append_canonical(item, parts)
        parts.append("]")
    else:
        parts.append(ascii(node))


@functools.lru_cache(maxsize=None)
def _module(name: str) -> Module:
    path = _file(name)
    assert path is not None
    tree = ast.parse(path.read_bytes(), str(path))
    module = Module(name, path, {}, {}, [])
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for bound, dotted in _bound(node, package):
                module.imports.setdefault(bound, []).append(dotted)
    named = {node.name for node in tree.body if isinstance(node, _FUNCTIONS)}
    named |= {
        bound for bound, dotted in module.imports.items() if any(name.split(".")[0] in PACKAGES for name in dotted)
    }
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and not isinstance(statement.value, (ast.Call, ast.Await)):
            continue  # a docstring
        for defined in _defined(statement):
            module.definitions.setdefault(defined, []).append(statement)
        if _has_effects(statement, named):
            module.effects.append(statement)
    return module


def _bound(node: Any, package: str) -> Iterator[Tuple[str, str]]:
    """The names that an import binds, and what stands behind them."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
            yield _IMPORT, alias.name  # `import a.b` binds a, and runs a.b as well
        return
    above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
    origin = ".".join([*above, node.module] if node.module else above)
    for alias in node.names:
        yield alias.asname or alias.name, origin if alias.name == "*" else f"{origin}.{alias.name}"


def _defined(statement: ast.stmt) -> Iterator[str]:
    """The module-level names that a statement gives a value."""
    waiting: List[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _DEFINITIONS):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif not isinstance(node, ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def _has_effects(statement: ast.stmt, named: Set[str]) -> bool:
    """Whether a module-level statement may do more than define its names. `named`: functions and imports of ours."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return any(alias.name == "*" for alias in statement.names)
    if isinstance(statement, _DEFINITIONS):
        outside: List[ast.AST] = list(statement.decorator_list)
    elif isinstance(statement, ast.Assign) and all(
        isinstance(node, (ast.Name, ast.Tuple)) for node in statement.targets
    ):
        outside = [statement.value]
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        outside = [statement.value] if statement.value else []
    else:
        return True
    calls = (
        outside
        if isinstance(statement, _DEFINITIONS)
        else [node.func for part in outside for node in ast.walk(part) if isinstance(node, ast.Call)]
    )
    return any(chain[0] in named for call in calls for chain in _chains(call))


def _without_values(statement: ast.stmt) -> List[ast.stmt]:
    """The methods of a class; any other statement as it is."""
    if not isinstance(statement, ast.ClassDef):
        return [statement]
    return [node for node in statement.body if isinstance(node, _FUNCTIONS)]


def _files_beside(path: Path) -> Dict[str, str]:
    """Digests of the files in a module's folder that are not modules, by path within our packages."""
    found = {}
    for file in sorted(path.parent.iterdir()):
        if file.is_file() and file.suffix not in (".py", ".pyc"):
            package = next(folder for folder in PACKAGES.values() if folder in file.parents)
            name = file.relative_to(package.parent).as_posix()
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return found


@functools.lru_cache(maxsize=None)
def _file(name: str) -> Optional[Path]:
    """The file of a module of our packages; None if there is no such module."""
    root, *rest = name.split(".")
    if root not in PACKAGES:
        return None
    path = PACKAGES[root].joinpath(*rest)
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    return path.with_suffix(".py") if rest and path.with_suffix(".py").is_file() else None
