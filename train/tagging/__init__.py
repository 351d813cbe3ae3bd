"""Tags of sentences: independent given the words, or a linear chain ([A] section 3).

[A] section 3 says of a last component whose nodes touch that it "has been found beneficial for
image segmentation or named entity recognition". Here the same encoder of words, with the same
features, carries different laws of the tags: a variable for each word; a linear chain; a chain in
which what IOB2 forbids has probability 0, in training as in prediction; and such a chain that sees
the marginals of another one. The hidden layer is of nodes: its regulariser is dropout or PCFF, and
so may be that of the lower chain, which PCFF samples or collapses as a whole.

The loss is the negative log-probability of the tags of a sentence, of both chains where there are
two; Adam with a rate that falls linearly to 0, for a fixed number of epochs: nothing is chosen by
validation sentences. Predicted are the most probable tags together; probabilities are marginals.

**Expected**: entities are found better by a chain than by independent tags, whole sentences are
right more often, and with constraints no step is invalid. Systems of the shared task of WNUT 2017
that used embeddings from other text report an entity F1 of 41 and 39 (Derczynski et al., "Results
of the WNUT2017 shared task", 2017); with the training sentences alone 12 to 25 are expected. Other
encoders, asked for by `--encoders`, are Bayesian recurrent units
and gated ones (`train.models.encoders`; Garner and Tong, 2020).

**Cost**: compiling takes 15 to 60 seconds of a core for each encoder and law of tags, twice as much
for two chains; a run of wnut17 10 to 25 seconds of a core that others share, the 26 cells with five
seeds an hour.

**Left behind** in `--out`: one JSON for each cell (an encoder, a law, a regulariser), written when
it is finished. The same command skips what is there, so it continues after any interruption.
"""
