"""cgjax: neural networks as chain graphs."""
