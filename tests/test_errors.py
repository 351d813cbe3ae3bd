"""Mistakes in what is handed to cgjax: what was got, what was expected, how to mend it.

The checks of annotations that the other tests run with would speak before cgjax does, so all
mistakes are made in one process without them.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_SETUP = """
import json, sys, warnings
import flax.linen as linen
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
import cgjax as cg
from cgjax.nodes import BernoulliMask, Spin

warnings.simplefilter("error")

class Net(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        return cg.node(Spin(), self.linear(x), name="h")

class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(x)

x, key = jnp.ones(3), jax.random.key(0)
module = Net(nnx.Rngs(0))
f, params, state = cg.functional(module)
net = lambda x: 2 * cg.node(Spin(), x, name="h")
plain = lambda x: 2 * x
generator = lambda x: (net(x) for _ in range(2))
natural = cg.weights.natural_gradient

def found(mistake):
    try:
        eval(mistake)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]

print(json.dumps({m: found(m) for m in json.loads(sys.argv[1])}))
"""

_NETWORK = "takes a network: a function of arrays, or a module that holds its parameters; got"
_SAMPLER = r"monte_carlo takes a sampling procedure, such as `cgjax.forward_sample\(\w+\)`, got"
_KEY = r"is one key of `jax.random`, got"
_PROCEDURE = r"takes a network, and {0}\(net\) is a procedure.*`{0}\(net\)`"
_NO_NODES = "has no nodes.*`cgjax.node`.*cgjax.lift.*report"

# The mistake, the class of the error, and what its message says.
MISTAKES = [
    # names
    ("cg.node(Spin(), x, name=3)", "TypeError", "name is a string, got 3"),
    ("cg.scope(b'block').__enter__()", "TypeError", "name is a string, got an object of type byte"),
    ("cg.layers.Dropout(0.5, name=3)", "TypeError", "name is a string, got 3"),
    ("cg.layers.Node(Spin(), name=x)", "TypeError", "name is a string, got an array of float32"),
    ("cg.layers.SimpleRecurrent(2, 2, name='a/b', rngs=nnx.Rngs(0))", "ValueError", "free of the"),
    ("cg.layers.LinearChain(2, 2, name=3, rngs=nnx.Rngs(0))", "TypeError", "is a string, got 3"),
    ("cg.layers.LinearChain(2, 2.0, rngs=nnx.Rngs(0))", "TypeError", "is an integer, got 2.0"),
    ("cg.layers.SimpleRecurrent(2, '3', rngs=nnx.Rngs(0))", "TypeError", "is an integer, got '3'"),
    ("cg.layers.SemiMarkov(2, 2, True, rngs=nnx.Rngs(0))", "TypeError", "is an integer, got True"),
    ("cg.layers.SemiMarkov(2, np.int64(2), np.int64(2), rngs=nnx.Rngs(0))(x)", "ValueError", "pos"),
    ("cg.layers.Tree(2, (-1, 0), 2, forbidden=[0], rngs=nnx.Rngs(0))", "TypeError", "known number"),
    ("cg.layers.LinearChain(2, 2, forbidden=x, rngs=nnx.Rngs(0))", "TypeError", "a tuple .start"),
    ("cg.layers.LinearChain(2, 2, rngs=nnx.Rngs(0))(jnp.ones((4, 2), int))", "TypeError", "int32"),
    (
        "cg.layers.BayesianRecurrent(2, 2, given='future', rngs=nnx.Rngs(0))",
        "ValueError",
        "is 'past' or 'all', got 'future'",
    ),
    (
        "cg.layers.BayesianRecurrent(2, 2, rngs=nnx.Rngs(0))(jnp.ones((4, 2), int))",
        "TypeError",
        "takes floating-point inputs, got int32",
    ),
    # networks
    ("cg.pcff(Net, .5)", "TypeError", rf"^pcff {_NETWORK} the class Net.*`Net\(…\)`"),
    ("cg.moments(Net)", "TypeError", f"^moments {_NETWORK} the class Net"),
    ("cg.chain_graph(Net)", "TypeError", f"^chain_graph {_NETWORK} the class Net"),
    ("cg.lift(Net)", "TypeError", f"^lift {_NETWORK} the class Net"),
    ("cg.weights.flipout(Net)", "TypeError", f"{_NETWORK} the class Net"),
    ("cg.weights.ensemble(None)", "TypeError", f"{_NETWORK} None"),
    ("cg.weights.flipout(cg.lift(module))", "TypeError", "holds its parameters.*functional"),
    ("cg.forward_sample(Dense())", "TypeError", f"{_NETWORK} the Linen module Dense.*functional"),
    ("cg.pcff(None, .5)", "TypeError", f"^pcff {_NETWORK} None"),
    ("cg.exact_marginals('net')", "TypeError", f"^exact_marginals {_NETWORK} 'net'"),
    # samplers
    ("cg.monte_carlo(cg.forward_sample(net), 1.5)", "TypeError", "num_samples is a whole.*got 1.5"),
    ("cg.monte_carlo(cg.pcff(net, .5), 4, batch_size=None)", "TypeError", "batch_size.*got None"),
    ("cg.monte_carlo(module, 4)", "TypeError", f"{_SAMPLER} the module Net"),
    ("cg.monte_carlo(Net, 4)", "TypeError", f"{_SAMPLER} the class Net"),
    ("cg.monte_carlo(net, 4)(key, x)", "TypeError", r"does not take a key.*forward_sample\(net\)"),
    ("cg.monte_carlo(lambda k, x: net(x), 4)(key, x)", "TypeError", r"nodes \('h'\) nothing samp"),
    # values and parameters
    ("cg.clamp(net, 3)", "TypeError", "a dict from node names to arrays.*got 3"),
    ("cg.clamp(module, [1.0])", "TypeError", "a dict from node names to arrays.*got a list"),
    ("f({}, state, x)", "TypeError", r"`f\(params, state, \*args\)`.*a dict with 0 arrays"),
    ("cg.pcff(f, .5)(key, {}, state, x)", "TypeError", "structure that `functional` returned"),
    ("f(x, params, state)", "TypeError", r"params is an array of float32\[3\] with 1 arrays"),
    # keys
    ("cg.pcff(net, .5)(np.zeros(3, np.uint32), x)", "TypeError", r"got an array of uint32\[3\]"),
    ("cg.pcff(net, .5)(np.zeros((4, 2), np.uint32), x)", "TypeError", r"uint32\[4, 2\].*jax.vmap"),
    ("cg.pcff(net, .5)(jax.random.split(key, 3), x)", "TypeError", r"key<fry>\[3\].*jax.vmap"),
    ("cg.pcff(net, .5)(0, x)", "TypeError", f"{_KEY} 0.*jax.random.key"),
    ("cg.pcff(net, .5)({'a': x}, x)", "TypeError", f"{_KEY} a dict"),
    # results
    ("cg.feed_forward(generator)(x)", "TypeError", "returned an object of type generator.*arrays"),
    ("cg.pcff(generator, .5)(key, x)", "TypeError", "returned an object of type generator"),
    ("cg.moments(lambda x: {'a': x}.values())(1.)", "TypeError", "object of type dict_values"),
    ("cg.moments(lambda x: 'a')(x)", "TypeError", "returned 'a'; a network returns an array"),
    # procedures of procedures
    ("cg.pcff(cg.moments(net), .5)", "TypeError", "^pcff " + _PROCEDURE.format("moments")),
    ("cg.pcff(cg.moments(module), .5)", "TypeError", "^pcff " + _PROCEDURE.format("moments")),
    ("cg.moments(cg.pcff(net, .5))", "TypeError", "^moments " + _PROCEDURE.format("pcff")),
    ("cg.chain_graph(cg.pcff(net, .5))", "TypeError", "graph " + _PROCEDURE.format("pcff")),
    ("cg.lift(cg.forward_sample(net))", "TypeError", _PROCEDURE.format("forward_sample")),
    ("cg.clamp(cg.feed_forward(module), {})", "TypeError", _PROCEDURE.format("feed_forward")),
    ("cg.pcff(cg.monte_carlo(cg.pcff(net, .5), 4), 1.)", "TypeError", "monte_carlo.net. is a proc"),
    # nothing to sample
    ("cg.pcff(plain, .5)(key, x)", "UserWarning", f"{_NO_NODES}"),
    ("cg.pcff(cg.lift(plain), .5)(key, x)", "UserWarning", f"{_NO_NODES}"),
    ("cg.forward_sample(cg.lift(module.linear))(key, x)", "UserWarning", f"{_NO_NODES}"),
    ("cg.monte_carlo(cg.pcff(plain, .5), 4)(key, x)", "UserWarning", f"{_NO_NODES}"),
    ("jax.jit(cg.pcff(plain, .5))(key, x)", "UserWarning", f"{_NO_NODES}"),
    ("cg.pcff(lambda x: 2 * cg.observe(x), .5)(key, x)", "nothing", ""),
    ("cg.pcff(lambda x: cg.node(Spin(), x), .5)(key, x)", "UserWarning", "nothing here.*include="),
    ("cg.pcff(lambda x: cg.node(Spin(), x), 0.)(key, x)", "nothing", ""),
    ("cg.forward_sample(lambda x: cg.node(Spin(), x))(key, x)", "nothing", ""),
    ("cg.feed_forward(plain)(x)", "nothing", ""),
    ("cg.pcff(cg.clamp(net, {'h': 1.0}), .5)(key, x)", "nothing", ""),
    ("cg.pcff(cg.clamp(module, {'h': 1.0}), .5)(key, x)", "nothing", ""),
    # families
    ("cg.noise(Spin(), x)", "TypeError", "Spin is a family for `cgjax.node`, got it in `cgjax.noi"),
    ("cg.node(BernoulliMask(), x)", "TypeError", "BernoulliMask is a family for `cgjax.noise`"),
    # rules
    ("cg.moment_rule('nope')", "ValueError", "no primitive 'nope'.*make_jaxpr"),
    ("cg.moment_rule('sin')(None)", "TypeError", "function of the operands.*got None"),
    ("cg.moment_rule('scan')", "TypeError", "`scan` holds functions"),
    ("cg.moment_rule(jax.jit(module))", "TypeError", "leaves no name.*`def`"),
    ("cg.moment_rule(3)", "TypeError", "a primitive of JAX, its name, or a function, got 3"),
    # options of the optimiser
    ("natural(.1, number_of_examples=-5)", "ValueError", "number_of_examples is positive, got -5"),
    ("natural(1.5)", "ValueError", "^learning_rate is positive and at most 1, got 1.5"),
    ("natural(.5, 1.5)", "ValueError", "learning_rate_of_variance is positive and at most 1"),
    ("natural(float('nan'))", "ValueError", "learning_rate is positive.*nan"),
    ("natural(.5, momentum=1.)", "ValueError", "momentum is at least 0 and below 1, got 1.0"),
    ("natural('fast')", "TypeError", "learning_rate is a number, got 'fast'"),
]  # fmt: skip


@pytest.fixture(scope="module")
def messages() -> dict[str, Any]:
    folder = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(folder), "JAX_PLATFORMS": "cpu"}
    mistakes = json.dumps([mistake for mistake, _, _ in MISTAKES])
    done = subprocess.run(
        [sys.executable, "-c", _SETUP, mistakes],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("mistake, error, message", MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_explained(messages, mistake, error, message):
    found, text = messages[mistake]
    assert found == error, text
    assert re.search(message, text, re.DOTALL), text
