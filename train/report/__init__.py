"""How settings are read, and results kept and shown."""
