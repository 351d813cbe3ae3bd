"""Which test files a change touches, in a made-up repository."""

import subprocess

import pytest

from tests.changed import ALL, Sources, changed

FILES = {
    "cgjax/__init__.py": """
        from cgjax import nodes
        from cgjax._core import means, samples
        from cgjax import _rules as _  # for what it does

        __all__ = ["means", "nodes", "samples"]
        """,
    "cgjax/_core.py": """
        from cgjax import _walk
        from cgjax._counts import count

        def means(f):
            return _walk.walk(f)

        def samples(f):
            return count(f)
        """,
    "cgjax/_walk.py": "def walk(f):\n    return RULES[f]\n\nRULES = {}",
    "cgjax/_counts.py": "def count(f):\n    return _one() * 2\n\ndef _one():\n    return 1",
    "cgjax/_rules.py": """
        from cgjax._walk import RULES
        from cgjax import _tangent

        RULES["a"] = _tangent.slope
        """,
    "cgjax/_tangent.py": "slope = 1",
    "cgjax/_alone.py": "",
    "cgjax/nodes/__init__.py": "from ._spin import Spin\n\n__all__ = ['Spin']",
    "cgjax/nodes/_spin.py": "class Spin: ...",
    "train/__init__.py": "",
    "train/dense/__init__.py": "",
    "train/dense/__main__.py": "run('train.dense.experiment')",
    "train/dense/experiment.py": "import cgjax as cg\n\nSPIN = cg.nodes.Spin()",
    "train/engine/sweep.py": "import cgjax",
    "tests/__init__.py": "",
    "tests/helpers.py": "import cgjax as cg\n\nnet = lambda x: cg.samples(x)",
    "tests/test_means.py": "import cgjax as cg\n\ndef test_it():\n    assert cg.means('a')",
    "tests/test_samples.py": "from tests.helpers import net\n\ndef test_it():\n    assert net(1)",
    "tests/test_command.py": "COMMAND = 'python -m train.dense'",
    "tests/test_commands.py": "name = 'sweep'\nCOMMAND = f'python -m train.{name}'",
    "tests/test_docs.py": "",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").splitlines()
        blank = min((len(line) - len(line.lstrip()) for line in lines if line), default=0)
        path.write_text("\n".join(line[blank:] for line in lines))
    return root


@pytest.mark.parametrize(
    "path, expected",
    {
        "tests/test_means.py": "means",
        "tests/helpers.py": "samples",
        # Each test is led to by the names that it uses, not by all that a package imports.
        "cgjax/_counts.py": "samples",
        "cgjax/nodes/_spin.py": "command commands",
        "train/dense/experiment.py": "command commands",
        "train/engine/sweep.py": "commands",
        # What is imported for what it does leads on from all that uses the package.
        "cgjax/_rules.py": "command commands means samples",
        "cgjax/_tangent.py": "command commands means samples",
        # By `means`, and by the rules.
        "cgjax/_walk.py": "command commands means samples",
        "README.md": "docs",
        "results/dense.json": "docs",
    }.items(),
)
def test_a_change_touches_what_leads_to_it(repository, path, expected):
    touched = {f"tests/test_{name}.py" for name in expected.split()}
    touched |= {"tests/pages.py"} if expected == "docs" else set()
    assert Sources(repository).touched([path]) == touched


@pytest.mark.parametrize("path", ["pyproject.toml", "tests/conftest.py", "cgjax/_alone.py"])
def test_what_leads_to_no_test_touches_all(repository, path):
    assert Sources(repository).touched([path, "README.md"]) == {ALL}


def test_what_differs_from_main_and_what_is_new_is_changed(tmp_path):
    def git(command):
        # Nobody's settings: neither a name nor what they have git do at a commit.
        settings = "-c user.name=a -c user.email=b -c commit.gpgsign=false -c core.hooksPath="
        command = ["git", *settings.split(), *command.split()]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    def write(name, text=""):
        (tmp_path / name).write_text(text)

    git("init -b main")
    for name in ("same", "committed", "edited", "elsewhere", ".gitignore"):
        write(name, "ignored" if name == ".gitignore" else "")
    git("add .")
    git("commit -m begin")
    git("checkout -b branch")
    write("committed", "more")
    git("commit -am more")
    git("checkout main")
    write("elsewhere", "more")
    git("commit -am elsewhere")
    git("checkout branch")
    write("edited", "more")
    write("new")
    write("ignored")
    assert sorted(changed(tmp_path)) == ["committed", "edited", "new"]
