"""The chain graph as data, and its drawing."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from cgjax._chain_graph import Parent
from cgjax._drawing.drawing import drawing
from cgjax._drawing.layers import Box, Line


def parents(graph, name):
    return [(p.name, p.through_time) for p in graph[name].parents]


def two_branches(image, shift):
    pixels = cg.observe(image, name="pixels")
    stem = cg.node(cg.nodes.ReLU(), 2 * pixels, name="stem")
    left = cg.node(cg.nodes.Spin(), stem, name="left")
    right = stem
    with cg.scope("deep"):
        for k in range(2):
            right = cg.node(cg.nodes.LeakyReLU(0.1), right, name=f"layer{k}")
    right = right * cg.noise(cg.nodes.BernoulliMask(), jnp.full(4, 0.5), name="dropout")
    merged = cg.node(cg.nodes.Spin(), left + right + shift, name="merged")
    label = cg.node(cg.nodes.Categorical(), merged, name="label")
    return {"label": label, "score": merged.sum() + left.sum()}


def recurrent(xs):
    def cell(state, x):
        lower = cg.node(cg.nodes.Spin(), x + state[0], name="lower")
        upper = cg.node(cg.nodes.Spin(), lower + state[1], name="upper")
        return (lower, upper), cg.node(cg.nodes.Categorical(), upper, name="output")

    start = cg.node(cg.nodes.Bernoulli(), xs[0], name="start")
    return jax.lax.scan(cell, (start, jnp.zeros(4)), xs)[1]


def graph_of_branches():
    return cg.chain_graph(two_branches)(jnp.full(4, 0.5), jnp.ones(4))


def test_components_families_shapes_and_parents():
    graph = graph_of_branches()
    assert [c.name for c in graph] == [
        *("pixels", "stem", "left", "deep/layer0", "deep/layer1", "dropout", "merged", "label")
    ]
    assert parents(graph, "pixels") == [("image", False)]
    assert parents(graph, "left") == parents(graph, "deep/layer0") == [("stem", False)]
    assert parents(graph, "dropout") == []
    assert [n for n, _ in parents(graph, "merged")] == ["shift", "left", "deep/layer1", "dropout"]
    assert isinstance(graph["stem"].family, cg.nodes.ReLU)
    assert graph["deep/layer0"].family == cg.nodes.LeakyReLU(0.1)
    assert graph["merged"].shape == (4,)
    assert [c.kind for c in graph if c.kind != "node"] == ["observe", "noise"]
    assert [c.name for c in graph if c.output] == ["label"]
    assert [(r.name, r.shape, [p.name for p in r.parents]) for r in graph.results] == [
        ("result['label']", (4,), ["label"]),
        ("result['score']", (), ["left", "merged"]),
    ]
    assert [(i.name, i.shapes) for i in graph.inputs] == [("image", ((4,),)), ("shift", ((4,),))]
    with pytest.raises(KeyError, match="no component 'nothing'. Its components: 'pixels', 'stem'"):
        graph["nothing"]


def test_a_shared_function_is_shown_for_each_use():
    @jax.jit
    def block(x):
        with cg.scope("block"):
            return cg.node(cg.nodes.Spin(), x, name="inner")

    def net(x):
        with cg.scope("first"):
            y = block(x)
        with cg.scope("second"):
            return block(y) + y

    graph = cg.chain_graph(net)(jnp.ones(2))
    assert [c.name for c in graph] == ["first/block/inner", "second/block/inner"]
    assert parents(graph, "second/block/inner") == [("first/block/inner", False)]
    assert [p.name for p in graph.results[0].parents] == ["first/block/inner", "second/block/inner"]


def test_a_recurrent_component_is_shown_once_with_its_edge_through_time():
    graph = cg.chain_graph(recurrent)(jnp.ones((5, 4)))
    assert [c.name for c in graph] == ["start", "lower", "upper", "output"]
    assert parents(graph, "lower") == [("xs", False), ("start", False), ("lower", True)]
    assert parents(graph, "upper") == [("lower", False), ("upper", True)]
    assert (graph["lower"].shape, graph["lower"].lengths) == ((4,), (5,))
    assert graph["output"].output and graph.results[0].shape == (5, 4)


def test_nodes_that_a_loop_hands_on_have_no_edges_through_time():
    def net(x):
        first = cg.node(cg.nodes.Spin(), x, name="first")
        second = cg.node(cg.nodes.Spin(), x, name="second")

        def cell(carry, _):
            now, later, h = carry
            return (later, now, cg.node(cg.nodes.Spin(), now + h, name="inner")), None

        return jax.lax.scan(cell, (first, second, jnp.zeros(2)), length=3)[0][2]

    graph = cg.chain_graph(net)(jnp.ones(2))
    assert parents(graph, "inner") == [("first", False), ("second", False), ("inner", True)]


def test_while_loops_and_branches():
    def net(x):
        def body(state):
            k, h = state
            return k + 1, cg.node(cg.nodes.Spin(), h, name="looping")

        _, h = jax.lax.while_loop(lambda s: s[0] < 3, body, (0, x))
        yes = lambda h: cg.node(cg.nodes.Bernoulli(), h, name="yes")  # noqa: E731
        return jax.lax.cond(h.sum() > 0, yes, lambda h: h, h)

    graph = cg.chain_graph(net)(jnp.ones(2))
    assert parents(graph, "looping") == [("x", False), ("looping", True)]
    assert [p.name for p in graph["yes"].parents] == ["x", "looping"]


def test_shapes_alone_do():
    known = cg.chain_graph(recurrent)(jnp.ones((5, 4)))
    assert cg.chain_graph(recurrent)(jax.ShapeDtypeStruct((5, 4), jnp.float32)) == known
    seen = []

    @jax.jit
    def inside(xs):
        seen.append(cg.chain_graph(recurrent)(xs))
        return xs

    inside(jnp.ones((5, 4)))
    assert seen == [known]


def test_arguments_by_name_and_as_trees():
    def net(weights, x, *more, scale=1.0):
        h = cg.node(cg.nodes.Spin(), weights["a"] @ x * scale, name="h")
        return cg.node(cg.nodes.Spin(), h @ weights["b"] + more[0], name="y")

    tree = {"a": jnp.ones((2, 3)), "b": jnp.ones((2, 2))}
    graph = cg.chain_graph(net, parameters=())(tree, jnp.ones(3), jnp.ones(2), scale=jnp.ones(()))
    assert [p.name for p in graph["h"].parents] == ["weights", "x", "scale"]
    assert [p.name for p in graph["y"].parents] == ["weights", "more[0]", "h"]
    assert graph.inputs[0].shapes == ((2, 3), (2, 2))


def test_the_same_array_as_two_arguments():
    def net(x, y):
        return cg.node(cg.nodes.Spin(), y, name="h") + x

    x = jnp.ones(2)
    graph = cg.chain_graph(net)(x, x)
    assert parents(graph, "h") == [("y", False)]
    assert [p.name for p in graph.results[0].parents] == ["x", "h"]


def test_modules_show_inputs_and_no_parameters():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(2, 3, rngs=rngs)
            self.norm = nnx.BatchNorm(3, rngs=rngs)

        def __call__(self, image):
            return jnp.tanh(self.norm(cg.node(cg.nodes.Spin(), self.hidden(image), name="h")))

    net, x = Net(nnx.Rngs(0)), jnp.ones((4, 2))
    graph = cg.chain_graph(net)(x)
    assert [i.name for i in graph.inputs] == ["image"]
    assert parents(graph, "h") == [("image", False)]
    assert cg.chain_graph(cg.clamp(net, {}))(x) == graph
    f, params, state = cg.functional(net)
    functional = cg.chain_graph(f)(params, state, x)
    assert functional["h"].parents == (Parent("args[0]"),)
    assert functional.results[0].name == "result[0]"


def test_families_with_arrays():
    def net(x, low):
        return cg.node(cg.nodes.Binary(low, jnp.full(2, 3.0)), x, name="h")

    graph = cg.chain_graph(net)(jnp.ones(2), jnp.zeros(2))
    assert isinstance(graph["h"].family, cg.nodes.Binary)
    assert parents(graph, "h") == [("x", False), ("low", False)]
    assert "Binary(…, …)" in str(graph)


def test_a_network_without_nodes():
    graph = cg.chain_graph(lambda x: x + 1)(jnp.ones(2))
    assert len(graph) == 0 and str(graph).startswith("Chain graph of 0 components; inputs: x (2,)")
    ElementTree.fromstring(graph.to_svg())


# -- drawing


def test_mermaid():
    text = cg.chain_graph(recurrent)(jnp.ones((5, 4))).to_mermaid()
    assert text.splitlines()[:3] == [
        "flowchart TD",
        '    v0(["xs<br/>(5, 4)"]):::input',
        '    v1["start<br/>Bernoulli (4,)"]:::node',
    ]
    # What Mermaid's grammar needs of every line after the first.
    vertex = r'v\d+(\(\[|\[)"[^"]*"(\]\)|\]):::\w+'
    edge = r'v\d+ (-->|-\. "earlier step" \.->) v\d+'
    for line in text.splitlines()[1:]:
        assert re.fullmatch(rf"    ({vertex}|{edge}|classDef \w+ [\w:#,]+)", line), line
    assert text.count('-. "earlier step" .->') == 2


def test_names_are_no_markup_for_mermaid():
    text = cg.chain_graph(lambda x: cg.node(cg.nodes.Spin(), x, name='<b>"&'))(jnp.ones(2))
    assert '["#lt;b#gt;#quot;#amp;<br/>Spin (2,)"]' in text.to_mermaid()


def test_dot():
    text = cg.chain_graph(recurrent)(jnp.ones((5, 4))).to_dot()
    assert text.startswith("digraph {\n") and text.endswith("}\n")
    # What Graphviz's grammar needs of every line between.
    quoted = r'"([^"\\\n]|\\["\\n])*"'
    value = rf"({quoted}|[a-z_]+|\d+(\.\d+)?)"
    options = rf" \[\w+={value}( \w+={value})*\]"
    for line in text.splitlines()[1:-1]:
        assert re.fullmatch(rf"    (v\d+ -> v\d+({options})?|(v\d+|node|edge){options})", line), (
            line
        )
    assert text.count(' [style=dashed constraint=false label="earlier step"]') == 2
    assert '[label="start\\nBernoulli (4,)" fillcolor="#e3eefb" color="#2f6db5"]' in text
    graphviz = shutil.which("dot")
    if graphviz:
        subprocess.run([graphviz, "-Tsvg"], input=text, text=True, check=True, capture_output=True)


def test_names_are_no_markup_for_graphviz():
    name = 'a"b\\n{c}'
    text = cg.chain_graph(lambda x: cg.node(cg.nodes.Spin(), x, name=name))(jnp.ones(2)).to_dot()
    assert r'[label="a\"b\\n{c}\nSpin (2,)"' in text
    loops = re.findall(
        r'(v\d+) -> (v\d+) \[dir=none label="neighbours in a (?:chain|grid)"\]',
        cg.chain_graph(touching)(jnp.ones((4, 2))).to_dot(),
    )
    assert len(loops) == 3 and all(a == b for a, b in loops)


def touching(x):
    """Components whose elements touch, beside each other and through time."""
    tags = cg.node(cg.nodes.LinearChain(jnp.eye(2), jnp.zeros(2)), x, name="tags")
    switch = cg.node(cg.nodes.Spin(), x.sum(), name="switch")
    tagged = lambda last, _: (cg.node(cg.nodes.LinearChain(jnp.eye(2)), last, name="again"), None)  # noqa: E731
    again, _ = jax.lax.scan(tagged, x, None, length=3)
    pixels = cg.node(cg.nodes.Grid(jnp.eye(2)), (again + tags)[None], name="pixels")
    return tags * switch, pixels


def test_what_touches_within_a_component_is_an_undirected_edge():
    graph = cg.chain_graph(touching)(jnp.ones((4, 2)))
    assert str(graph).splitlines()[1:6] == [
        "component        family                                              shape             "
        "parents",
        "tags             LinearChain(…, …), touching: neighbours in a chain  (4, 2)            x",
        "switch           Spin                                                ()                x",
        "again            LinearChain(…), touching: neighbours in a chain     (4, 2) × 3 steps  "
        "x, again (earlier step)",
        "pixels (output)  Grid(…), touching: neighbours in a grid             (1, 4, 2)         "
        "tags, again",
    ]
    mermaid = graph.to_mermaid()
    loops = re.findall(r'(v\d+) -- "([^"]*)" --- (v\d+)\n', mermaid)
    chain, grid = "neighbours in a chain", "neighbours in a grid"
    assert [(a == b, words) for a, words, b in loops] == [(True, w) for w in (chain, chain, grid)]
    for (number, *_), name in zip(loops, ("tags", "again", "pixels"), strict=True):
        assert f'{number}["{name}<br/>' in mermaid
    picture = drawing(*graph._drawing())
    assert_apart(picture)
    found = [curve for curve in picture.curves if curve.touching]
    assert [curve.touching for curve in found] == [chain, chain, grid]
    for curve in found:  # the words stand between the loop and whatever is at its left
        (x, y), width = curve.end, 0.5 * 11 * len(curve.touching)
        assert x - width >= 0 and x <= min(p for p, _ in curve.points[::3])
        for box in picture.boxes:
            beside = box.x + box.width / 2 <= x - width or x <= box.x - box.width / 2
            assert beside or abs(box.y - y) >= box.height / 2
    root = ElementTree.fromstring(graph.to_svg())
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count(chain) == 2 and texts.count(grid) == 1
    arrows = list(root.iter("{http://www.w3.org/2000/svg}polygon"))
    assert len(arrows) == len(picture.curves) - 3


def test_a_family_that_conditions_its_elements_says_what_touches():
    families = [f for f in vars(cg.nodes).values() if isinstance(f, type)]
    families = [f for f in families if issubclass(f, cg.nodes.Family)]
    own = cg.nodes.Family.conditioned
    conditioning = {f.__name__ for f in families if f.conditioned is not own}
    assert conditioning == {f.__name__ for f in families if f.touching} and conditioning


def graph_of_random_edges(num_nodes):
    edges = np.random.default_rng(0).random((num_nodes, num_nodes)) < 2.0 / num_nodes

    def net(x):
        values = []
        for k in range(num_nodes):
            e: Any = sum((v for v, used in zip(values, edges[k], strict=False) if used), x)
            values.append(cg.node(cg.nodes.Spin(), e, name=f"node{k}"))
        return sum(values)

    return cg.chain_graph(net)(jnp.ones(2))


def assert_apart(picture):
    """No two boxes overlap, and all lines keep clear of all boxes."""
    for i, a in enumerate(picture.boxes):
        assert a.width / 2 <= a.x <= picture.width - a.width / 2
        assert a.height / 2 <= a.y <= picture.height - a.height / 2
        for b in picture.boxes[i + 1 :]:
            apart_x = abs(a.x - b.x) >= (a.width + b.width) / 2
            apart_y = abs(a.y - b.y) >= (a.height + b.height) / 2
            assert apart_x or apart_y
    t = np.linspace(0, 1, 25)[:, None]
    for curve in picture.curves:
        points = np.array(curve.points)
        for k in range(0, len(points) - 1, 3):
            p0, p1, p2, p3 = points[k : k + 4]
            path = (1 - t) ** 3 * p0 + 3 * (1 - t) ** 2 * t * p1 + 3 * (1 - t) * t**2 * p2
            path = path + t**3 * p3
            assert path.min() >= 0 and np.all(path.max(0) <= (picture.width, picture.height))
            for box in picture.boxes:
                inside = np.abs(path - (box.x, box.y)) < (box.width / 2 - 1, box.height / 2 - 1)
                assert not inside.all(1).any(), (curve, box)


@pytest.mark.parametrize("which", ["branches", "recurrent", 1, 5, 12, 20])
def test_boxes_do_not_overlap_and_lines_cross_no_box(which):
    if which == "branches":
        graph = graph_of_branches()
    elif which == "recurrent":
        graph = cg.chain_graph(recurrent)(jnp.ones((5, 4)))
    else:
        graph = graph_of_random_edges(which)
    assert_apart(drawing(*graph._drawing()))


def test_a_line_through_time_goes_around():
    boxes = [Box(n, "node", n, "") for n in "abc"]
    lines = [Line("a", "b"), Line("b", "c"), Line("c", "a", True)]
    picture = drawing(boxes, lines)
    assert [p.y for p in picture.boxes] == sorted(p.y for p in picture.boxes)
    (around,) = [c for c in picture.curves if c.through_time]
    assert max(x for x, _ in around.points) > max(p.x + p.width / 2 for p in picture.boxes)


def test_a_line_through_time_passes_boxes_in_its_rows():
    boxes = [Box(n, "node", n, "") for n in "abcdef"]
    through_time = [Line("c", "b", True), Line("b", "f", True), Line("e", "e", True)]
    lines = [Line("a", "b"), Line("a", "c"), Line("a", "d"), Line("b", "e"), Line("c", "f")]
    for name in "bcdef":
        through_time.append(Line(name, "b", True))
        through_time.append(Line("b", name, True))
    assert_apart(drawing(boxes, [*lines, *dict.fromkeys(through_time)]))


def column(length, *skips):
    """Boxes in one chain, and lines that skip some of them."""
    boxes = [Box(f"b{k}", "node", "x" * (3 * k + 1), "") for k in range(length)]
    ends = [*((k, k + 1) for k in range(length - 1)), *skips]
    return boxes, [Line(f"b{k}", f"b{j}") for k, j in ends]


@pytest.mark.parametrize(
    "skips",
    [
        [(0, 2), (2, 4), (4, 6)],  # blocks one after the other
        [(0, 6), (1, 5), (2, 4)],  # one around the other
        [(k, j) for k in range(7) for j in range(k + 2, 7)],  # everything with everything
    ],
)
def test_what_is_skipped_stands_straight_below_itself(skips):
    boxes, lines = column(7, *skips)
    picture = drawing(boxes, lines)
    assert_apart(picture)
    assert np.ptp([box.x for box in picture.boxes]) < 1e-6
    assert len(picture.curves) == len(lines)
    for curve, line in zip(picture.curves, lines, strict=True):
        xs = [x for x, _ in curve.points]
        if int(line.target[1]) == int(line.source[1]) + 1:
            assert np.ptp(xs) < 1e-6  # along the chain
        else:  # straight beside the boxes
            assert np.ptp(xs[3:-3]) < 1e-6 and abs(xs[3] - picture.boxes[0].x) > 10


def test_lines_of_one_box_share_a_trunk():
    picture = drawing(*column(6, (0, 2), (0, 3), (0, 5), (1, 5)))
    trunk, other = picture.curves[7].points, picture.curves[8].points
    for branch in picture.curves[5:7]:
        until = len(branch.points) - 3  # where it leaves for its box
        assert branch.points[:until] == trunk[:until]
    beside = {x for x, _ in trunk[3:-3]}, {x for x, _ in other[3:-3]}
    assert all(len(xs) == 1 for xs in beside) and beside[0] != beside[1]
    assert {x for x, _ in trunk[-1:]} != {x for x, _ in other[-1:]}  # arrows keep apart


def test_lines_from_all_of_some_to_all_of_others_meet():
    def between(sources, targets):
        boxes = [Box(f"s{k}", "node", "s", "") for k in range(sources)]
        boxes += [Box(f"t{k}", "node", "t", "") for k in range(targets)]
        return boxes, [Line(f"s{k}", f"t{j}") for j in range(targets) for k in range(sources)]

    for sources, targets in ((2, 2), (2, 3), (1, 6), (6, 1)):
        picture = drawing(*between(sources, targets))
        assert not picture.junctions and len(picture.curves) == sources * targets
    picture = drawing(*between(3, 4))
    assert_apart(picture)
    assert len(picture.boxes) == 7 and len(picture.curves) == 3 + 4
    (junction,) = picture.junctions
    assert [c.points[-1] for c in picture.curves if not c.arrow] == [junction] * 3
    assert [c.points[0] for c in picture.curves if c.arrow] == [junction] * 4
    # One more target of one of them, and the others still meet.
    boxes, lines = between(4, 4)
    picture = drawing([*boxes, Box("u", "node", "u", "")], [*lines, Line("s0", "u")])
    assert len(picture.junctions) == 1 and len(picture.curves) == 3 + 4 + 5


def test_svg_has_every_box_and_line():
    graph = graph_of_branches()
    root = ElementTree.fromstring(graph.to_svg())
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    for component in graph:
        assert component.name in texts
    assert "LeakyReLU(0.1) (4,)" in texts and "result['score']" in texts
    paths = list(root.iter("{http://www.w3.org/2000/svg}path"))
    assert len(paths) == sum(len(end.parents) for end in (*graph.components, *graph.results))
    dashed = cg.chain_graph(recurrent)(jnp.ones((5, 4)))._repr_svg_().count("stroke-dasharray")
    assert dashed == 2


@pytest.mark.parametrize(
    ("suffix", "start"),
    [("svg", b"<svg"), ("png", b"\x89PNG"), ("mmd", b"flowchart"), ("dot", b"digraph {")],
)
def test_draw_writes_files(tmp_path, suffix, start):
    if suffix == "png":
        pytest.importorskip("matplotlib")
    path = tmp_path / f"graph.{suffix}"
    graph_of_branches().draw(path)
    assert path.read_bytes().startswith(start)
    graph_of_branches().draw(str(path))


def test_draw_names_the_formats(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=r"`.svg`, `.mmd`, `.dot`, or one of Matplotlib's formats"):
        graph_of_branches().draw(tmp_path / "graph.doc")
