"""Node families: what one random variable is, given its natural parameter."""

from cgjax.nodes._binary import Bernoulli as Bernoulli
from cgjax.nodes._binary import Binary as Binary
from cgjax.nodes._binary import Spin as Spin
from cgjax.nodes._categorical import Categorical as Categorical
from cgjax.nodes._family import SMALLEST_SCALE as SMALLEST_SCALE
from cgjax.nodes._family import Belief as Belief
from cgjax.nodes._family import Family as Family
from cgjax.nodes._gaussian import Gaussian as Gaussian
from cgjax.nodes._masks import BernoulliMask as BernoulliMask
from cgjax.nodes._masks import GaussianMask as GaussianMask
from cgjax.nodes._masks import SoftClamp as SoftClamp
from cgjax.nodes._rectified import LeakyReLU as LeakyReLU
from cgjax.nodes._rectified import NairHinton as NairHinton
from cgjax.nodes._rectified import RectifiedGaussian as RectifiedGaussian
from cgjax.nodes._rectified import ReLU as ReLU
from cgjax.nodes._rectified import Softplus as Softplus
