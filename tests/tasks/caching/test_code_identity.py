"""The code that a stage depends on, on a package of small modules and on our own stages."""

from pathlib import Path
from typing import Callable, Dict, Iterator

import pytest

from fse.stages import STAGES
from tasks.caching import code_identity, source_modules

# Writes modules, given as keyword arguments, and returns the digests of what an entry function uses.
WriteAndDigest = Callable[..., Dict[str, str]]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteAndDigest]:
    """A function that writes modules of a package `toy` and returns what `toy.a:run` uses."""
    monkeypatch.setattr(source_modules, "PACKAGES", {"toy": tmp_path / "toy"})

    def digests(entry: str = "toy.a:run", **modules: str) -> Dict[str, str]:
        for name, text in dict({"__init__": ""}, **modules).items():
            path = tmp_path.joinpath("toy", *name.split("__sub__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        code_identity.forget()
        return code_identity.functions(entry)

    yield digests
    monkeypatch.undo()
    code_identity.forget()


def test_only_the_entry_and_the_names_that_it_reaches_count(toy: WriteAndDigest) -> None:
    a = "from toy import b\nimport toy.c as see\nLIMIT = 3\ndef run():\n    return b.step(LIMIT) + see.go\ndef other(): pass\n"
    b = "from toy.c import helper\ndef step(n):\n    return helper(n)\ndef unused(): pass\n"
    c = "def helper(n): return n\ndef idle(): pass\ngo = 4\n"
    assert list(toy(a=a, b=b, c=c)) == ["toy.a.LIMIT", "toy.a.run", "toy.b.step", "toy.c.go", "toy.c.helper"]


def test_comments_docstrings_and_formatting_do_not_count(toy: WriteAndDigest) -> None:
    before = toy(a='"""Doc."""\ndef run(x, y=(1, 2)):\n    return x\nclass A:\n    "doc"\n')
    after = toy(a="# why\n\n\ndef run(x, y = ( 1,2 )):\n  'doc'\n  return (x)  # so\nclass A: pass\n")
    assert before == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return 1", "return 2"),
        ("return 1", "return 1.0"),
        ("return 'a'", "return b'a'"),
        ("return x[1]", "return x[1:]"),
        ("return not x", "return x"),
        ("return [x for x in y]", "return (x for x in y)"),
        ("'doc'\n    return 1", "return 'doc'"),
        ("return True", "return 1"),
        ("return -1", "return 1"),
    ],
)
def test_a_change_of_meaning_counts(toy: WriteAndDigest, before: str, after: str) -> None:
    text = "def run(x, y):\n    {}\n"
    assert toy(a=text.format(before)) != toy(a=text.format(after))


def test_another_import_under_the_same_name_counts(toy: WriteAndDigest) -> None:
    text = "from {} import sqrt\ndef run(x):\n    return sqrt(x)\n"
    assert toy(a=text.format("math")) != toy(a=text.format("numpy"))


def test_a_table_of_functions_counts_with_all_of_them(toy: WriteAndDigest) -> None:
    a = "from toy import b\ndef run(name):\n    return b.find(name)\n"
    b = "def one(): pass\ndef two(): pass\nTABLE = {'one': one, 'two': two}\ndef find(name): return TABLE[name]\n"
    assert set(toy(a=a, b=b)) == {"toy.a.run", "toy.b.find", "toy.b.TABLE", "toy.b.one", "toy.b.two"}


def test_a_table_that_is_filled_on_import_counts(toy: WriteAndDigest) -> None:
    a = "from toy.b import find\nimport toy.c\ndef run(name):\n    return find(name)\n"
    b = "TABLE = {}\ndef register(f):\n    TABLE[f.__name__] = f\n    return f\ndef find(name): return TABLE[name]\n"
    by_decorator = "from toy.b import register\n@register\ndef one(): return 1\n"
    assert {"toy.c", "toy.b.register"} <= set(toy(a=a, b=b, c=by_decorator))
    assert toy(a=a, b=b, c=by_decorator) != toy(a=a, b=b, c=by_decorator.replace("1", "2"))
    by_call = "from toy import b\ndef one(): return 1\nkept = b.register(one)\n"
    assert toy(a=a, b=b, c=by_call) != toy(a=a, b=b, c=by_call.replace("1", "2"))
    by_statement = "from toy import b\nb.TABLE['one'] = lambda: 1\n"
    assert toy(a=a, b=b, c=by_statement) != toy(a=a, b=b, c=by_statement.replace("1", "2"))


