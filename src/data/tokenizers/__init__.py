"""Tokenizers: the wrapper, how one is trained, and how somebody's is opened."""
