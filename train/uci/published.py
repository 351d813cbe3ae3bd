"""Published figures for the regression tables, as printed: what our own stand beside.

Test log-likelihood and RMSE in the units of the targets, one hidden layer of 50 ReLU units (100
for protein), the standard splits. Numbers stay strings, since the printed digits count. What
follows ± is as in the source: a standard error, or a standard deviation over splits where marked.
"""

from typing import NamedTuple

from train.uci.settings import SETS

SHORT = {"log likelihood": "LL", "rmse": "RMSE"}


class Column(NamedTuple):
    """A column of a published table."""

    title: str
    source: str
    figures: dict[str, list[str]]  # by short name, in the order of `SETS`

    def printed(self, figure: str, data: str) -> str:
        """A figure as it is printed; "-" where there is none."""
        values = self.figures.get(SHORT[figure])
        return values[SETS.index(data)] if values else "-"


def _columns(text: str) -> tuple[Column, ...]:
    """Columns from a line with title and source each, and below it a line for each figure."""
    made: list[Column] = []
    for line in text.strip().splitlines():
        if "|" in line:
            title, source = line.split(" | ")
            made.append(Column(title, source, {}))
        else:
            name, *values = line.split()
            made[-1].figures[name] = values
    return tuple(made)


# ± is not explained there.
PAPER = _columns("""
[B] BP | [B] Table 2
    LL -2.6±0.4 -3.2±0.3 -2.2±0.2 1.1±0.0 4.0±2.1 -2.8±0.0 -2.9±0.0 -1.0±0.1 -2.8±0.4
    RMSE 3.5±1.0 6.1±0.8 2.7±0.4 0.1±0.0 0.0±0.0 4.1±0.2 4.4±0.1 0.6±0.0 64±19
[B] DE | [B] Table 2
    LL -2.5±0.1 -3.4±0.1 -2.2±0.1 0.4±0.0 2.9±0.1 -3.0±0.0 -3.0±0.0 -0.9±0.1 -2.7±0.2
    RMSE 3.3±1.0 7.7±0.6 2.7±0.3 0.2±0.0 0.0±0.0 4.3±0.2 5.1±0.1 0.6±0.0 59±17
[B] Reparam | [B] Table 2
    LL -3.2±0.7 -3.9±0.2 -3.0±0.3 -2.3±0.5 4.9±0.1 -3.2±0.1 -3.5±0.1 -1.4±0.2 -2.5±0.3
    RMSE 3.5±1.1 6.8±0.5 2.9±0.3 0.1±0.0 0.0±0.0 4.2±0.2 4.5±0.0 0.6±0.0 4.1±0.9
""")

ANCHORS = _columns("""
PBP | Lakshminarayanan et al. 2017, Table 1
    LL -2.57±.09 -3.16±.02 -2.04±.02 .90±.01 3.73±.01 -2.84±.01 -2.97 -.97±.01 -1.63±.02
    RMSE 3.01±.18 5.67±.09 1.80±.05 .10 .01 4.12±.03 4.73±.01 .64±.01 1.02±.05
MC dropout | Lakshminarayanan et al. 2017, Table 1
    LL -2.46±.25 -3.04±.09 -1.99±.09 .95±.03 3.80±.05 -2.80±.05 -2.89±.01 -.93±.06 -1.55±.12
    RMSE 2.97±.85 5.23±.53 1.66±.19 .10 .01 4.02±.18 4.36±.04 .62±.04 1.11±.38
deep ensemble (± deviation) | Lakshminarayanan et al. 2017, Table 1
    LL -2.41±.25 -3.06±.18 -1.38±.22 1.20±.02 5.63±.05 -2.79±.04 -2.83±.02 -.94±.12 -1.18±.21
    RMSE 3.28±1.00 6.03±.58 2.09±.29 .09 .00 4.11±.17 4.71±.06 .64±.04 1.58±.48
MC dropout, 10x epochs, grid | Gal, DropoutUncertaintyExps
    LL -2.40±.04 -2.93±.02 -1.21±.01 1.14±.01 4.45 -2.80 -2.87 -.93 -1.25±.01
    RMSE 2.90±.18 4.82±.16 .54±.06 .08 .00 4.01±.04 4.27±.02 .62 .67±.05
TAGI (± deviation) | cuTAGI benchmarks
    LL -2.578±.327 -3.204±.109 -1.808±.284 .893±.060 3.540 -2.879 -2.954 -.975 -1.597±.115
    RMSE 3.146±.910 5.865±.518 1.317±.221 .095 .007 4.129 4.615 .639 1.037±.280
TAGI-V | cuTAGI benchmarks
    LL -2.541 -3.208 -1.851 .883 3.748 -2.841 -2.924 -.972 -1.643
    RMSE 3.120 6.048 1.882 .101 .006 4.148 4.644 .639 1.797
DVI | Wu et al. 2019, Table 2, heteroscedastic
    LL -2.41±.02 -3.06±.01 -1.01±.06 1.13 6.29±.04 -2.80 -2.85±.01 -.90±.01 -.47±.03
dDVI | Wu et al. 2019, Table 2, heteroscedastic
    LL -2.42 -3.07 -1.06 1.13 6.22 -2.80 -2.84 -0.91 -0.47
MCVI | Wu et al. 2019, Table 2
    LL -2.46 -3.07 -1.03 1.14 5.94 -2.80 -2.87 -.92 -.68
""")
DIAGONAL_DVI = next(column for column in ANCHORS if column.title == "dDVI")

# cuTAGI benchmarks: seconds of a split on a CPU, in the order of `SETS`.
TAGI_SECONDS = (0.137, 0.279, 0.494, 3.96, 6.34, 1.42, 9.97, 0.214, 0.140)


def number(printed: str) -> float:
    """The value of a printed figure.

    Example:
        >>> number("-2.6±0.4")
        -2.6
    """
    return float(printed.partition("±")[0])
