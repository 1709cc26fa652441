"""Git repositories for tests."""

import subprocess
from pathlib import Path
from typing import List


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder with a test user; return its output."""
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().strip()


def create_repository(folder: Path, values: List[str]) -> List[str]:
    """Create a repository with one commit per value, which is the content of the file `metric`; return the commits."""
    git(folder, "init", "-q")
    commits = []
    for number, value in enumerate(values):
        (folder / "metric").write_text(value)
        (folder / "number").write_text(str(number))
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", f"commit {number}")
        commits.append(git(folder, "rev-parse", "HEAD"))
    return commits
