"""Variance of gradients by batch size, and learning curves, of procedures for weights ([B] Fig. 1).

A dense network with two hidden layers of ReLU, or a VGG without normalisation; kernels are
Gaussian, biases are numbers. Five procedures compute the gradient of the expected negative
log-likelihood of a batch: by moments, by local reparameterisation, by flipout, by one weight sample
for the batch, and plainly, of the network at the means of its weights.

**Measured** (`train/gradient_variance/noise.py` has the definitions and estimators):

- *variance*: the trace of the covariance of the gradient with respect to the means of the kernels,
  and with respect to their log-variances; due to the noise of the weights at a fixed batch, and to
  that and the choice of the batch together; by batch size. All procedures at the same posterior:
  the initial one, and the one that training by `--trained-by` led to.
- *bias*: the distance of the expected gradient from that of flipout, which is unbiased, relative to
  the norm of the latter, at a fixed batch and the same posteriors.
- *cost*: the time of a gradient.
- *learning curves*: every procedure trained by the same recipe from the same initial means, by Adam
  on the negative ELBO divided by the number of examples (plainly: on the negative log-likelihood).
  Negative log-likelihood and error on validation images after each epoch; on test images once, with
  the weights of the lowest validation loss. Predictions are those of moments and the average of
  weight samples, the same ways for all.

**Claims** of the paper, whose figure gives no numbers: the noise of weights is substantial compared
with that of batches; learning by moments converges faster than weight sampling and than networks
that are not Bayesian. **Expected**: moments have no variance but the batch's; that of one weight
sample for the batch does not fall with the batch size, those of local reparameterisation and
flipout fall as its inverse.

The paper states no recipe, prior or network size: those here are ours.

**Cost**: digits three minutes of CPU time, most of it compilation; MNIST with 200 nodes and five
epochs four. The small VGG is slower on a CPU, with a minute to compile moments for each batch size:
2,000 images, five epochs and few measurements took half an hour of one core. VGG16 is meant for a
GPU, on which it was not run.

**Left behind** in `--out`: `result.json`, `figure.png`, and the checkpoint of the training, from
which the same command continues.
"""
