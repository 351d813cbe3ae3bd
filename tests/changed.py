"""The test files that a change touches: `python -m tests.changed` prints them, `make test-changed`
runs them.

Changed is what differs from where the branch left `main`, and what git does not know yet. A test
file is touched if something in it leads to a changed file: a function to what its own lines
mention, not to all that stands beside it, so that `cg.moments` does not lead to all that `cgjax`
imports. A page or a result touches the tests of the documentation; a file that leads to no test,
such as the settings of pytest, touches all of them.
"""

import ast
import pathlib
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("cgjax", "train", "benchmarks", "docs", "tests")
ALL = "tests"
OF_PAGES = ("tests/test_docs.py", "tests/pages.py")

# A module, and what it defines at its top level; "" is what it does when it is imported.
Place = tuple[str, str]


class Module(NamedTuple):
    """A file as parts."""

    path: str
    imported: dict[str, str]  # what a name is bound to by an import: its full name
    parts: dict[str, list[ast.AST]]
    handed_on: list[str]  # its `__all__`


def module(path: str, name: str, text: str) -> Module:
    """Reads a file; `name` is that of its module."""
    tree = ast.parse(text)
    package = name.split(".") if path.endswith("__init__.py") else name.split(".")[:-1]
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.name if alias.asname else alias.name.split(".")[0]
                imported[alias.asname or bound] = bound
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            for alias in node.names:
                full = [*above, *([node.module] if node.module else []), alias.name]
                imported[alias.asname or alias.name] = ".".join(full)
    parts: dict[str, list[ast.AST]] = defaultdict(list, {"": []})
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            parts[node.name].append(node)
            if node.decorator_list:  # which may enter it into a registry
                parts[""].append(node)
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        for defined in names or [""]:
            parts[defined].append(node)
    lists = [node for node in parts.pop("__all__", []) if isinstance(node, ast.Assign)]
    handed_on = [name for node in lists for name in ast.literal_eval(node.value)]
    return Module(path, imported, dict(parts), handed_on)


class Sources:
    """The Python files of a repository, and what leads where."""

    def __init__(self, root: pathlib.Path):
        self.modules: dict[str, Module] = {}
        for package in PACKAGES:
            for path in sorted((root / package).rglob("*.py")):
                inside = path.relative_to(root)
                names = (
                    inside.parts[:-1] if path.stem == "__init__" else inside.with_suffix("").parts
                )
                name = ".".join(names)
                self.modules[name] = module(inside.as_posix(), name, path.read_text())
        self.led_to_by: dict[Place, set[Place]] = defaultdict(set)
        for name, read in self.modules.items():
            mentioned = {part: set(self._mentioned(name, part)) for part in read.parts}
            # What is imported and never mentioned is imported for what it does, as in registries.
            said = set().union(*mentioned.values()) | set(read.handed_on)
            mentioned[""] = mentioned.get("", set()) | {
                full
                for bound, full in read.imported.items()
                if bound not in read.handed_on and not any(s.startswith(full) for s in said)
            }
            for part, full_names in mentioned.items():
                places = set().union(*map(self._places, full_names))
                for place in places | {(name, ""), (name.rpartition(".")[0], "")}:
                    self.led_to_by[place].add((name, part))

    def touched(self, changed: Iterable[str]) -> set[str]:
        """The test files that a change of files touches, or `ALL`."""
        names = {read.path: name for name, read in self.modules.items()}
        touched: set[str] = set()
        for path in changed:
            tests = self._tests(names[path]) if path in names else set()
            if path.startswith(("docs/", "results/")) or path.endswith(".md"):
                tests.update(OF_PAGES)
            touched |= tests or {ALL}
        return {ALL} if ALL in touched else touched

    def _tests(self, name: str) -> set[str]:
        reached = new = {(name, part) for part in self.modules[name].parts}
        while new := set().union(*(self.led_to_by[place] for place in new)) - reached:
            reached = reached | new
        paths = {self.modules[name].path for name, _ in reached}
        return {path for path in paths if pathlib.PurePath(path).name.startswith("test_")}

    def _mentioned(self, name: str, part: str) -> Iterator[str]:
        """Full names of what a part of a module mentions, be it in a string: `-m train.dense`."""
        read = self.modules[name]
        for first, *rest in _names(*read.parts[part]):
            if first in read.imported:
                yield ".".join([read.imported[first], *rest])
            elif first in read.parts:
                yield f"{name}.{first}"
        for node in (inner for top in read.parts[part] for inner in ast.walk(top)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                modules = [w for w in node.value.split() if "." in w and w in self.modules]
                run = (f"{w}.__main__" for w in modules)
                yield from [*modules, *(w for w in run if w in self.modules)]
            elif isinstance(node, ast.JoinedStr):  # f"python -m train.{name}"
                texts = [text.value for text in node.values if isinstance(text, ast.Constant)]
                beginnings = [w for w in " ".join(map(str, texts)).split() if w[:-1] in PACKAGES]
                yield from (n for w in beginnings for n in self.modules if n.startswith(w))

    def _places(self, full: str) -> set[Place]:
        """Where a full name leads: through what packages hand on, to where it is defined."""
        words = full.split(".")
        for count in range(len(words), 0, -1):
            read = self.modules.get(name := ".".join(words[:count]))
            if read is None:
                continue
            if count == len(words):  # the module itself may be handed on as an object
                return {(name, part) for part in read.parts}
            following, *rest = words[count:]
            handed_on = ".".join([read.imported.get(following, ""), *rest])
            if following not in read.parts and following in read.imported and handed_on != full:
                return self._places(handed_on)
            return {(name, following if following in read.parts else "")}
        return set()


def _names(*nodes: ast.AST) -> Iterator[list[str]]:
    """All names, each with the attributes that are taken of it: `cg.nodes.ReLU` as three words."""
    for node in nodes:
        words, inner = [], node
        while isinstance(inner, ast.Attribute):
            words, inner = [inner.attr, *words], inner.value
        if isinstance(inner, ast.Name):
            yield [inner.id, *words]
        else:
            yield from _names(*ast.iter_child_nodes(inner))


def changed(root: pathlib.Path = ROOT) -> list[str]:
    """The files that differ from where the branch left `main`, and those new to git."""

    def git(*command: str) -> list[str]:
        done = subprocess.run(
            ["git", *command], cwd=root, check=True, capture_output=True, text=True
        )
        return done.stdout.splitlines()

    (base,) = git("merge-base", "HEAD", "main")
    return git("diff", "--name-only", base) + git("ls-files", "--others", "--exclude-standard")


if __name__ == "__main__":
    print(*sorted(Sources(ROOT).touched(changed())), sep="\n")
