"""Makes `cluster` importable from the tests beside it."""
