"""Feed-forward: every node replaced by its activation ([A] Eq. 6 and 9)."""

from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Program
from cgjax._static import Tree
from cgjax._walk import Visitor, walk


@method
class FeedForward(Method):
    """Options of feed-forward: none."""

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        implementation = None if capture else "feed_forward"
        return walk(program, Visitor(capture=capture, implementation=implementation), arrays)


def feed_forward(net: Network) -> Procedure:
    """Feed-forward inference: each node passes on its activation, as the plain network does.

    With q the activation and e the natural parameter, `q_l = E[T(X_l) | e_l(q_{l-1})]`: the
    expectation over the parents is moved inside, which is accurate where weights are small.

    Args:
        net: a network, as a function of arrays.

    Returns:
        `procedure(*args)`, with the result of `net(*args)` and no nodes in it any more.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> net = lambda x: 2 * cg.node(cg.nodes.ReLU(), x, name="hidden")
        >>> cg.feed_forward(net)(jnp.array([-1.0, 3.0]))
        Array([0., 6.], dtype=float32)

    Source: [A] Eq. 6, 9.
    """
    return intern(Procedure(net, FeedForward()))
