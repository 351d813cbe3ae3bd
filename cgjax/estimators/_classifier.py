"""Classification with calibrated probabilities, in scikit-learn's conventions."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from cgjax._static import Leaf
from cgjax.estimators._base import Estimator, held_out_of_each
from cgjax.estimators._likelihoods import Classification
from cgjax.estimators._methods import MethodName
from cgjax.estimators._scikit_learn import ClassifierMixin


class BayesianClassifier(ClassifierMixin, Estimator):
    """TODO"""

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

    def fit(self, X: Any, y: Any) -> Self:
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import column_or_1d, validate_data

        self._check_options()
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has 1 class, {self.classes_[0]!r}, and a classifier needs at least 2: rows of "
                "another class are missing."
            )
        self._train(
            self._scale_inputs(X),
            labels.astype(np.int32),
            Classification(len(self.classes_)),
            (0.0,),
            lambda r: held_out_of_each(labels, self.validation_fraction, r),
        )
        return self

    def predict(self, X: Any) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        probabilities = np.asarray(self._predicted(X), np.float64).mean(0)
        return probabilities / probabilities.sum(1, keepdims=True)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        return np.log(self.predict_proba(X))

    def _kept(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        classes = self.classes_
        if classes.dtype == object:
            if not all(isinstance(name, str) for name in classes):
                raise TypeError(
                    f"Classes in a file are numbers or strings, got {classes.tolist()}. Fit the "
                    "classifier on such labels."
                )
            classes = classes.astype(str)
        return {"classes are objects": self.classes_.dtype == object}, {"classes": classes}

    def _restore(self, numbers: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        classes = arrays["classes"]
        self.classes_ = classes.astype(object) if numbers["classes are objects"] else classes
        self._likelihood = Classification(len(classes))
