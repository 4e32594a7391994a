"""Coverage-guided fuzzing of one reader with atheris, from the seeds of ``fuzz.py`` and with its judgement.

Usage: python tests/security/guided.py KIND SECONDS FOLDER. Exit codes: 0; 77 (libFuzzer's) where a reader raised something
else than its typed error or took over 2 seconds; the input that did it is left in FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["deft_aoi", "yaml", "csv", "json", "pickletools", "zipfile"]):
    import csv  # noqa: F401
    import json  # noqa: F401
    import pickletools  # noqa: F401
    import zipfile  # noqa: F401

    import yaml  # noqa: F401

    import deft_aoi.contract.changenet_csv
    import deft_aoi.contract.checkpoint_scan
    import deft_aoi.contract.spec
    import deft_aoi.contract.text
    import deft_aoi.mining.defect_types  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))
from fuzz import attempt, seeds  # noqa: E402

KINDS = ("YAML", "defect_spec", "checkpoint", "CSV")
"""Readers whose branches are Python's: only there can coverage guide. Parquet and images are parsed by C++ and C."""


def main(argv: list[str]) -> None:
    """Entry point; libFuzzer ends the process."""
    kind, seconds, folder = argv[1], argv[2], Path(argv[3])
    name, body, read = seeds()[kind]
    corpus, path = folder / "corpus", folder / name
    corpus.mkdir(parents=True)
    (corpus / "seed").write_bytes(body)

    def one(data: bytes) -> None:
        wrong = attempt(path, data, read)
        if wrong:
            raise RuntimeError(f"{kind}: {wrong}")

    atheris.Setup(
        [
            argv[0],
            f"-max_total_time={seconds}",
            "-max_len=4096",
            "-rss_limit_mb=1500",
            "-timeout=10",
            "-seed=1",
            "-verbosity=0",
            "-print_final_stats=1",
            f"-artifact_prefix={folder}/",
            str(corpus),
        ],
        one,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
