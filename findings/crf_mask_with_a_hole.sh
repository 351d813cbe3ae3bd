#!/bin/sh
# A mask with a hole gives pytorch-crf's log-likelihood a transition from a tag that is masked.
#
# Package: pytorch-crf 0.7.2 with torch 2.13.0, on Python 3.11.
# Seen: a mask that ends early is what leaves these positions out. One that begins late raises a
# ValueError. One with a hole is taken: the sum over all sequences goes from the position before the
# hole to the one after it, but the score of the given tags has the transition from whatever tag stands
# in the hole. So the log-likelihood depends on a tag that does not count, and probabilities of all
# sequences do not sum to 1. Pieces of words, of which the first alone has a tag, make such masks.
#
# Fails (exit status 1) if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    pytorch-crf==0.7.2 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import itertools
import warnings

import torch
from torchcrf import CRF

print("torch", torch.__version__)
warnings.simplefilter("ignore")
torch.manual_seed(0)
TAGS, LENGTH = 3, 4
chain, scores = CRF(TAGS, batch_first=True), torch.randn(1, LENGTH, TAGS)


def log_prob(tags, mask):
    with torch.no_grad():
        mask = torch.tensor([mask], dtype=torch.bool)
        return chain(scores, torch.tensor([tags]), mask=mask).item()


def without(tags, mask):
    kept = [k for k, used in enumerate(mask) if used]
    with torch.no_grad():
        return chain(scores[:, kept], torch.tensor([[tags[k] for k in kept]])).item()


tags, end, hole = [0, 1, 2, 1], [1, 1, 1, 0], [1, 1, 0, 1]
assert abs(log_prob(tags, end) - without(tags, end)) < 1e-4
try:
    log_prob(tags, [0, 1, 1, 1])
except ValueError as error:
    print("begins late:", error)
else:
    raise AssertionError("a mask that begins late was taken")

print("hole:", log_prob(tags, hole), "left out:", without(tags, hole))
of_masked_tag = {log_prob([0, 1, tag, 1], hole) for tag in range(TAGS)}
print("for each tag in the hole:", of_masked_tag)
assert len(of_masked_tag) == TAGS
total = sum(
    torch.tensor(log_prob([a, b, 2, d], hole)).exp().item()
    for a, b, d in itertools.product(range(TAGS), repeat=3)
)
print("all sequences together:", total)
assert abs(total - 1) > 0.01
PYTHON
echo "As described."
