"""The modules of our packages as parsed sources: what each defines, imports and runs when it is imported."""

import ast
import dataclasses
import functools
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

import fse
from tasks.caching.syntax import DEFINITIONS, FUNCTIONS, used_names

# Packages whose code is the stages' code, by name, with their folders.
PACKAGES: Dict[str, Path] = {"fse": Path(fse.__file__).resolve().parent}

# Stands among the names of `Module.imports` for modules that are imported without binding their full name.
ON_IMPORT = "<import>"


@dataclasses.dataclass(frozen=True)
class Module:
    """A parsed module."""

    # Its dotted name.
    name: str
    # Its file.
    path: Path
    # The statements that define each module-level name.
    definitions: Dict[str, List[ast.stmt]]
    # The dotted names behind each name that is imported anywhere in the module. "*" and `ON_IMPORT` are keys too.
    imports: Dict[str, List[str]]
    # The statements that do more on import than define names.
    effects: List[ast.stmt]


@functools.lru_cache(maxsize=None)
def file_of(name: str) -> Optional[Path]:
    """Return the file of a module of our packages; None if there is no such module."""
    root, *rest = name.split(".")
    if root not in PACKAGES:
        return None
    path = PACKAGES[root].joinpath(*rest)
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    return path.with_suffix(".py") if rest and path.with_suffix(".py").is_file() else None


@functools.lru_cache(maxsize=None)
def parse(name: str) -> Module:
    """Return the parsed module of a dotted name; `file_of` must know the name."""
    path = file_of(name)
    assert path is not None
    tree = ast.parse(path.read_bytes(), str(path))
    module = Module(name, path, {}, {}, [])
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for bound, dotted in _bindings(node, package):
                module.imports.setdefault(bound, []).append(dotted)
    own_callables = {node.name for node in tree.body if isinstance(node, FUNCTIONS)}
    own_callables |= {
        bound for bound, dotted in module.imports.items() if any(name.split(".")[0] in PACKAGES for name in dotted)
    }
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and not isinstance(statement.value, (ast.Call, ast.Await)):
            continue  # a docstring
        for defined in _defined_names(statement):
            module.definitions.setdefault(defined, []).append(statement)
        if _has_effects(statement, own_callables):
            module.effects.append(statement)
    return module


def forget() -> None:
    """Drop all parsed modules, so that changed files are read again."""
    file_of.cache_clear()
    parse.cache_clear()


def _bindings(node: Any, package: str) -> Iterator[Tuple[str, str]]:
    """Yield the names that an import statement binds, with the dotted names that they stand for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
            yield ON_IMPORT, alias.name  # `import a.b` binds a, and runs a.b as well
        return
    above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
    origin = ".".join([*above, node.module] if node.module else above)
    for alias in node.names:
        yield alias.asname or alias.name, origin if alias.name == "*" else f"{origin}.{alias.name}"


def _defined_names(statement: ast.stmt) -> Iterator[str]:
    """Yield the module-level names that a statement defines."""
    waiting: List[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, DEFINITIONS):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif not isinstance(node, ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def _has_effects(statement: ast.stmt, own_callables: Set[str]) -> bool:
    """Return whether a module-level statement may do more than define its names.

    Args:
      statement: the statement.
      own_callables: the module's functions, and the names that it imports from our packages. A call of one may have
        effects, for example fill a table. Calls of other libraries count as definitions.
    """
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return any(alias.name == "*" for alias in statement.names)
    if isinstance(statement, DEFINITIONS):
        return _uses_any(list(statement.decorator_list), own_callables)
    if isinstance(statement, ast.Assign) and all(isinstance(node, (ast.Name, ast.Tuple)) for node in statement.targets):
        return _uses_any(_called(statement.value), own_callables)
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return _uses_any(_called(statement.value), own_callables)
    return True


def _called(value: Optional[ast.AST]) -> List[ast.AST]:
    """Return the callables of all calls in an expression."""
    return [node.func for node in ast.walk(value) if isinstance(node, ast.Call)] if value else []


def _uses_any(nodes: List[ast.AST], names: Set[str]) -> bool:
    return any(chain[0] in names for node in nodes for chain in used_names(node))
