"""The house stays as CONTRIBUTING describes it: sizes, imports, and one place for each fact."""

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

from cgjax._program import primitives

ROOT = pathlib.Path(__file__).parent.parent
LIBRARY = sorted((ROOT / "cgjax").rglob("*.py"))
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef

# From the ground up: what imports only what stands before it, and itself.
FLOORS = (
    "_static",
    "_module_names",
    "_cache",
    "_modules",
    "_rate",
    "_gaussian",
    "kernels",
    "nodes",
    "_node",
    "_component",
    "_program",
    "_walk",
    "_beliefs",
    "_weight_noise",
    "_procedure",
    "_of_beliefs",
    "inference",
    "_lift",
    "_drawing",
    "_chain_graph",
    "_graph",
    "_functional",
    "_of_modules",
    "weights",
    "layers",
    "metrics",
    "estimators",
)


def name_of(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[FUNCTION]:
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTION))


def body_lines(function: FUNCTION) -> int:
    """The lines of a function after its signature and docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body and body[-1].end_lineno else 0


def imported(path: pathlib.Path) -> Iterator[list[str]]:
    """The names of cgjax that a file imports, in parts, however the import is written."""
    here = list(path.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level] if node.level else []
            module = [*above, *(node.module.split(".") if node.module else [])]
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        yield from (name for name in names if name[0] == "cgjax")


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_files_and_functions_can_be_read_at_a_sitting(path: pathlib.Path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    long = {f.name: n for f in functions(ast.parse(text)) if (n := body_lines(f)) > 60}
    assert long == {}


def test_imports_run_downwards():
    upwards = []
    for path in LIBRARY:
        package = path.relative_to(ROOT / "cgjax").parts[0].removesuffix(".py")
        if package == "__init__":
            continue
        assert package in FLOORS, f"{name_of(path)}: give it a place in FLOORS"
        for name in imported(path):
            used = name[1] if len(name) > 1 else ""
            if used in FLOORS and FLOORS.index(used) > FLOORS.index(package):
                upwards.append(f"{name_of(path)} imports {used}")
    assert upwards == []


def test_packages_keep_their_private_modules_to_themselves():
    """Of a module `cgjax.package._module`, others know what its package shows."""
    crossing = set()
    for path in LIBRARY:
        own = [*path.relative_to(ROOT).parts[:-1]]
        for name in imported(path):
            for k in range(2, len(name)):
                if name[k].startswith("_") and own[:k] != name[:k]:
                    crossing.add((name_of(path), ".".join(name)))
    assert len(crossing) < 10, sorted(crossing)


def test_only_one_package_knows_the_parameters_of_control_flow():
    names = "num_consts|num_carry|cond_nconsts|body_nconsts|cond_jaxpr|body_jaxpr|ft_in|branches"
    known = re.compile(rf"[\"']({names})[\"']|scan_counts")
    reading = {
        name_of(path)
        for path in LIBRARY
        if "_program" not in path.parts and known.search(path.read_text())
    }
    assert reading == set()


def test_what_primitives_are_stands_in_one_table():
    """No other file lists the names of primitives: one word of names is a table of its own."""
    names = {name for listed, _ in primitives._CLASSES for name in listed.split()}
    listing = []
    for path in LIBRARY:
        if "_program" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            words = []
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = node.value.split()
            elif isinstance(node, ast.Tuple | ast.List | ast.Set):
                words = [e.value for e in node.elts if isinstance(e, ast.Constant)]
            elif isinstance(node, ast.Compare):  # with one name after another
                words = [e.value for e in node.comparators if isinstance(e, ast.Constant)]
            elif isinstance(node, ast.BoolOp):
                sides = [e.comparators[0] for e in node.values if isinstance(e, ast.Compare)]
                words = [e.value for e in sides if isinstance(e, ast.Constant)]
            known = [w for w in words if isinstance(w, str) and w in names]
            if len(known) >= 2 and 3 * len(known) > 2 * len(words):
                listing.append(f"{name_of(path)}:{getattr(node, 'lineno', 0)}: {words}")
    assert listing == []


def test_the_map_names_every_folder():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    packages = {p.parent.relative_to(ROOT / "cgjax") for p in LIBRARY if p.name == "__init__.py"}
    missing = [str(p) for p in packages if p.parts and f"{p.name}/" not in text]
    assert missing == []
