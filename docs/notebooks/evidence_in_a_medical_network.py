# %% [markdown]
# # Evidence in a medical network
#
# A Bayesian network from a file, and questions to it: what do findings say about diseases, and
# what do they stop saying once another cause is known? All answers are exact.
#
# The file is the "chest clinic" of Lauritzen and Spiegelhalter 1988, whose numbers they made up,
# here with severity in three states. Files of the Bayesian Interchange Format are what public
# repositories of such networks hold.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import cgjax as cg
from train.data.bayesian_networks import parse_bif
from train.models.bayesian_network import network, observed, tables

variables = parse_bif("""
variable asia { type discrete [ 2 ] { yes, no }; }
variable smoke { type discrete [ 2 ] { yes, no }; }
variable tuberculosis { type discrete [ 2 ] { yes, no }; }
variable cancer { type discrete [ 2 ] { yes, no }; }
variable bronchitis { type discrete [ 2 ] { yes, no }; }
variable xray { type discrete [ 2 ] { shadow, clear }; }
variable dyspnoea { type discrete [ 3 ] { severe, mild, none }; }
probability ( asia ) { table 0.01, 0.99; }
probability ( smoke ) { table 0.5, 0.5; }
probability ( tuberculosis | asia ) { (yes) 0.05, 0.95; (no) 0.01, 0.99; }
probability ( cancer | smoke ) { (yes) 0.1, 0.9; (no) 0.01, 0.99; }
probability ( bronchitis | smoke ) { (yes) 0.6, 0.4; (no) 0.3, 0.7; }
probability ( xray | tuberculosis, cancer ) {
  (yes, yes) 0.98, 0.02; (yes, no) 0.98, 0.02; (no, yes) 0.98, 0.02; (no, no) 0.05, 0.95;
}
probability ( dyspnoea | tuberculosis, cancer, bronchitis ) {
  (yes, yes, yes) 0.6, 0.3, 0.1; (yes, yes, no) 0.4, 0.3, 0.3;
  (yes, no, yes) 0.6, 0.3, 0.1; (yes, no, no) 0.4, 0.3, 0.3;
  (no, yes, yes) 0.6, 0.3, 0.1; (no, yes, no) 0.4, 0.3, 0.3;
  (no, no, yes) 0.3, 0.5, 0.2; (no, no, no) 0.02, 0.08, 0.9;
}
""")
clinic, parameters = network(variables), tables(variables)

# %% [markdown]
# ## The graph

# %% alt="The chain graph: visits to Asia and smoking, three diseases, X-ray and dyspnoea."
cg.chain_graph(lambda: {"xray": (v := clinic(parameters))["xray"], "dyspnoea": v["dyspnoea"]})()

# %% [markdown]
# ## What findings say
#
# `cg.condition` is the network given what was seen, and `cg.exact_marginals` the probability of
# every state of every variable.

# %%
DISEASES = ("tuberculosis", "cancer", "bronchitis")


def posterior(**seen):
    """The probability of each disease, given states of other variables by name."""
    conditioned = cg.condition(clinic, observed(variables, seen))
    marginals = cg.exact_marginals(conditioned)(parameters)
    return [float(marginals[disease][0]) for disease in DISEASES]


cases = {
    "nothing is known": {},
    "shadow on the X-ray": {"xray": "shadow"},
    "and smokes": {"xray": "shadow", "smoke": "yes"},
    "and was in Asia, smokes not": {"xray": "shadow", "smoke": "no", "asia": "yes"},
    "and tuberculosis is found": {"xray": "shadow", "tuberculosis": "yes"},
}
answers = {told: posterior(**seen) for told, seen in cases.items()}

# %% alt="Bars of the probability of three diseases after each finding."
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), sharey=True)
for k, (side, disease) in enumerate(zip(axes, DISEASES, strict=True)):
    values = [answer[k] for answer in answers.values()]
    side.barh(range(len(values)), values, color=["#b8b8b8"] + ["#0072B2"] * 4)
    for row, value in enumerate(values):
        side.text(value + 0.02, row, f"{value:.3f}", va="center", fontsize=9)
    side.set(title=disease, xlim=(0, 1.3), xticks=(0, 0.5, 1), xlabel="probability")
axes[0].set_yticks(range(len(answers)), list(answers))
axes[0].invert_yaxis()

# %% [markdown]
# The last row is *explaining away*: tuberculosis accounts for the shadow, so that cancer is as
# probable as before the X-ray was taken. Feed-forward could not say that; it only follows arrows.
#
# ## A reading that may be wrong
#
# Soft evidence weighs the states of a variable by how probable the reading is in each. Here the
# radiologist reports a shadow; the axis says how often she does so where there is none.

# %% alt="Probability of cancer against the rate of false alarms, falling from 0.49 to 0.055."
alarms = jnp.linspace(0.0, 0.9, 46)
prior, shadow = answers["nothing is known"][1], answers["shadow on the X-ray"][1]


@jax.jit
@jax.vmap
def cancer(alarm):
    reading = cg.SoftEvidence(jnp.log(jnp.stack([jnp.array(0.9), alarm + 1e-9])))
    seen = cg.condition(clinic, {"xray": reading})
    return cg.exact_marginals(seen)(parameters)["cancer"][0]


figure, axes = plt.subplots()
axes.plot(alarms, cancer(alarms))
for value, at, text in ((shadow, 0.62, "a shadow for certain"), (prior, 0.01, "no X-ray at all")):
    axes.axhline(value, color="#888888", lw=0.9, ls=(0, (4, 3)))
    axes.text(at, value + 0.01, text, fontsize=9, color="#555555")
axes.set(
    title="The more false alarms, the less a reported shadow says",
    xlabel="P(reports a shadow | there is none)",
    ylabel="P(cancer | reported)",
    xlim=(0, 0.9),
    ylim=(0, 0.56),
)

# %% [markdown]
# ## How probable are the findings themselves?

# %%
both = observed(variables, {"xray": "shadow", "dyspnoea": "severe"})
evidence = jnp.exp(cg.log_evidence(clinic)(both, parameters))
print(f"shadow and severe dyspnoea: {evidence:.4f}")

# %% [markdown]
# Where to go from here: [evidence](../evidence.md), which also learns the tables from incomplete
# records; [evidence or intervention](../interventions.md); [reading
# files](../data.md#bayesian-networks).
