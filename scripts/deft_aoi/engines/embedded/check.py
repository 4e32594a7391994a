"""``python -m deft_aoi.engines.embedded.check SPEC [key=value …]``: would this engine accept the spec for a training?

Exit 0 and nothing, or exit 1 and one line on standard error. Imports no PyTorch, so pre-flight can afford it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deft_aoi.engines.embedded.config import SpecError, load_experiment


def main(argv: list[str] | None = None) -> int:
    """Load the spec as ``visual_changenet train`` would."""
    args = sys.argv[1:] if argv is None else argv
    try:
        load_experiment(Path(args[0]), ["results_dir=/unused", *args[1:]], "train")
    except (SpecError, FileNotFoundError, IndexError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
