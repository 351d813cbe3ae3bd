"""Image classification by networks with certain and with uncertain weights ([B] 4.1, Table 1).

A network of Table 1, with a normalisation or without one, is trained by one of five methods:
plainly (SGD, or Adam for the Mixers); by samples of its weights, one network for a batch or several
(`weight_sample`, `weight_sample_ensemble`); by means and variances, without sampling (`moments`);
the last two of these also by natural gradient. All follow a cosine to 0; the weights after the last
epoch are tested once.

**Uncertain weights.** Kernels have a mean-field posterior and the prior N(0, s^2 2/n) for n inputs
of an output; all else is known. The loss is the ELBO for an example, whose divergence rises to its
full size in the course of the training. Without a normalisation, the gains at the start are those
of `weights.balance`, on training images.

**Claims** of the paper: see `train.images.claims`. It says neither how long nor at which rates it
trained, nor which ResNet and which Mixer: the recipes are those that are published for the networks
(`train.images.settings`).

**Left behind** in `--out`: `result.json`, `timing.json`, `figure.png` and the checkpoint.
**Cost**: digits by moments take about three minutes of one core; Table 1 is for GPUs
(`benchmarks/on_gpu.sh`).
"""
