"""Node families: what one random variable is, given its natural parameter ([A] sections 2-4)."""

from cgjax._gaussian.belief import Belief
from cgjax.nodes._binary import Bernoulli, Binary, Spin
from cgjax.nodes._bounded import (
    Arctan,
    HardSigmoid,
    HardTanh,
    ReLU6,
    Sine,
    SoftSign,
    SparseSigmoid,
)
from cgjax.nodes._categorical import Categorical
from cgjax.nodes._continuous_bernoulli import ContinuousBernoulli
from cgjax.nodes._dense_grid import DenseGrid
from cgjax.nodes._exponential import CELU, ELU, SELU
from cgjax.nodes._family import SMALLEST_SCALE, Family
from cgjax.nodes._gated import GELU, HardSiLU, Mish, SiLU
from cgjax.nodes._gaussian import Gaussian
from cgjax.nodes._grid import Grid
from cgjax.nodes._inverse_chi import InverseChi
from cgjax.nodes._linear_chain import LinearChain
from cgjax.nodes._masks import SMALLEST_KEEP, BernoulliMask, GaussianMask, SoftClamp
from cgjax.nodes._rectified import RectifiedGaussian
from cgjax.nodes._rectifiers import SOFTPLUS_SCALE, LeakyReLU, NairHinton, ReLU, Softplus
from cgjax.nodes._semi_markov import SemiMarkov
from cgjax.nodes._sparse_plus import SparsePlus
from cgjax.nodes._tag_schemes import bio_transitions
from cgjax.nodes._tree import Tree

__all__ = [
    "SMALLEST_KEEP",
    "SMALLEST_SCALE",
    "SOFTPLUS_SCALE",
    "Belief",
    "Bernoulli",
    "BernoulliMask",
    "Binary",
    "Categorical",
    "ContinuousBernoulli",
    "DenseGrid",
    "Family",
    "Gaussian",
    "GaussianMask",
    "Grid",
    "InverseChi",
    "LeakyReLU",
    "LinearChain",
    "NairHinton",
    "ReLU",
    "RectifiedGaussian",
    "SemiMarkov",
    "Softplus",
    "SoftClamp",
    "Spin",
    "Tree",
    "bio_transitions",
    "Arctan",
    "HardSigmoid",
    "HardTanh",
    "ReLU6",
    "Sine",
    "SoftSign",
    "SparseSigmoid",
    "CELU",
    "ELU",
    "SELU",
    "GELU",
    "HardSiLU",
    "Mish",
    "SiLU",
    "SparsePlus",
]
