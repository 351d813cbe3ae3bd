"""What the benchmark of the bound without samples compares."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import deterministic_bound as benchmark


def test_figures_of_a_model_that_is_exact(monkeypatch):
    """Of a decoder without weights all bounds are the ELBO, and gradients have no noise but z's."""
    monkeypatch.setattr(benchmark, "BATCH", 3)
    monkeypatch.setattr(benchmark, "SAMPLES", (1, 2))
    p = jax.tree.map(jnp.zeros_like, benchmark.start())
    x = (np.random.default_rng(0).random((5, benchmark.PIXELS)) < 0.4).astype(np.float32)
    row = benchmark.measurement("tanh", repeats=3)(p, jnp.asarray(x))
    # Every pixel is 1 with probability 1/2, and the guide is the prior.
    np.testing.assert_allclose(row["elbo"], -benchmark.PIXELS * np.log(2), rtol=1e-5)
    assert set(row["bias"]) == set(row["gradient"]) == set(benchmark.COVARIANCES)
    assert max(map(abs, row["bias"].values())) < 1e-3
    # By the bias of the output alone the derivative is not 0, and no sample changes it.
    assert max(row["noise"].values()) < 1e-5 and max(row["gradient"].values()) < 1e-4
