"""Tokenizers: the wrapper, training one, loading one that somebody else made."""
