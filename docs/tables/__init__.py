"""The tables of README and the site, made from the JSON files under results/."""
