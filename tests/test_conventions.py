"""Conventions that the linter cannot check: sizes, the direction of imports, words."""

import ast
import re
import subprocess
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fse", "tasks", "pipeline")
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 450

# Words that docs/contributing rules out. Written in two parts, so that this file does not contain them.
WORDS = [
    "pic" + "ture",
    "vouch" + "ed",
    "mend" + "ed",
    "nobody" + " has",
    "gone" + " on",
    "replaced" + " code",
    "cannot be" + " meant",
    "arte" + "fact",
    "col" + "our",
    "cent" + "re",
]
# The reference implementations' own words stay where their flags and log lines are served, and former names of settings in
# the table that names the new ones.
EXEMPT = re.compile(
    r"(^|/)compat(/|$)|^(fse|tests/fse)/config/(test_)?renamed\.py$|^requirements/|^README\.zh-CN\.md$|^docs/zh/|^LICENSE$"
)


def sources() -> List[Path]:
    """Return the Python files of the three packages."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def module_name(path: Path) -> str:
    """Return the dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_at_load(tree: ast.Module) -> Iterator[Tuple[str, str]]:
    """Yield (module, name) of every import outside functions."""
    waiting: List[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        waiting.extend(ast.iter_child_nodes(node))


def import_graph() -> Dict[str, Set[str]]:
    """Return the modules that each module of the three packages imports when it is loaded."""
    files = {module_name(path): path for path in sources()}
    graph: Dict[str, Set[str]] = {}
    for name, path in files.items():
        graph[name] = set()
        for module, imported in imports_at_load(ast.parse(path.read_text(encoding="utf-8"))):
            inner = f"{module}.{imported}"
            target = inner if inner in files else module
            if target in files and target != name:
                graph[name].add(target)
    return graph


def packages(graph: Dict[str, Set[str]]) -> Dict[str, Set[str]]:
    """Return the same graph between packages; a module directly in `fse`, `tasks` or `pipeline` stands for itself."""

    def package(name: str) -> str:
        return ".".join(name.split(".")[:2])

    found: Dict[str, Set[str]] = {}
    for name, targets in graph.items():
        others = {package(target) for target in targets if package(target) != package(name)}
        found.setdefault(package(name), set()).update(others)
    return found


def cycle(graph: Dict[str, Set[str]]) -> List[str]:
    """Return the nodes that are part of, or lead to and from, a cycle; empty if there is none."""
    left = {name: set(targets) for name, targets in graph.items()}
    while True:
        leaves = [name for name, targets in left.items() if not targets & set(left)]
        if not leaves:
            return sorted(left)
        for name in leaves:
            del left[name]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            last = max(
                getattr(inner, "end_lineno", inner.lineno) for inner in ast.walk(node) if hasattr(inner, "lineno")
            )
            assert last - start < MAX_FUNCTION_LINES, f"{node.name} has {last - start + 1} lines"


def test_no_import_cycle_between_modules() -> None:
    graph = import_graph()
    graph = {
        name: {target for target in targets if not name.startswith(target + ".")} for name, targets in graph.items()
    }
    assert cycle(graph) == []


def test_no_import_cycle_between_packages() -> None:
    assert cycle(packages(import_graph())) == []


def test_imports_go_one_way() -> None:
    order = {"fse": 0, "tasks": 1, "pipeline": 2}
    for name, targets in import_graph().items():
        for target in targets:
            assert order[target.split(".")[0]] <= order[name.split(".")[0]], f"{name} imports {target}"


def test_words_are_those_of_the_field() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=str(ROOT), stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    pattern = re.compile("|".join(WORDS), re.IGNORECASE)
    found = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if EXEMPT.search(name) or not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{name}:{number}: {line.strip()[:100]}" for number, line in enumerate(lines, 1) if pattern.search(line)
        ]
    assert found == []
