"""``deft <verb> …``: the same scripts, from an installed package or a checkout."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def scripts_dir() -> Path:
    """The folder of the scripts: beside the package in a checkout, package data in a wheel."""
    package = Path(__file__).resolve().parent
    bundled = package / "_bundle" / "scripts"
    return bundled if bundled.is_dir() else package.parent


def verbs() -> list[str]:
    """Every command, sorted."""
    return sorted(p.stem for p in scripts_dir().glob("*.py"))


def main(argv: list[str] | None = None) -> int:
    """Run one verb."""
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in ("-h", "--help"):
        print("usage: deft VERB [ARG ...]\n\nverbs:\n  " + "\n  ".join(verbs()))
        return 0 if args else 2
    name = args[0].removesuffix(".py").replace("-", "_")
    if name not in verbs():
        print(f"usage: there is no verb {args[0]!r}; deft --help lists them", file=sys.stderr)
        return 2
    path = scripts_dir() / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"deft_verb_{name}", path)
    if spec is None or spec.loader is None:  # the file was just listed, so this is a broken installation
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    sys.argv[0] = str(path)
    spec.loader.exec_module(module)
    code: int = module.main(args[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
