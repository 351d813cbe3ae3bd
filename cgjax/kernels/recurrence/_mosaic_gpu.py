"""TODO."""
def forward(*a): raise NotImplementedError
cotangent = forward
