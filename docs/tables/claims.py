"""The one table of the papers' claims, and what of them is measured.

Every verdict is computed beside its experiment, by the judge of `train.report.claims`.
"""

import pathlib
from collections.abc import Sequence

from docs import mathematics
from docs.tables.parts import of, table
from train.dense import claims as dense
from train.gradient_variance import claims as gradient_variance
from train.images import claims as images
from train.indrnn import claims as indrnn
from train.observation_density import claims as observation_density
from train.report.claims import Claim, summary
from train.resnet import claims as resnet
from train.segmentation import claims as segmentation
from train.tagging import claims as tagging
from train.uci import claims as uci

# In the order of [A], then of [B].
EXPERIMENTS = (
    segmentation,
    tagging,
    dense,
    resnet,
    indrnn,
    images,
    gradient_variance,
    uci,
    observation_density,
    mathematics,
)


def every(results: pathlib.Path) -> list[Claim]:
    """The claims of [A] 3 and 5.1, and of [B]."""
    return [claim for experiment in EXPERIMENTS for claim in experiment.claims(results)]


@of()
def claims(results: pathlib.Path) -> str:
    """All claims: where, what, the verdict, the evidence, and the command that measures it."""
    return laid_out(every(results))


def laid_out(made: Sequence[Claim]) -> str:
    """A table with a row for each claim."""
    rows, last = [], ""
    for source, text, verdict, evidence, command in made:
        where = source if source != last else ""
        told = command if " " not in command or "python" not in command else f"`{command}`"
        rows.append([where, text, f"**{verdict}**", evidence, told])
        last = source
    return table(["of", "claim", "verdict", "evidence", "command"], rows)


@of()
def measured(results: pathlib.Path) -> str:
    """Which half of the experiments is measured."""
    return summary(every(results))
