"""What `pip install .` gives: one typed package, few requirements, a quiet import. A release
installs where nothing else is."""

import ast
import email.parser
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import jax
import pytest

import cgjax

ROOT = pathlib.Path(__file__).parent.parent
REQUIREMENTS = {"jax", "flax", "optax", "chex", "jaxtyping"}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """The wheel and the sources as they are released, built without isolation so that no network is
    needed."""
    folder = tmp_path_factory.mktemp("release")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    ((wheel,), (sdist,)) = (list(folder.glob(kind)) for kind in ("*.whl", "*.tar.gz"))
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="module")
def wheel(release: dict[str, pathlib.Path]) -> pathlib.Path:
    return release["wheel"]


@pytest.fixture(scope="module")
def installed(wheel: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the unpacked wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_python(code: str, installed: pathlib.Path, **environment: str) -> str:
    """Run `code` in a new interpreter that finds `cgjax` in `installed`; return what it prints."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=installed,
        env=os.environ | {"PYTHONPATH": str(installed)} | environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys, cgjax
assert pathlib.Path(cgjax.__file__).is_relative_to(pathlib.Path.cwd()), cgjax.__file__
for module in pkgutil.walk_packages(cgjax.__path__, "cgjax."):
    importlib.import_module(module.name)
"""


def test_wheel_holds_the_typed_package_only(wheel: pathlib.Path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"cgjax"}
    assert "cgjax/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "cgjax").rglob("*.py")
        if not any(part.startswith(".") for part in path.parts)
    }
    assert sources <= set(names)


def test_wheel_requires_five_packages(wheel: pathlib.Path):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.parser.Parser().parsestr(archive.read(path).decode())
    requirements = metadata.get_all("Requires-Dist") or []
    core = {requirement_name(text) for text in requirements if "extra ==" not in text}
    assert core == REQUIREMENTS
    assert set(metadata.get_all("Provides-Extra") or []) == {
        "estimators",
        "train",
        "test",
        "zoo",
        "docs",
        "tutorials",
    }


def test_import_touches_no_device(installed: pathlib.Path):
    # A platform that does not exist makes the first use of a device an error.
    ask = "from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    assert run_python(IMPORT_ALL + ask, installed, JAX_PLATFORMS="nonexistent") == "False"


def test_import_needs_the_requirements_only(installed: pathlib.Path):
    """Every other installed package is hidden, and the whole library still imports."""
    allowed = distributions_behind(REQUIREMENTS)
    hidden = {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not any(normalised(owner) in allowed for owner in owners)
    } - {"cgjax"}
    # The check bites only while something is hidden.
    assert {"pytest", "beartype"} <= hidden
    hide = f"""
import importlib.machinery, sys
class Visible(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {hidden!r} else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Visible
"""
    run_python(hide + IMPORT_ALL, installed)


def test_modules_import_nothing_undeclared():
    """At module level: the standard library, the requirements, and what JAX itself requires."""
    brought = {"numpy", "opt_einsum"}
    allowed = REQUIREMENTS | {"cgjax"} | brought | set(sys.stdlib_module_names)
    wrong = []
    for path in sorted((ROOT / "cgjax").rglob("*.py")):
        for statement in ast.parse(path.read_text()).body:
            if isinstance(statement, ast.Import):
                modules = [alias.name for alias in statement.names]
            elif isinstance(statement, ast.ImportFrom) and statement.level == 0:
                modules = [statement.module or ""]
            else:
                continue
            names = {name.split(".")[0] for name in modules}
            wrong += [f"{path.name}: {name}" for name in names - allowed]
    assert not wrong


BUILDING = "hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"
USE = """
import importlib.metadata, pathlib, sys, cgjax, jax.numpy as jnp
assert pathlib.Path(cgjax.__file__).is_relative_to(sys.prefix), cgjax.__file__
assert importlib.metadata.version("cgjax") == cgjax.__version__
belief = cgjax.moments(jnp.tanh)(cgjax.Belief(jnp.zeros(()), jnp.ones(())))
print(cgjax.__version__, round(float(belief.variance), 3))
"""


@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_a_release_installs_into_a_fresh_environment(
    version: str, release: dict[str, pathlib.Path], tmp_path: pathlib.Path
):
    """The wheel and the sources, without an index; what they need comes from where tests run."""
    names = [version, version, f"python{version}", "python3"]
    found = subprocess.run(
        [ROOT / ".ci" / "find-python", *names], capture_output=True, text=True, check=False
    )
    if found.returncode:
        # The other version is tried: a machine needs one supported Python only.
        pytest.skip(f"the release is tried with Python {version}, which is not on this machine")
    sites = {
        kind: installed_alone(path, found.stdout.strip(), tmp_path / kind)
        for kind, path in release.items()
    }
    assert contents(sites["wheel"]) == contents(sites["sdist"])
    packages = with_requirements(version)
    if packages is None:
        # Nothing to import it with: it is at least of this Python's grammar.
        code = "import compileall; assert compileall.compile_dir('cgjax', quiet=1)"
        expected = ""
    else:
        (sites["wheel"] / "requirements.pth").write_text(str(packages))
        code, expected = USE, f"{cgjax.__version__} 0.394"
    # The options of the compiler that tests have are the oldest version's, unknown to the newest.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    ran = subprocess.run(
        [tmp_path / "wheel" / "bin" / "python", "-W", "error", "-c", code],
        cwd=sites["wheel"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, expected), ran.stderr


def installed_alone(path: pathlib.Path, python: str, folder: pathlib.Path) -> pathlib.Path:
    """The folder of packages of a new environment, with what a wheel or sources install there."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
    installed = subprocess.run(
        [*pip, "--no-deps", "--no-index", "--no-build-isolation", "--no-compile", path],
        env=os.environ | {"PYTHONPATH": str(what_builds(folder / "building"))},
        capture_output=True,
        text=True,
    )
    assert installed.returncode == 0, installed.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    return site


def contents(site: pathlib.Path) -> dict[str, bytes]:
    """The files of the package."""
    files = (path for path in (site / "cgjax").rglob("*") if path.is_file())
    return {str(path.relative_to(site)): path.read_bytes() for path in files}


def what_builds(folder: pathlib.Path) -> pathlib.Path:
    """A folder that shows what builds the sources, and no other package of this environment."""
    folder.mkdir()
    for name in BUILDING:
        packages = importlib.metadata.distribution(name).locate_file("")
        for part in {file.parts[0] for file in importlib.metadata.files(name) or []} - {".."}:
            (folder / part).symlink_to(str(packages / part))
    return folder


def with_requirements(version: str) -> pathlib.Path | None:
    """The packages of an environment of a version of Python that has JAX, if there is one."""
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version == running:
        return pathlib.Path(jax.__file__).parent.parent
    newest = list(ROOT.glob(f".venv-newest/lib/python{version}/site-packages/jax"))
    return newest[0].parent if newest else None


def test_constraints_pin_versions_and_nothing_else():
    pin = re.compile(r'[a-z0-9-]+==[0-9a-z.+!]+(; python_version (<|>=) "3\.1[0-9]")?')
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#") and not pin.fullmatch(line)] == []


def requirement_name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return normalised(match.group())


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions_behind(names: set[str]) -> set[str]:
    """The installed distributions that `names` need, directly or not, themselves included."""
    found: set[str] = set()
    queue = list(names)
    while queue:
        name = normalised(queue.pop())
        if name in found:
            continue
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on another platform or Python
        found.add(name)
        # An extra of a requirement may be asked for (fsspec[http]); following all of them only
        # hides less.
        queue += [requirement_name(text) for text in requirements if "extra ==" not in text]
    return found
