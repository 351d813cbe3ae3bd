"""Noisy pictures of digits cleaned by networks whose pixels touch ([A] section 3).

Images are made black and white, and some pixels are flipped. A convolution gives each pixel a score
for black and for white; then either these decide alone (*unary*), or neighbours touch: a
`cgjax.nodes.Grid` with couplings that are learnt, whose marginals come from mean field or from
loopy belief propagation. All are trained alike, end to end, on the log-probability that the
marginals give to the true pixels, from the same noise and seeds. Where images are narrow, *exact*
says what the parameters of belief propagation give without its approximation.

**Left behind** in `--out`: `result.json`, with a few test images for the figure, and `figure.png`.
**Cost**: see `docs/results.md`.
"""
