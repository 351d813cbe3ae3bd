"""Classification with calibrated probabilities, in scikit-learn's conventions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cgjax._static import Leaf
from cgjax.estimators._base import Estimator
from cgjax.estimators._likelihoods import Classification
from cgjax.estimators._methods import MethodName
from cgjax.estimators._options import held_out_of_each
from cgjax.estimators._scikit_learn import ClassifierMixin
from cgjax.estimators._training import Rows

NO_NOISE = 0.0  # in place of its first level


class BayesianClassifier(ClassifierMixin, Estimator):
    """Classification whose probabilities hold what the weights leave open.

        p(class | x) = E_q[softmax(f(x))]_class,   weights of f ~ q

    Features are scaled inside, to mean 0 and deviation 1 over the rows of the training. A fifth of
    the rows of each class chooses the prior and when to stop; then all rows are trained on.

    **Missing values** raise: fill them in, or leave the rows out. A **constant feature** is
    ignored, in predictions too. **Classes** are numbers or strings, at least two. Rows have no
    weights.

    Args:
        network: None for the default one, `hidden` layers of ReLU nodes; or one of your own for
            float32[rows, features], in scaled units, with a logit for each
            class:
            a function `make(features, outputs, rngs)` that returns a module of Flax NNX (or another
            that `cgjax.functional` takes), such a module, which begins with the parameters that it
            has, or a `Network` of two functions.
        method: "moments" trains a posterior of independent Gaussian weights, and predicts, by
            propagating means and variances; "sampling" trains it by local reparameterisation and
            predicts by `samples` draws of all weights; "ensemble" trains `members` networks.
        hidden: units of each hidden layer of the default network.
        prior: the standard deviation of each weight before data; several are tried, the first is
            the most trusted. None: (1.0, 3.0), and (0.3, 1.0) for ensembles.
        learning_rate: of Adam; it falls to 0 as a cosine.
        batch_size: rows of a step. None: 32, from 5,000 rows on 64, from 20,000 on 256.
        max_epochs: of a training. None: as many as make 10,000 steps, from 5,000 rows on
            20,000.
        early_stopping: whether a training ends where validation rows are predicted worse than
            before for long, in its second half. If so, so many epochs are what the last training,
            on all rows, takes.
        validation_fraction: the share of rows on which values are chosen. Below 10 rows there are
            none: the first values are taken.
        members: of an ensemble.
        samples: networks that are drawn for predictions by "sampling".
        progress: whether a line on the standard error says how far the training is.
        random_state: an integer, a `numpy.random.RandomState`, or None for NumPy's global one: of
            validation rows, first weights, the order of rows, and draws. With an integer the same
            rows give the same estimator.

    Attributes:
        weights_: what was learnt of weights, a tree of arrays.
        constant_features_: int[columns], the features that had one value in all rows.
        classes_: the labels, sorted.
        prior_: what validation rows chose.
        n_iter_: epochs of the last training.
        seed_: `random_state` if that is an integer, else what was drawn from it.

    Example:
        >>> random = np.random.default_rng(0)
        >>> x = random.normal(size=(100, 2))
        >>> y = np.where(x.sum(1) > 0, "above", "below")
        >>> model = BayesianClassifier(hidden=(8,), max_epochs=100, random_state=0).fit(x, y)
        >>> print(model.predict([[2.0, 2.0], [-2.0, -2.0]]), model.predict_proba(x).shape)
        ['above' 'below'] (100, 2)

    Source: [B] 4.2.
    """

    def __init__(
        self,
        network: Leaf = None,
        *,
        method: MethodName = "moments",
        hidden: Sequence[int] = (50,),
        prior: Sequence[float] | float | None = None,
        learning_rate: float = 0.01,
        batch_size: int | None = None,
        max_epochs: int | None = None,
        early_stopping: bool = True,
        validation_fraction: float = 0.2,
        members: int = 5,
        samples: int = 100,
        progress: bool = False,
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.method = method
        self.hidden = hidden
        self.prior = prior
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.members = members
        self.samples = samples
        self.progress = progress
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "BayesianClassifier":
        """Learns from rows.

        Args:
            X: float[rows, features], numbers without gaps, in any units.
            y: labels, [rows], numbers or strings.

        Returns:
            The estimator.

        Raises:
            ValueError: the arrays are not of these forms, or hold what is missing or infinite;
                there is one class; an argument of the constructor is out of its range; the
                outputs of the network do not fit; the training diverges.
            TypeError: X is sparse; `network` is no network.
        """
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import column_or_1d, validate_data

        self._check_options()
        self._forget()
        checked: Any = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        x, y = checked
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has 1 class, {self.classes_.tolist()[0]!r}, and a classifier needs at least 2: "
                "rows of another class are missing."
            )

        def held(random: np.random.Generator) -> np.ndarray:
            return held_out_of_each(labels, self.validation_fraction, random)

        rows = Rows(self._scale_inputs(x), labels.astype(np.int32))
        self._train(rows, Classification(len(self.classes_)), (NO_NOISE,), held)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row.

        Args:
            X: float[rows, features].

        Returns:
            Labels, [rows], of `classes_`.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: X has other features than in `fit`, gaps, or an entry too far from those for
                float32.
        """
        chosen = self.predict_proba(X).argmax(1)
        return self.classes_[chosen]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class.

        Args:
            X: float[rows, features].

        Returns:
            float64[rows, classes], in the order of `classes_`; rows sum to 1.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: X as for `predict`.
        """
        probabilities = np.asarray(self._predicted(X), np.float64).mean(0)
        return probabilities / probabilities.sum(1, keepdims=True)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of `predict_proba`; a probability below the smallest number counts as that.

        Args, returns, raises:
            As `predict_proba`.
        """
        return np.log(np.maximum(self.predict_proba(X), np.finfo(np.float64).tiny))

    def _kept(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        classes = self.classes_
        objects = classes.dtype == object
        if objects and not all(isinstance(name, str) for name in classes):
            raise TypeError(
                f"Classes in a file are numbers or strings, got {classes.tolist()}. Fit the "
                "classifier on such labels."
            )
        kept = classes.astype(str) if objects else classes
        return {"classes are objects": objects}, {"classes": kept}

    def _restore(self, numbers: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        classes = arrays["classes"]
        self.classes_ = classes.astype(object) if numbers["classes are objects"] else classes
        self._likelihood = Classification(len(classes))
