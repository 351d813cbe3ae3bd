"""Variational autoencoders of binary images: bounds by more samples, and binary latent nodes.

A network with one layer of latent nodes (`train/models/autoencoder.py`) is learnt by a lower bound
on the log-likelihood, by a guide: of Gaussian nodes by the ELBO and by importance-weighted bounds
of K samples, with pathwise and doubly reparameterised gradients; of Bernoulli nodes by VIMCO and by
straight-through gradients of the ELBO, from as many samples.

MNIST's images are made black and white anew in every step (*dynamic*: white with the probability of
the grey level), or once (*fixed*, by a seed); the images of the test once, by the same seed in both
cases. Fixed images are not the files of Larochelle and Murray, so that published figures for these
are near, and not of the same images. Adam, batches of 100, a rate that falls from 2e-3 to 1e-5 as a
half period of the cosine; the weights of the best epoch by 1,000 of the training images, which are
not trained on. The log-likelihood of test images is estimated with 5,000 samples of the guide
(`cg.log_likelihood`), of some of them; what it has more than the ELBO there is added to the ELBO of
all.

**Expected**: the log-likelihood of MNIST, dynamic, that Burda, Grosse and Salakhutdinov
("Importance weighted autoencoders", 2016) print after 3,280 epochs: -86.76 for the ELBO, -85.54 for
5 samples, -84.78 for 50. In a hundred epochs one should come to within 1.5 nats.

**Cost**: an epoch of MNIST takes a core 2.4 seconds for the ELBO, a minute for 50 samples, so that
a hundred epochs are four minutes and an hour and three quarters; the test of a thousand images
takes less than one. Digits: two minutes in all.

**Left behind** in `--out`: `result.json`, `figure.png` and the checkpoint, from which the same
command continues.
"""
