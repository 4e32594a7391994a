"""Pool, embeddings, nearest neighbours, selection: what decides which samples the next model learns from.

Public names: ``pairs`` (pre-generated pairs), ``pool`` (one table of real and synthetic rows), ``store`` (embeddings),
``encoders``, ``jobs`` (parquet in and out of the ``embedding`` command), ``neighbours``, ``select``, ``shards``.
"""
