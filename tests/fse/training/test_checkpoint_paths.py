import json
from pathlib import Path

from fse import config
from fse.training import checkpoint_paths


def test_a_path_resolves_to_the_newest_checkpoint_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "workspace" / "faces" / "stages" / "Train" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("model-9.index", "model-10.index", "model-best.index", "model-9.data-00000-of-00001"):
        (folder / name).write_text("")
    newest = str(folder / "model-10")
    for path in (tmp_path / "workspace" / "faces", folder.parent, folder, folder / "model-10"):
        assert checkpoint_paths.resolve_checkpoint(str(path)) == newest
    assert checkpoint_paths.resolve_checkpoint(str(folder / "model-9")) == str(folder / "model-9")
    assert checkpoint_paths.resolve_checkpoint(str(tmp_path)) is None
    assert [path.name for path in checkpoint_paths.checkpoint_files(str(folder / "model-9"))] == [
        "model-9.data-00000-of-00001",
        "model-9.index",
    ]


def test_init_from_is_a_path_relative_to_the_file_or_a_name_in_the_workspace(tmp_path: Path) -> None:
    for value, expected in (("../other/run", str(tmp_path / "other" / "run")), ("faces", "faces")):
        (tmp_path / "configs").mkdir(exist_ok=True)
        (tmp_path / "configs" / "a.toml").write_text(f"[train]\ninit_from = {json.dumps(value)}")
        assert config.load(tmp_path / "configs" / "a.toml").train.init_from == expected
