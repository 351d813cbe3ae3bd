"""Element-wise functions of Gaussian variables: kept as functions until moments are needed."""

from cgjax._beliefs.curves.curve import Curve, as_curve
from cgjax._beliefs.curves.general import Open
from cgjax._beliefs.curves.joint import Split

__all__ = ["Curve", "Open", "Split", "as_curve"]