def test_modules_named_in_strings_count_with_all_names(toy: WriteAndDigest) -> None:
    a = "import importlib\ndef run(name):\n    return importlib.import_module('toy.devices.' + name)\n"
    modules = {
        "devices__sub____init__": "",
        "devices__sub__cpu": "def f(): pass\n",
        "devices__sub__gpu": "def g(): pass\n",
    }
    assert set(toy(a=a, **modules)) == {"toy.a.run", "toy.devices.cpu.f", "toy.devices.gpu.g"}
    for text in ("'toy.devices.{}'.format(name)", "'toy.devices.%s' % name", "f'toy.devices.{name}'"):
        a = f"import importlib\ndef run(name):\n    return importlib.import_module({text})\n"
        assert set(toy(a=a, **modules)) == {"toy.a.run", "toy.devices.cpu.f", "toy.devices.gpu.g"}
    whole = "import importlib\ndef run():\n    return importlib.import_module('toy.devices.cpu')\n"
    assert set(toy(a=whole)) == {"toy.a.run", "toy.devices.cpu.f"}


def test_a_module_that_is_passed_as_a_value_counts_with_all_names(toy: WriteAndDigest) -> None:
    a = "from toy import b\ndef run(name):\n    return getattr(b, name)()\n"
    used = toy(a=a, b="from toy.c import far\ndef one(): pass\ndef two(): pass\n", c="def far(): pass\n")
    assert set(used) == {"toy.a.run", "toy.b.one", "toy.b.two", "toy.c.far"}


def test_re_exports_and_star_imports_are_followed(toy: WriteAndDigest) -> None:
    a = "from toy import b\ndef run():\n    return b.far() + b.step()\n"
    b = "from toy.c import near as far\nfrom toy.d import *\n"
    used = toy(a=a, b=b, c="def near(): pass\n", d="def step(): pass\ndef idle(): pass\n")
    assert set(used) == {"toy.a.run", "toy.b", "toy.c.near", "toy.d.step"}


def test_relative_imports_and_imports_inside_functions(toy: WriteAndDigest) -> None:
    a = "from . import b\ndef run():\n    from .c import near\n    return b.far() + near()\n"
    assert set(toy(a=a, b="def far(): pass\n", c="def near(): pass\n")) == {"toy.a.run", "toy.b.far", "toy.c.near"}


def test_local_names_are_not_module_names(toy: WriteAndDigest) -> None:
    a = "from toy import b\ndef run(x):\n    return other(x)\ndef other(b):\n    for c in b: yield [d for d in c]\n"
    assert set(toy(a=a, b="def far(): pass\n")) == {"toy.a.other", "toy.a.run"}


def test_statements_that_run_on_import_count(toy: WriteAndDigest) -> None:
    a = "from toy.b import flag\nimport toy.c\ndef run():\n    return flag\n"
    b = "import os\nif os.name == 'posix':\n    flag = 1\nelse:\n    flag = 2\n"
    assert set(toy(a=a, b=b, c="import os\nos.environ['A'] = '1'\n")) >= {"toy.b", "toy.b.flag", "toy.c"}


def test_files_beside_a_module_that_uses_its_path_count(toy: WriteAndDigest, tmp_path: Path) -> None:
    a = "from pathlib import Path\ndef run():\n    return (Path(__file__).parent / 'page.j2').read_text()\n"
    toy(a=a)
    (tmp_path / "toy" / "page.j2").write_text("one")
    before = toy(a=a)
    assert set(before) == {"toy.a.run", "toy/page.j2"}
    (tmp_path / "toy" / "page.j2").write_text("two")
    assert toy(a=a) != before


