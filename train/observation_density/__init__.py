"""What a trained network believes it observes: simulated examples ([B] Figure 2).

[B] samples "uncalibrated probabilities" exp(-E_q[loss(x, y)]) of inputs x and labels y together,
with q the posterior of the weights. As printed that is no density: along inputs on which the loss
does not depend, and wherever a label can follow the prediction, it does not fall, so its integral
is infinite. Here it is multiplied by a prior of the inputs,

    p(x, y)  ~  N(x; m, C) exp(-E_q[loss(x, y)]),

with m and C the mean and the covariance of the training inputs; all columns, also those of ones and
zeros, are taken as real numbers. The loss is the negative log-likelihood of Gaussian noise with a
variance that is learnt. Hamiltonian Monte Carlo (BlackJAX's NUTS, which chooses the length of its
trajectories) samples it: several chains that start at training examples with small perturbations,
each with its own step size and mass matrix from its warm-up; rank-normalised split R-hat of every
coordinate, of the prediction and of the log-density.

Networks with one hidden layer of ReLU, all trained by the same recipe:

- *moments*: q is Gaussian, trained on the ELBO by moments, which also give E_q.
- *ensemble*: independently trained networks; q gives each the same weight.
- *network*: the first of them alone.

**Claims** of the paper: observations of the network trained by moments lie close to the diagonal of
predicted and true labels and where predictions incur less loss; those of independently trained
networks diverge from it. **Expected**: given x, the label of *moments* and *network* is Gaussian
around the prediction with the noise's variance, so that their distance from the diagonal is the
learnt noise and nothing else; only the inputs and the ensemble depend on more.

**Cost**: about two minutes on a CPU core, most of it compilation.

**Left behind** in `--out`: `result.json`, with a thinned sample, and `figure.png`.
"""
