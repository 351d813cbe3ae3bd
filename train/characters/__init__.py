"""The characters of a text, predicted by a recurrent network that is a latent-variable model ([C]).

One network (`train.models.reader`) with two-valued states is read in three ways:

- *collapsed*: its states are their activations, tanh, as in any recurrent network;
- *partly collapsed*: PCFF at a rate, [A] Eq. 14;
- *latent*: its states are latent variables, which a guide proposes that has read as far as the
  character that they are to explain; learnt from a bound on the log-probability of the text, either
  the ELBO, whose divergence is in closed form at each step given the states before, with
  straight-through derivatives, or the importance-weighted bound of several samples by VIMCO.

All are trained alike, on pieces of the text that begin with a state of 0, and tested in each way
that applies, in bits a character: by feed-forward; by the average of the predictions of samples of
the training procedure; and by the bounds of one and of many samples.

**Expected**: no published figure; which reading predicts best is the question.

**Cost**: by default about two minutes on two CPU cores.

**Left behind** in `--out`: `result.json`, `timing.json`, `figure.png` and a checkpoint.
"""
