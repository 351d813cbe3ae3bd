"""Variance, bias and cost of the gradients of procedures for weights, and learning curves ([B] 4.1,
Figure 1, which states no recipe, prior or network size: those here are ours).

`docs/procedures/comparison.md` says what is measured, how, and what came of it; `noise.py` has the
estimators, `claims.py` the claims. A dense network with two hidden layers of ReLU, or a VGG without
normalisation; kernels are Gaussian, biases are numbers. **Expected**: moments have no variance but
the batch's; that of one weight sample for the batch does not fall with the batch size, the others
fall as its inverse.

**Cost**: digits three minutes of CPU time, most of it compilation; MNIST with 200 nodes and five
epochs four. The small VGG takes a minute to compile moments for each batch size: 2,000 images, five
epochs and few measurements took half an hour of one core. VGG16 is meant for a GPU, and was
not run.

**Left behind** in `--out`: `result.json`, `figure.png`, and the checkpoint of the training, from
which the same command continues.
"""
