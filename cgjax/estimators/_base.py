"""What both estimators share: from checked arrays to a trained network and back."""

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from cgjax._functional import is_module
from cgjax._static import Leaf, Tree
from cgjax.estimators import _files, _networks, _training
from cgjax.estimators._likelihoods import Likelihood
from cgjax.estimators._methods import METHODS, Model
from cgjax.estimators._networks import Built
from cgjax.estimators._scaling import Scaling
from cgjax.estimators._scikit_learn import BaseEstimator
from cgjax.estimators._training import Candidate, Problem, Rows, Search

STEPS = 10_000  # of a training, unless `max_epochs` is given
PRIORS = (1.0, 3.0)
MEMBERS_PRIORS = (0.3, 1.0)  # of ensembles
BATCHES = {5_000: 32, 20_000: 64}  # rows of a step, for at most so many rows; above 256
FEWEST = 10  # rows of which a part is held out


class Estimator(BaseEstimator):
    """The part of a Bayesian estimator that does not depend on what is predicted."""

    network: Leaf
    method: Any
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

    def _train(
        self, x: np.ndarray, y: np.ndarray, likelihood: Likelihood, noises: Sequence[float],
        held: Callable[[np.random.Generator], np.ndarray],
    ) -> None:
        """Sets what is learnt of scaled rows; `held` chooses the validation rows."""
        self.seed_ = _seed(self.random_state)
        priors = self.prior
        if priors is None:
            priors = MEMBERS_PRIORS if self.method == "ensemble" else PRIORS
        priors = _positive("prior", priors)
        candidates = [Candidate(noise, priors[0]) for noise in noises]
        candidates += [Candidate(noises[0], prior) for prior in priors[1:]]
        chooses = len(x) >= FEWEST and (len(candidates) > 1 or self.early_stopping)
        model, built = self._model(x.shape[1], len(x), likelihood)
        epochs = self.max_epochs or math.ceil(STEPS / max(len(x) // model.batch, 1))
        trained, chosen = _training.search(
            Problem(
                model,
                built.params,
                built.state,
                targets=likelihood.targets,
                seed=self.seed_,
                learning_rate=self.learning_rate,
            ),
            Rows(x, y),
            Search(
                candidates,
                epochs,
                until=epochs,
                stops=self.early_stopping,
                held=held(np.random.default_rng(self.seed_)) if chooses else np.arange(0),
                tell=_told if self.progress else lambda text: None,
            ),
        )
        if self.progress:
            print(file=sys.stderr)
        self.weights_ = jax.tree.map(np.asarray, trained.weights)
        self.first_noise_, self.prior_ = chosen
        self.n_iter_ = trained.epochs
        self._likelihood = likelihood
        self._compiled = model, built.state

    def _model(self, features: int, rows: int, likelihood: Likelihood) -> tuple[Model, Built]:
        """The network, built from its parameters, and what programs are compiled for."""
        network = self.network
        if network is None:
            network = _networks.default(self.hidden)
        outputs, seed = likelihood.outputs, self.seed_
        if self.method == "ensemble":
            if is_module(network):
                raise ValueError(
                    "The members of an ensemble begin with different weights, and network is a "
                    "module that has some already. Give a function `make(features, outputs, rngs)` "
                    "that returns one."
                )
            built = _members(
                [
                    _networks.build(network, features, outputs, int(each))
                    for each in np.random.default_rng(seed).integers(2**31, size=self.members)
                ]
            )
        else:
            built = _networks.build(network, features, outputs, seed)
        batch = self.batch_size or next((b for n, b in BATCHES.items() if rows <= n), 256)
        model = Model(
            built.apply, bool(built.state), likelihood, self.method, self.samples, batch
        )
        return model, built

    def _check_options(self) -> None:
        """Raises if a constructor's argument is none of what it may be."""
        if self.method not in METHODS:
            raise ValueError(f"method is one of {', '.join(METHODS)}; got {self.method!r}.")
        for name in ("members", "samples", "batch_size", "max_epochs"):
            value = getattr(self, name)
            optional = name in ("batch_size", "max_epochs")
            if not (optional and value is None) and not _is_count(value):
                none = " or None" if optional else ""
                raise ValueError(f"{name} is a whole number from 1{none}, got {value!r}.")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction is between 0 and 1, got {self.validation_fraction!r}."
            )
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is positive, got {self.learning_rate!r}.")
        if self.network is None and not (
            isinstance(self.hidden, Sequence) and all(map(_is_count, self.hidden))
        ):
            raise ValueError(
                f"hidden is a tuple of whole numbers, a layer each, such as (50,); got "
                f"{self.hidden!r}."
            )

    def _scale_inputs(self, x: np.ndarray) -> np.ndarray:
        """Learns the units of the features, and which are constant; the rows in these units."""
        self._inputs = Scaling.of(x)
        self.constant_features_ = np.flatnonzero(self._inputs.constant)
        return self._inputs.scaled(x, "X")

    def _predicted(self, X: Any) -> Any:
        """Predictions in scaled units, with a leading axis of components."""
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        if not hasattr(self, "_compiled"):  # of a copy from a file or another process
            self._build()
        model, state = self._compiled
        inputs = self._inputs.scaled(x, "X")
        return _training.predict(model, self.weights_, state, self.seed_, inputs)

    def _build(self) -> Tree:
        """Makes the network of a fitted estimator anew; returns what its weights look like."""
        model, built = self._model(self.n_features_in_, 1, self._likelihood)
        self._compiled = model, built.state
        return _training.first_weights(model, built.params, self._likelihood.targets)

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_compiled"}

    # -- files

    def _kept(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a kind of estimator keeps in a file of its own: numbers and arrays."""
        raise NotImplementedError

    def _restore(self, numbers: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Takes back what `_kept` returned."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the fitted estimator to one file, which is whole or absent.

        It holds the arguments of the constructor, what was learnt (weights, units, classes, names
        of features, the seed), as JSON and arrays of NumPy. It holds no code: of a `network` of
        your own its weights are kept, and `load` is given the network again. Of `random_state`
        an integer is kept, and None otherwise.

        Args:
            path: of the file, taken as it is, without an ending of ours.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            TypeError: classes are neither numbers nor strings.
            OSError: the file cannot be written; an older one is then untouched.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        numbers, arrays = self._kept()
        header = {
            "estimator": type(self).__name__,
            "arguments": {name: _plain(name, v) for name, v in self.get_params(False).items()},
            "own network": self.network is not None,
            "numbers": numbers | {name: getattr(self, name) for name in FITTED},
            "features": [*map(str, getattr(self, "feature_names_in_", ()))],
        }
        arrays |= {f"inputs/{name}": array for name, array in self._inputs._asdict().items()}
        arrays |= {f"weights/{name}": array for name, array in _named(self.weights_)}
        _files.write(path, header, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], network: Leaf = None) -> Self:
        """A fitted estimator from a file that `save` wrote: it predicts the same.

        Args:
            path: of the file.
            network: the one that was fitted, if it was not the default one.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no file of an estimator, of another kind of estimator, of a later
                version, or damaged; the network is missing, or has other weights.
        """
        header, arrays = _files.read(path)
        if header.get("estimator") != cls.__name__:
            kind = header.get("estimator")
            raise ValueError(f"{path} holds a {kind}, not a {cls.__name__}: `{kind}.load(path)`.")
        if header["own network"] != (network is not None):
            raise ValueError(
                f"{path} holds the weights of a network of your own: give it, `load(path, "
                "network=...)`."
                if network is None
                else f"{path} holds the default network: leave out `network`."
            )
        arguments = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in header["arguments"].items()
        }
        made = cls(**arguments | {"network": network})
        for name in FITTED:
            setattr(made, name, header["numbers"][name])
        if header["features"]:
            made.feature_names_in_ = np.array(header["features"], object)
        made._inputs = Scaling(*(arrays[f"inputs/{name}"] for name in Scaling._fields))
        made.constant_features_ = np.flatnonzero(made._inputs.constant)
        made._restore(header["numbers"], arrays)
        made._take_weights(path, arrays)
        return made

    def _take_weights(self, path: Any, arrays: dict[str, np.ndarray]) -> None:
        like = self._build()
        kept = {name[8:]: a for name, a in arrays.items() if name.startswith("weights/")}
        wanted = {name: leaf.shape for name, leaf in _named(like)}
        if wanted != {name: array.shape for name, array in kept.items()}:
            raise ValueError(
                f"{path} holds the weights "
                f"{ {name: array.shape for name, array in kept.items()} }, and the network has "
                f"{wanted}: it is not the one that was fitted."
            )
        leaves = [kept[name] for name in wanted]
        self.weights_ = jax.tree.unflatten(jax.tree.structure(like), leaves)


# Numbers that are set by `fit`, for both kinds.
FITTED = ("seed_", "n_iter_", "first_noise_", "prior_", "n_features_in_")


def _named(tree: Tree) -> list[tuple[str, Leaf]]:
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in paths]


def _plain(name: str, value: Any) -> Any:
    """An argument of the constructor as JSON has it."""
    if name == "network" or (name == "random_state" and not isinstance(value, int | np.integer)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _members(each: Sequence[Built]) -> Built:
    """Networks as one, whose parameters and state have an axis of members."""

    def stacked(*leaves: Any) -> Any:
        return jax.numpy.stack(leaves)

    params = jax.tree.map(stacked, *(built.params for built in each))
    return each[0]._replace(params=params, state=jax.tree.map(stacked, *(b.state for b in each)))


def _seed(random_state: Any) -> int:
    """An integer, which is itself its seed; or one drawn from a generator or NumPy's global one."""
    from sklearn.utils import check_random_state

    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        check_random_state(random_state)  # raises if it is negative or too large
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """What an argument lists, which may be one number."""
    listed = value if isinstance(value, Sequence | np.ndarray) else (value,)
    fits = [isinstance(v, int | float | np.number) and math.isfinite(v) for v in listed]
    if not fits or not all(fits):
        raise ValueError(f"{name} is a number or a tuple of numbers to try, got {value!r}.")
    return tuple(map(float, listed))


def _positive(name: str, value: Any) -> tuple[float, ...]:
    listed = numbers(name, value)
    if min(listed) <= 0:
        raise ValueError(f"{name} is positive, got {value!r}.")
    return listed


def _told(text: str) -> None:
    print(f"\r{text}   ", end="", file=sys.stderr, flush=True)


def held_out(rows: int, fraction: float, random: np.random.Generator) -> np.ndarray:
    """Numbers of validation rows, drawn from all: that share, and at least one."""
    return random.permutation(rows)[: max(round(fraction * rows), 1)]


def held_out_of_each(labels: np.ndarray, fraction: float, random: np.random.Generator) -> np.ndarray:
    """That share of the rows of each class, rounded down: every class stays in the training."""
    each = (np.flatnonzero(labels == label) for label in np.unique(labels))
    chosen = [random.permutation(rows)[: int(fraction * len(rows))] for rows in each]
    return np.concatenate(chosen)
