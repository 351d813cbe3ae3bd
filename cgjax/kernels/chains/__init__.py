"""Linear chains of discrete variables: partition function, marginals, samples and best paths.

Every function takes a `Chain`, whose arrays have one batch axis. `cgjax.nodes.LinearChain` is the
family made of them.
"""

from cgjax.kernels.chains._best import Best as Best
from cgjax.kernels.chains._best import best as best
from cgjax.kernels.chains._chain import Chain as Chain
from cgjax.kernels.chains._chain import with_ends as with_ends
from cgjax.kernels.chains._filter import filtered as filtered
from cgjax.kernels.chains._logarithmic import entropy as entropy
from cgjax.kernels.chains._paths import Drawn as Drawn
from cgjax.kernels.chains._paths import Labels as Labels
from cgjax.kernels.chains._paths import labels as labels
from cgjax.kernels.chains._paths import sample as sample
from cgjax.kernels.chains._paths import score as score
from cgjax.kernels.chains._sums import expectations as expectations
from cgjax.kernels.chains._sums import log_partition as log_partition
from cgjax.kernels.chains._two_states import TwoStateChain as TwoStateChain
from cgjax.kernels.chains._two_states import two_state_filter as two_state_filter
from cgjax.kernels.chains._two_states import two_state_smoother as two_state_smoother
from cgjax.kernels.chains._variance import neighbour_variance as neighbour_variance
