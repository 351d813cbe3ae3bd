"""What cgjax keeps, and for how long."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np

import cgjax as cg
from cgjax import _cache

X = jnp.array([-1.0, 2.0])


class Callable:
    def __call__(self, x):
        return 2 * cg.node(cg.nodes.ReLU(), x, name="h")


def test_nothing_is_written_into_what_users_own():
    def function(x):
        return 2 * cg.node(cg.nodes.ReLU(), x, name="h")

    network = Callable()
    for net in (function, network, network.__call__):
        cg.feed_forward(net)(X)
        cg.pcff(net, {"h": 0.5})(jax.random.key(0), X)
        cg.lift(net)(X)
    assert not vars(function) and not vars(network) and not vars(Callable.__call__)


def test_procedures_live_as_long_as_somebody_holds_the_network():
    network = Callable()
    kept = weakref.ref(cg.pcff(cg.clamp(network, {"h": 1.0}), 0.5))
    gc.collect()
    assert kept() is not None and kept() is cg.pcff(cg.clamp(network, {"h": 1.0}), 0.5)
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None and kept() is None


def test_a_procedure_keeps_its_network():
    procedure = cg.feed_forward(lambda x: 3 * x)
    gc.collect()
    np.testing.assert_array_equal(procedure(X), 3 * X)


def test_all_caches_can_be_emptied():
    net = Callable()
    first = weakref.ref(cg.feed_forward(net))
    right = cg.feed_forward(cg.lift(net))(X)
    assert _cache.programs.of(net)
    _cache.clear()
    assert first() is None and not _cache.programs.of(net)
    np.testing.assert_array_equal(cg.feed_forward(cg.lift(net))(X), right)


def test_functions_forget_their_oldest_results():
    calls = []

    @_cache.recent(2)
    def squared(x):
        calls.append(x)
        return x * x if isinstance(x, int) else 0

    assert [squared(i) for i in (1, 2, 2, 3, 1)] == [1, 4, 4, 9, 1]
    assert calls == [1, 2, 3, 1]
    assert squared([]) == squared([]) == 0  # what cannot be hashed is not kept
