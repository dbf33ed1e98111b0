"""Corpora: text files, tables, the hub, streams, shards, and the cache of derived files."""
