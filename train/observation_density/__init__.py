"""What a trained network believes it observes: simulated examples ([B] 4.2, Figure 2).

[B] samples "uncalibrated probabilities" exp(-E_q[loss(x, y)]) of inputs x and labels y together,
with q the posterior of the weights. As printed that is no density: along inputs on which the loss
does not depend its integral is infinite. Here it is multiplied by a prior of the inputs,

    p(x, y)  ~  N(x; m, C) exp(-E_q[loss(x, y)]),

with m and C the mean and the covariance of the training inputs; all columns, also those of ones and
zeros, are taken as real numbers. The loss is the negative log-likelihood of Gaussian noise with a
variance that is learnt. Hamiltonian Monte Carlo (BlackJAX's NUTS) samples it: several chains that
start at training examples with small perturbations, each with its own step size and mass matrix.

Networks with one hidden layer of ReLU: *moments*, q is Gaussian, trained on the ELBO by moments,
which also give E_q; *ensemble*, independently trained, of equal weight in q; *network*, the first
of them alone. **Expected**: given x, the label of *moments* and *network* is Gaussian around the
prediction with the noise's variance, so that their distance from the diagonal is the learnt noise
and nothing else; only the inputs and the ensemble depend on more. `claims.py` has the claims.

**Cost**: about two minutes on a CPU core, most of it compilation.

**Left behind** in `--out`: `result.json`, with a thinned sample, and `figure.png`.
"""
