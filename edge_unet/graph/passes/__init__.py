"""Passes that turn an exported graph into the canonical form, one per file. Each takes an ir.Model and changes it."""
