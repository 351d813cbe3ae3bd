"""What [B] 4.1 claims about gradients and learning curves, and what ours say of it."""

import math
from collections.abc import Sequence
from pathlib import Path

from train.gradient_variance.figure import LABELS
from train.report.claims import Claim, Finding, judged
from train.report.statistics import Mean, paired
from train.report.tables import Result, read_all

SHARE = 0.1  # of the variance, from where on noise of weights is taken to be "substantial"
SAMPLERS = ("weights", "local", "flipout")
COMMAND = "python -m train.gradient_variance --data"
# The figure's panels: data, network, and what the command that measures them is told of it.
PANELS = {
    "[B] Figure 1 a, b: dense network on MNIST": ("mnist", "dense", ""),
    "[B] Figure 1 c, d: VGG16 on CIFAR-10": ("cifar10", "vgg16", " --network vgg16"),
}
TEXTS = (
    f"The noise of weights is substantial beside that of batches (at least {SHARE} of the "
    "variance, for each sampling procedure and batch size)",
    "Learning without sampling weights (moments) converges faster than with: a lower validation "
    "NLL after every epoch",
    "Learning by moments converges faster than networks that are not Bayesian do",
)


def claims(results: Path) -> list[Claim]:
    """Those of Figure 1, from the folder of results."""
    made = []
    every = read_all(results / "gradient_variance")
    for source, (data, network, option) in PANELS.items():
        settings = {"data": data, "network": network}
        found = [result for result in every if settings.items() <= result["settings"].items()]
        findings = [Finding()] * len(TEXTS)
        if found:
            findings = [_noise(found), _faster(found, SAMPLERS), _faster(found, ("plain",))]
        command = f"{COMMAND} {data}{option} --data-dir FOLDER"
        for text, finding in zip(TEXTS, findings, strict=True):
            made.append(Claim(source, text, *finding, command))
    return made


def _noise(found: Sequence[Result]) -> Finding:
    """Whether the share of weights in the variance is known to be large enough everywhere; the
    interval is over pairs of batches, at one posterior."""
    signs, shares = [], []
    for result in found:
        for row in result["variance"]:
            total, own = row["means"]["total"], row["means"]["weights"]
            if row["procedure"] in SAMPLERS:
                # As if the two were independent, which is on the safe side.
                error = math.hypot(own["standard error"], SHARE * total["standard error"])
                above = own["value"] - SHARE * total["value"]
                signs.append(Mean(above, error, result["settings"]["pairs"]).sign)
                shares.append(own["value"] / total["value"])
    told = f"{min(shares):.0%} to {max(shares):.0%} of the variance" if shares else "-"
    return Finding(judged(signs, 1), f"{told}, at the initial and at one trained posterior")


def _faster(found: Sequence[Result], others: Sequence[str]) -> Finding:
    """Whether moments are ahead of other procedures after every epoch, seed by seed."""
    curves: dict[str, dict[int, list[float]]] = {}
    for run in (run for result in found for run in result["runs"]):
        losses = [math.nan if v is None else v for v in run["history"]["validation_loss"]]
        curves.setdefault(run["procedure"], {})[run["seed"]] = losses
    signs, told = [], []
    ours = curves.get("moments", {})
    for other in others:
        theirs = curves.get(other, {})
        epochs = min((len(c) for some in (ours, theirs) for c in some.values()), default=0)
        each = [
            paired({s: c[k] for s, c in ours.items()}, {s: c[k] for s, c in theirs.items()})
            for k in range(epochs)
        ]
        signs += [difference.sign for difference in each]
        ahead = sum(difference.value < 0 for difference in each)
        told.append(f"than {LABELS[other]} after {ahead}")
    seeds = f"{len(ours)} seed{'s' * (len(ours) != 1)}"
    evidence = f"{seeds}; a lower mean {', '.join(told)} of {len(signs) // len(others)} epochs"
    return Finding(judged(signs, -1), evidence)
