"""The command line: one small module a command, and ``main`` that binds them."""
