"""What both estimators share: from checked arrays to a trained network and its predictions."""

import abc
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from cgjax._functional import is_module
from cgjax._static import Leaf, Tree
from cgjax.estimators import _networks, _saving, _training
from cgjax.estimators._likelihoods import Likelihood
from cgjax.estimators._methods import METHODS, MethodName, Model
from cgjax.estimators._networks import Built
from cgjax.estimators._options import check_counts, is_count, number, numbers, seed_of
from cgjax.estimators._scaling import Scaling
from cgjax.estimators._scikit_learn import BaseEstimator
from cgjax.estimators._training import Candidate, Problem, Rows, Search

PRIORS = (1.0, 3.0)  # that are tried, unless some are given
MEMBERS_PRIORS = (0.3, 1.0)  # of an ensemble's members
# Rows of a step, for at most so many rows; and how many steps a training has.
BATCHES = {5_000: 32, 20_000: 64, math.inf: 256}
STEPS = {5_000: 10_000, math.inf: 20_000}
FEWEST = 10  # rows of which some are held out

EstimatorT = TypeVar("EstimatorT")
# Chooses the numbers of validation rows.
HeldOut = Callable[[np.random.Generator], np.ndarray]


class Estimator(BaseEstimator, abc.ABC):
    """The part of an estimator that does not depend on what is predicted.

    Its arguments stand with the two estimators, since scikit-learn reads their names there.
    """

    network: Leaf
    method: MethodName
    hidden: Sequence[int]
    prior: Sequence[float] | float | None
    learning_rate: float
    batch_size: int | None
    max_epochs: int | None
    early_stopping: bool
    validation_fraction: float
    members: int
    samples: int
    progress: bool
    random_state: Any
    # By `validate_data` of scikit-learn:
    n_features_in_: int
    feature_names_in_: np.ndarray

    def _check_options(self) -> None:
        """Raises if an argument of the constructor is none of what it may be."""
        if self.method not in METHODS:
            raise ValueError(f"method is one of {', '.join(METHODS)}; got {self.method!r}.")
        check_counts(False, members=self.members, samples=self.samples)
        check_counts(True, batch_size=self.batch_size, max_epochs=self.max_epochs)
        number("validation_fraction", self.validation_fraction, 0.0, 1.0)
        number("learning_rate", self.learning_rate, 0.0, math.inf)
        if self.prior is not None:
            numbers("prior", self.prior, 0.0)
        layers = self.hidden if isinstance(self.hidden, Sequence | np.ndarray) else (None,)
        if self.network is None and not all(map(is_count, layers)):
            raise ValueError(
                "hidden is a tuple with the number of units of each hidden layer, such as (50,); "
                f"got {self.hidden!r}."
            )

    def _forget(self) -> None:
        """Before another fit: should it fail, units of new rows do not meet weights of old ones."""
        for name in ("weights_", "_compiled"):
            vars(self).pop(name, None)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_")

    def _scale_inputs(self, x: np.ndarray) -> np.ndarray:
        """Learns the units of the features, and which are constant; the rows in these units."""
        self._inputs = Scaling.of(x)
        self.constant_features_ = np.flatnonzero(self._inputs.constant)
        return self._inputs.scaled(x, "X")

    def _train(
        self, rows: Rows, likelihood: Likelihood, noises: Sequence[float], held: HeldOut
    ) -> None:
        """Sets what is learnt of scaled rows; several first levels of noise are tried."""
        self.seed_ = seed_of(self.random_state)
        self._likelihood = likelihood
        count = len(rows.x)
        model, built = self._model(rows.x.shape[1], count)
        candidates = self._candidates(noises)
        chooses = count >= FEWEST and (len(candidates) > 1 or self.early_stopping)
        epochs = self.max_epochs or math.ceil(_for(count, STEPS) / max(count // model.batch, 1))
        how = Search(
            candidates,
            epochs,
            until=epochs,
            stops=self.early_stopping,
            held=held(np.random.default_rng(self.seed_)) if chooses else np.arange(0),
            tell=_told if self.progress else _silent,
        )
        problem = Problem(model, built.params, built.state, self.seed_, float(self.learning_rate))
        trained, chosen = _training.search(problem, rows, how)
        if self.progress:
            print(file=sys.stderr)
        found = jax.tree.map(np.asarray, trained.weights)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found)):
            raise ValueError(
                "The training diverged: weights are not finite. Take a smaller learning_rate than "
                f"{self.learning_rate:g}, or look at what the network does to large inputs."
            )
        self.weights_ = found
        self.first_noise_, self.prior_ = chosen
        self.n_iter_ = trained.epochs
        self._compiled = model, built.state

    def _candidates(self, noises: Sequence[float]) -> list[Candidate]:
        """What validation rows choose from: the first values, and one other value at a time."""
        priors = self.prior
        if priors is None:
            priors = MEMBERS_PRIORS if self.method == "ensemble" else PRIORS
        first, *others = numbers("prior", priors, 0.0)
        by_noise = [Candidate(noise, first) for noise in noises]
        return by_noise + [Candidate(noises[0], prior) for prior in others]

    def _model(self, features: int, rows: int) -> tuple[Model, Built]:
        """The network with its first parameters, and what programs are compiled for."""
        network = _networks.default(self.hidden) if self.network is None else self.network
        outputs = self._likelihood.outputs
        if self.method != "ensemble":
            built = _networks.build(network, features, outputs, self.seed_)
        elif is_module(network):
            raise ValueError(
                "The members of an ensemble begin with different weights, and network is a module "
                "that has some already. Give a function `make(features, outputs, rngs)` that "
                "returns one."
            )
        else:
            seeds = np.random.default_rng(self.seed_).integers(2**31, size=self.members)
            built = _networks.stacked(
                [_networks.build(network, features, outputs, int(seed)) for seed in seeds]
            )
        batch = self.batch_size
        if batch is None:
            batch = _for(rows, BATCHES)
        stateful = bool(built.state)
        model = Model(
            built.apply, stateful, self._likelihood, self.method, int(self.samples), int(batch)
        )
        return model, built

    def _build(self) -> Tree:
        """Makes the network of a fitted estimator anew; returns its weights as shapes."""
        model, built = self._model(self.n_features_in_, 1)
        self._compiled = model, built.state
        return _training.first_weights(model, built.params)

    def _predicted(self, X: Any) -> Any:
        """Predictions in scaled units, with a leading axis of components."""
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        x: Any = validate_data(self, X, dtype=np.float64, reset=False)
        if not hasattr(self, "_compiled"):  # a copy from another process
            self._build()
        model, state = self._compiled
        inputs = self._inputs.scaled(x, "X")
        return _training.predict(model, self.weights_, state, self.seed_, inputs)

    def __getstate__(self) -> Any:
        kept: Any = super().__getstate__()
        return {name: value for name, value in kept.items() if name != "_compiled"}

    # -- files

    @abc.abstractmethod
    def _kept(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a kind of estimator keeps in a file of its own: numbers and arrays."""

    @abc.abstractmethod
    def _restore(self, numbers: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Takes back what `_kept` returned."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the fitted estimator to one file, which is whole or absent.

        It holds the arguments of the constructor and what was learnt (weights, units, classes,
        names of features, the seed) as JSON and arrays of NumPy, and no code: of a network of your
        own the weights, and `load` is given the network again. A `random_state` that is an integer
        is kept, and becomes None otherwise; the seed that was drawn is kept.

        Args:
            path: of the file, taken as it is, without an ending of ours.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            TypeError: classes are neither numbers nor strings; or the constructor was given what
                JSON has no form for.
            OSError: the file cannot be written; an older one is then untouched.
        """
        _saving.save(self, path)

    @classmethod
    def load(
        cls: type[EstimatorT], path: str | os.PathLike[str], network: Leaf = None
    ) -> EstimatorT:
        """A fitted estimator from a file that `save` wrote. It predicts the same.

        Args:
            path: of the file.
            network: the one that was fitted, if it was not the default one.

        Raises:
            FileNotFoundError: there is no such file.
            ImportError: scikit-learn is not installed.
            ValueError: it is no file of an estimator, of another kind of estimator, of another
                version, or damaged; the network is missing, or has other weights.
        """
        return _saving.load(cls, path, network)


def _for(rows: int, table: Mapping[int | float, int]) -> int:
    """What a table by the largest number of rows says."""
    return next(value for most, value in table.items() if rows <= most)


def _silent(text: str) -> None:
    """Tells nobody."""


def _told(text: str) -> None:
    print(f"\r{text:<50}", end="", file=sys.stderr, flush=True)
