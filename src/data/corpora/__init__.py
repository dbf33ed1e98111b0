"""What people bring: files, tables, streams, shards, and the cache."""