def test_a_missing_entry_is_an_error(toy: WriteAndDigest) -> None:
    with pytest.raises(LookupError, match="toy.a:walk: no such function"):
        toy("toy.a:walk", a="def run(): pass\n")


def test_digests_are_the_same_on_every_python(toy: WriteAndDigest) -> None:
    """Python 3.7 has other node types than 3.8 for constants, and than 3.9 for slices."""
    a = (
        "import math\n"
        "def run(a, *b, c=None, d: 'int' = -1, **e) -> float:\n"
        "    x = {1: 'é\U0001f600', None: b'\\xff', **e}\n"
        "    y = a[1], a[1:2], a[:, 1], a[..., None], a[1:2, ::3], a[x, y]\n"
        "    z = f'{a!r:>{c}} and {b}' 'so' if a else 1e100 + 2j\n"
        "    try:\n"
        "        assert a, 'no'\n"
        "    except (ValueError, TypeError) as error:\n"
        "        raise error from None\n"
        "    return A, math.pi, lambda q, *, r=1: (yield), [i for i in a if i], not x <= y < z, True, ...\n"
        "class A(dict, metaclass=type):\n"
        "    size: int = 3\n"
    )
    assert toy(a=a) == {"toy.a.A": "79b4be48dd62", "toy.a.run": "e2b60f56f0c5"}


def test_the_code_of_a_stage_is_what_it_uses_and_no_more() -> None:
    used = {verb: code_identity.functions(stage.function) for verb, stage in STAGES.items()}
    train = {
        "fse.training.train.train",
        "fse.training.graph.build_graph",
        "fse.model.losses.alignment",
        "fse.model.network.NETWORKS",
        "fse.tf1",
        "fse.devices.npu.session_config",
    }
    assert train <= set(used["train"])
    assert not [
        name
        for name in used["train"]
        if name.startswith(("fse.preprocessing.align_crop", "fse.report", "fse.inference.export"))
    ]
    assert "fse/report/report.html.j2" in used["report"]
    assert "fse.geometry.fit_similarity" in used["align-crop"]
    assert "fse.geometry.fit_similarity" not in used["convert"]
    assert not [
        name
        for functions in used.values()
        for name in functions
        if name.startswith("fse.runtime.outputs.atomic_output")
    ]


def test_a_new_setting_does_not_change_the_code_of_a_stage() -> None:
    """The values are in the keys of the stages that read them. Only methods of the configuration's classes are code."""
    used = code_identity.functions("fse.preprocessing.align_crop:align_crop")
    assert not [name for name in used if name.startswith("fse.config.schema.C")]


def test_the_table_of_npu_options_does_not_count_as_code() -> None:
    """Their values are in the key of Train."""
    used = code_identity.functions("fse.training.train:train")
    assert "fse.ascend.options.default_precision_mode" in used
    assert not {"fse.ascend.options.OPTIONS", "fse.ascend.options.RULES"} & {*used}


def test_values_of_settings_do_not_count_and_their_methods_do(
    toy: WriteAndDigest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package re-exports the class, as `fse.config` does."""
    monkeypatch.setattr(code_identity, "SETTINGS_MODULE", "toy.config.schema")
    a = "from toy.config import Crop\ndef run(crop: Crop):\n    return crop\n"
    schema = "class Crop:\n    size: int = {}\n    def area(self):\n        return self.size ** {}\n"
    modules = {"a": a, "config__sub____init__": "from toy.config.schema import Crop\n"}
    before = toy(**modules, config__sub__schema=schema.format(80, 2))
    assert list(before) == ["toy.a.run", "toy.config.schema.Crop"]
    assert toy(**modules, config__sub__schema=schema.format(90, 2)) == before
    assert toy(**modules, config__sub__schema=schema.format(80, 3)) != before
