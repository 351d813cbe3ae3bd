"""Inner loops of the library, each with a plain-JAX reference to compare it with."""

from cgjax.kernels._recurrence import (
    Implementation as Implementation,
)
from cgjax.kernels._recurrence import (
    independent_recurrence as independent_recurrence,
)
from cgjax.kernels._recurrence import (
    sampled_independent_recurrence as sampled_independent_recurrence,
)
from cgjax.kernels.random_bits import (
    grouped_words as grouped_words,
)
from cgjax.kernels.random_bits import (
    random_words as random_words,
)
from cgjax.kernels.random_bits import (
    standard_normal as standard_normal,
)
from cgjax.kernels.random_bits import (
    uniform as uniform,
)
