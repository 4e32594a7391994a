"""A small implementation of TAO VisualChangeNet *classify* that runs on a laptop: the ``embedded`` engine.

It answers the same command lines as NVIDIA's console commands and writes the same files:

    python -m deft_aoi.engines.embedded visual_changenet train|inference|evaluate -e SPEC.yaml [a.b=c ...]
    python -m deft_aoi.engines.embedded embedding image_embeddings -e SPEC.yaml [key=value ...]

It is reached by command line alone, like TAO; nothing in the library imports it. The model is our own siamese of about
10^5 parameters (see ``model.py``): its scores and checkpoints are not TAO's and are never presented as such.

Where it differs from TAO 7.3.0, on purpose:

* ``inference.csv`` keeps every input cell verbatim (TAO re-reads all-digit columns as numbers: ``00041138`` becomes
  ``41138``).
* every image of every row is checked before the first step (TAO fails at the row, or never reads it).
* every failure writes a FAILURE line and exits 1 (TAO is silent on assertion, key and runtime errors).
* the contrastive loss is per sample (TAO broadcasts ``(B,)`` against ``(B, 1)``); the status file says so.
* several goldens (``num_golden`` > 1) are chosen the same way every time, and inference needs no full batch.
* a relative ``-e`` path is read (TAO ignores a bare file name silently).
"""
