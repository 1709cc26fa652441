"""Syntax trees of Python code: the names that they use, and a text form that is equal on every Python."""

import ast
from typing import Any, FrozenSet, Iterator, List, Set

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

# Fields that carry no meaning, or that only some versions of Python have.
_IGNORED_FIELDS = ("ctx", "kind", "type_comment", "type_ignores")

# Node types of constants with the field that holds the value. Python 3.8 replaced all others by Constant.
_CONSTANTS = {"Constant": "value", "NameConstant": "value", "Num": "n", "Str": "s", "Bytes": "s"}


def used_names(node: ast.AST, local: FrozenSet[str] = frozenset()) -> Iterator[List[str]]:
    """Yield the names that a tree uses, each followed by its attributes: `a.b.c` as ["a", "b", "c"].

    A string may name a module, so it is yielded too, as ["", text].

    Args:
      node: the tree.
      local: names that are local to the enclosing functions; they are no module-level names and are left out.
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
    if isinstance(text, str):
        yield ["", text]
    inner = local_names(node) if isinstance(node, FUNCTIONS) else frozenset()
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                # Decorators, default values and annotations are evaluated outside the function.
                yield from used_names(child, local | inner if field == "body" else local)


def local_names(function: ast.AST) -> FrozenSet[str]:
    """Return the names that are local to a function: its parameters and the names that it assigns."""
    assigned: Set[str] = set()
    declared_global: Set[str] = set()
    waiting: List[ast.AST] = [function.args, *function.body]  # type: ignore[attr-defined]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.arg):
            assigned.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            assigned.add(node.id)
        elif isinstance(node, ast.Global):
            declared_global.update(node.names)
        elif not isinstance(node, (*DEFINITIONS, ast.Lambda, *_COMPREHENSIONS)):  # these have scopes of their own
            waiting.extend(ast.iter_child_nodes(node))
    return frozenset(assigned - declared_global)


def append_canonical(node: Any, parts: List[str]) -> None:
    """Append the text form of a syntax tree to `parts`, without docstrings.

    Python 3.7 has other node types than 3.8 for constants, and than 3.9 for slices. The text form hides the difference.
    """
    kind = type(node).__name__
    if kind in _CONSTANTS or kind == "Ellipsis":
        value = getattr(node, _CONSTANTS.get(kind, ""), ...)
        parts.append(f"{type(value).__name__} {value!a}")
    elif kind == "Index":
        append_canonical(node.value, parts)
    elif isinstance(node, ast.AST):
        parts.append("Tuple" if kind == "ExtSlice" else kind)
        for field, value in ast.iter_fields(node):
            if field == "body" and isinstance(node, DEFINITIONS) and ast.get_docstring(node, clean=False) is not None:
                value = value[1:]
            if field not in _IGNORED_FIELDS and value is not None and value != []:
                parts.append("elts" if kind == "ExtSlice" else field)
                append_canonical(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        for item in node:
            append_canonical(item, parts)
        parts.append("]")
    else:
        parts.append(ascii(node))
