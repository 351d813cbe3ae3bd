"""The networks of the two papers."""
