"""scikit-learn's base classes; where it is not installed, stand-ins that say how to install it."""

from typing import TYPE_CHECKING, Any, NoReturn

MISSING = (
    "cgjax.estimators needs scikit-learn, which is not installed: `pip install "
    "'cgjax[estimators]'`, or `pip install scikit-learn`. All else of cgjax works without it."
)

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
else:
    try:
        from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    except ModuleNotFoundError:

        class BaseEstimator:
            """Raises when an estimator is made: `import cgjax.estimators` works without it."""

            def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
                raise ImportError(MISSING)

        class ClassifierMixin:
            """Stands in for scikit-learn's."""

        class RegressorMixin:
            """Stands in for scikit-learn's."""


__all__ = ["MISSING", "BaseEstimator", "ClassifierMixin", "RegressorMixin"]
