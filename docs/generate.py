"""Pages of the documentation that are made from the code when `mkdocs` runs: settings, commands, API.

MkDocs loads this file as a hook (`mkdocs.yml`).
"""

import argparse
import ast
import dataclasses
from pathlib import Path
from typing import Any, Dict, Iterator, List

import luigi
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import pipeline
from fse import commands as fse_commands
from fse import config as configuration

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fse", "tasks", "pipeline")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "reference/settings.md": settings(),
        "reference/commands.md": commands(),
        "reference/api.md": api_index(),
        "contributing.md": rooted((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")),
        "changelog.md": rooted((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")),
        **api_pages(),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def rooted(text: str) -> str:
    """Return a document of the repository's root with its links to docs/ made relative to docs/."""
    for name in ("CHANGELOG", "CONTRIBUTING"):
        text = text.replace(f"]({name}.md", f"]({name.lower()}.md")
    return text.replace("](docs/", "](")


def cell(value: Any) -> str:
    """Return a value as the text of a table cell."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def literal(value: Any) -> str:
    """Return a setting's value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(literal(entry) for entry in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def permitted(metadata: Dict[str, Any]) -> str:
    """Return a setting's range or choices in words."""
    if metadata["choices"]:
        return ", ".join(f"`{literal(choice)}`" for choice in metadata["choices"])
    low, high = metadata["low"], metadata["high"]
    if low is None and high is None:
        return ""
    return f"at least {low}" if high is None else f"{low} to {high}"


def settings() -> str:
    """Return the page of all settings, section by section."""
    lines = [
        "# Settings",
        "",
        "An experiment is a TOML file with these sections. Settings that it leaves out keep their defaults.",
        "`--set section.key=value,…` overrides the file; values are written as in TOML. An unknown key, a wrong type or a",
        "value out of range stops the program before anything runs.",
        "",
    ]
    for name, kind in configuration.SECTIONS.items():
        lines += [f"## [{name}]", "", (kind.__doc__ or "").strip().split("\n\n")[0].replace("\n", " "), ""]
        lines += ["| setting | default | permitted | meaning |", "|---|---|---|---|"]
        for item in dataclasses.fields(kind):
            row = (
                f"`{item.name}`",
                f"`{literal(item.default)}`",
                permitted(dict(item.metadata)),
                item.metadata["help"],
            )
            lines.append("| " + " | ".join(cell(value) for value in row) + " |")
        lines.append("")
    return "\n".join(lines)


def commands() -> str:
    """Return the page of all Luigi tasks and of the `fse` command."""
    lines = ["# Commands", "", "## luigi --module pipeline TASK", ""]
    lines += ["Each task also takes Luigi's own options (`luigi --help-all`).", ""]
    for name in pipeline.__all__:
        task = getattr(pipeline, name)
        lines += [f"### {name}", "", paragraph(task.__doc__), ""]
        lines += ["| option | default | meaning |", "|---|---|---|"]
        for parameter, details in task.get_params():
            if details.visibility != luigi.parameter.ParameterVisibility.PUBLIC:
                continue
            default = details._default
            shown = "required" if default is luigi.parameter._no_value else f"`{literal(default)}`"
            lines.append(f"| `--{parameter.replace('_', '-')}` | {cell(shown)} | {cell(details.description or '')} |")
        lines.append("")
    lines += ["## fse VERB", ""]
    for verb, parser in verbs(fse_commands.build_parser()):
        lines += [f"### fse {verb}", "", "```text", parser.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def verbs(parser: argparse.ArgumentParser) -> Iterator[Any]:
    """Yield (name, parser) of each verb of the `fse` command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def paragraph(docstring: Any) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join((docstring or "").strip().split("\n\n")[0].split())


def modules(package: str) -> List[str]:
    """Return the dotted names of a package's modules that define something public, in order."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kinds = (ast.FunctionDef, ast.ClassDef)
        if any(isinstance(node, kinds) and not node.name.startswith("_") for node in tree.body):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def groups() -> Dict[str, List[str]]:
    """Return the modules by the package that holds them."""
    found: Dict[str, List[str]] = {}
    for package in PACKAGES:
        for module in modules(package):
            parts = module.split(".")
            inside = (ROOT / Path(*parts)).is_dir()
            found.setdefault(module if inside else ".".join(parts[:-1]) or module, []).append(module)
    return found


def api_index() -> str:
    """Return the list of packages with links to their pages."""
    lines = ["# API", "", "Every public function and class, from its docstring.", ""]
    for package in groups():
        init = ROOT / Path(*package.split(".")) / "__init__.py"
        summary = paragraph(ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))))
        lines.append(f"- [`{package}`](api/{package}.md): {summary}")
    return "\n".join(lines) + "\n"


def api_pages() -> Dict[str, str]:
    """Return a page per package with its modules' docstrings."""
    pages = {}
    for package, listed in groups().items():
        body = "\n\n".join(f"::: {module}" for module in listed)
        pages[f"reference/api/{package}.md"] = f"# {package}\n\n{body}\n"
    return pages
