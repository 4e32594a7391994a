"""Pool, embeddings, nearest neighbours, selection: what decides which samples the next model learns from.

Public names: ``pregen_scan`` and ``pregen_staging`` (pre-generated pairs), ``pool`` (one table of real and synthetic rows),
``settings`` (``MiningConfig`` and every constant), ``store`` (embeddings),
``encoders``, ``jobs`` (parquet in and out of the ``embedding`` command), ``neighbours``, ``select``, ``shards``.
"""
