"""The settings of `train.tagging`. Nothing here imports JAX."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from train.report.settings import PROBABILITY, SEEDS, SOME, Common, at_least, more_than, require

Data = Literal["grammar", "wnut17", "ewt"]
Encoder = Literal["window", "recurrent", "bayesian", "gru", "gru_wide"]
Head = Literal["softmax", "chain", "constrained", "stacked"]
Regulariser = Literal["none", "dropout", "pcff", "pcff_tags"]

EPOCHS: dict[Data, int] = {"grammar": 10, "wnut17": 10, "ewt": 4}


class Cell(NamedTuple):
    """One row of the table: a network, and how it is trained, with all seeds."""

    encoder: Encoder
    head: Head
    regulariser: Regulariser

    @property
    def file(self) -> str:
        """Where its result lies, in the folder for results."""
        return f"{'-'.join(self)}.json"


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Tags of sentences: independent given the words, or a linear chain ([A] section 3).

    example:
        python -m train.tagging                                    # a generated corpus, no files
        python -m train.tagging --data wnut17 --data-dir FOLDER    # named entities
        python -m train.tagging --data ewt --data-dir FOLDER       # parts of speech
    """

    continues: ClassVar[str | None] = "with the next cell"

    data: Data = "grammar"
    """The sentences."""
    encoders: Annotated[tuple[Encoder, ...], SOME] = ("window", "recurrent")
    """The hidden layer: of a window of three words; or in both directions, independent recurrences,
    Bayesian recurrent units, or gated ones with as many parameters or as many nodes."""
    heads: Annotated[tuple[Head, ...], SOME] = get_args(Head)
    """The tags: independent, a chain, a chain in which what IOB2 forbids has probability 0 (for
    entities only), and such a chain that sees the marginals of another."""
    regularisers: Annotated[tuple[Regulariser, ...], SOME] = get_args(Regulariser)
    """Of the hidden nodes, and PCFF of the tags of the lower one of stacked chains."""
    drop_rate: Annotated[float, PROBABILITY] = 0.3
    """Of dropout."""
    pcff_rate: Annotated[float, PROBABILITY] = 0.3
    """Of PCFF, of hidden nodes or of the lower chain."""
    seeds: Annotated[tuple[int, ...], SEEDS] = (0, 1, 2, 3, 4)
    """Of first weights, order and noise."""
    sentences: Annotated[int | None, at_least(1)] = None
    """Train on the first so many sentences, and validate and test on as many; without it on all."""
    hidden: Annotated[int, at_least(2)] = 128
    """Hidden nodes; of recurrences a half for each direction. Gated units with as many parameters
    are fewer."""
    batch_size: Annotated[int, at_least(1)] = 32
    """Sentences of a batch."""
    learning_rate: Annotated[float, more_than(0)] = 2e-3
    """Adam's first one, which falls linearly to 0."""
    epochs: Annotated[int | None, at_least(1)] = None
    """Without it 10, and 4 for ewt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self,
            hidden=(self.hidden % 2 == 0, "an even number, a half for each direction"),
            heads=(bool(self.cells), "one that fits: constrained is for entities, not for ewt"),
        )

    @property
    def cells(self) -> list[Cell]:
        """What is trained, in this order. PCFF of tags is for stacked chains, and there is nothing
        to forbid where tags are of single words."""
        return [
            Cell(encoder, head, regulariser)
            for encoder in self.encoders
            for regulariser in self.regularisers
            for head in self.heads
            if (head == "stacked" or regulariser != "pcff_tags")
            and (head != "constrained" or self.data != "ewt")
        ]

    @property
    def last_epoch(self) -> int:
        """How long each network is trained."""
        return self.epochs or EPOCHS[self.data]

    def facts_of(self, cell: Cell) -> dict[str, Any]:
        """What the result of a cell depends on, in the form that JSON gives back."""
        rest = self.facts("encoders", "heads", "regularisers")
        return rest | cell._asdict() | {"epochs": self.last_epoch}
