"""Builds the wheel: the package, and beside it as package data what a checkout has at its top level."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BUNDLED = ("SKILL.md", "agents", "references", "schemas", "specs", "requirements.lock", "requirements-torch.txt")


class BuildWithBundle(build_py):
    """Copies scripts, specs, schemas, lock files and the skill's text to ``deft_aoi/_bundle``, with a digest over all."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        root = Path(__file__).resolve().parent
        target = Path(self.build_lib) / "deft_aoi" / "_bundle"
        shutil.rmtree(target, ignore_errors=True)
        (target / "scripts").mkdir(parents=True)
        for script in sorted((root / "scripts").glob("*.py")):
            shutil.copyfile(script, target / "scripts" / script.name)
        for name in BUNDLED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copyfile(source, target / name)
        whole = hashlib.sha256()
        for path in sorted(p for p in target.parent.rglob("*") if p.is_file()):
            whole.update(f"{path.relative_to(target.parent)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        (target / "BUILD.sha256").write_text(whole.hexdigest() + "\n")


setup(cmdclass={"build_py": BuildWithBundle})
