"""What is set for a whole process."""

import os
import platform
import subprocess
import sys

from train.report import machine

# Writes to new arrays of 64 MB, and counts how many pages the operating system had to hand out.
COUNT = """
import resource
import numpy as np
from train.report import machine

if {keep}:
    assert machine.keep_memory()
for turn in range(6):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(keep: bool) -> int:
    command = [sys.executable, "-c", COUNT.format(keep=keep)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_large_arrays_are_not_given_back():
    # The setting is one of glibc's: with another C library there is nothing to be set.
    if platform.libc_ver()[0] == "glibc":
        assert pages(keep=True) < pages(keep=False) / 10
    else:
        assert not machine.keep_memory()


def test_the_commit_is_told_where_there_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    monkeypatch.delenv("CGJAX_COMMIT", raising=False)
    assert machine.commit() == "unknown"
    monkeypatch.setenv("CGJAX_COMMIT", "0123abc")
    assert machine.commit() == "0123abc"
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no git
    assert machine.commit() == "0123abc"


def test_the_commit_of_a_repository_comes_first(tmp_path, monkeypatch):
    (tmp_path / "package" / "part").mkdir(parents=True)
    (tmp_path / "package" / "part" / "file.py").write_text("1")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "figures.json").write_text("1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b")
    for command in ("init -q", "add .", "commit -q -m first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "package" / "part" / "file.py"))
    monkeypatch.setenv("CGJAX_COMMIT", "0123abc")
    found = machine.commit()
    assert len(found) == 40
    (tmp_path / "results" / "figures.json").write_text("2")
    assert machine.commit() == found
    (tmp_path / "package" / "part" / "file.py").write_text("2")
    assert machine.commit() == f"{found} + changes"
