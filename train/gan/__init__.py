"""Generators that learn from a critic, by divergence: a ring of Gaussians, and digits ([C]).

A generator is an implicit model: a network whose first nodes are Gaussian, and whose result has no
density. It learns from a critic, which holds down a bound on a divergence between the law of what
is generated and that of what is real, or a loss that is none (`cgjax.adversarial`). Here all of
these train the same networks by the same recipe, from the same seeds:

- both learn at once, by Adam without momentum; the critic 1.5 times as fast, both at rates that
  fall linearly to 0;
- the critic's slope at real examples is held down: 0.15 times its squared norm is added to its loss
  (R1, Mescheder, Geiger and Nowozin 2018);
- Gaussian noise is added to real and generated examples, and dies away;
- what is tested is a running average of the generator's weights.

*ring*: eight Gaussians of standard deviation 0.02 on a circle of radius 2 in the plane (Metz et al.
2017). Counted are the modes that get at least a tenth of their share of the samples, and the share
of samples that lie within three standard deviations of a mode.
*digits*, *mnist*: images, judged by a dense network that is trained here to tell the digits: how
many digits are generated, how evenly, and the Fréchet distance between the laws of its features.

**Expected**: eight of eight modes, and at least 90 % of the samples within three standard
deviations; for a perfect generator it is 98.9 %.

**Cost**: the ring, nine divergences with five seeds, a quarter of an hour of a core; digits as
much.

**Left behind** in `--out`: `result.json`, `timing.json`, `figure.png` and a checkpoint.
"""
