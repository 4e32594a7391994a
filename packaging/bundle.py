"""Builds the installable skill folder ``dist/tao-run-deft-aoi/`` from tracked files only, with a manifest of digests.

Usage: ``python packaging/bundle.py [--output DIR]``. Exit codes: 0 done, 3 a file that the skill needs is not tracked.

What a user does not run stays out: tests, benchmarks, CI, build metadata. ``MANIFEST.json`` lists every file with its
SHA-256; pre-flight compares them, so that a half-copied install is named and not guessed around.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

NAME = "tao-run-deft-aoi"
AGENT_PLUGINS_SCHEMA = "https://agent-plugins.org/schemas/1.0.0/plugin.schema.json"
BESIDE = "`scripts/` is the folder beside this file"
TWO_ABOVE = "`scripts/`, `references/` and `agents/` are two levels above this file (`../../scripts/`)"
ROOT = Path(__file__).resolve().parents[1]

INCLUDED_FOLDERS = (
    ".claude-plugin",
    ".codex-plugin",
    ".cursor-plugin",
    "agents",
    "hooks",
    "references",
    "schemas",
    "scripts",
    "specs",
)
INCLUDED_FILES = ("SKILL.md", "README.md", "LICENSE", "LICENSE-docs", "NOTICE", "requirements.lock", "requirements-torch.txt")
REQUIRED = (
    "SKILL.md",
    "hooks/hooks.json",
    "hooks/guard.py",
    "hooks/guard_rules.py",
    "agents/reporter.md",
    ".claude-plugin/plugin.json",
    "scripts/preflight.py",
    "scripts/run_loop.py",
    "scripts/setup_env.py",
    "scripts/deft_aoi/bootstrap.py",
)
EXCLUDED_SUFFIXES = (".pyc", ".pth", ".ckpt", ".safetensors", ".parquet")


def tracked(root: Path = ROOT) -> list[str]:
    """Paths of the tracked files that belong to the bundle, sorted."""
    out = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
    names = [name for name in out.decode().split("\0") if name]
    return sorted(
        name
        for name in names
        if (name in INCLUDED_FILES or name.split("/")[0] in INCLUDED_FOLDERS)
        and not name.endswith(EXCLUDED_SUFFIXES)
        and (root / name).is_file()
        and not (root / name).is_symlink()
    )


def for_other_hosts(root: Path = ROOT) -> dict[str, str]:
    """Files that installed plugins look for: path → text.

    An Agent Plugins 1.0.0 host reads ``plugin.json`` (its fields are closed) and ``skills/<name>/SKILL.md``; Codex and
    Cursor list a skill only from a child folder of ``skills``, and Claude Code prefers it. It is the skill's whole text: a
    pointer costs every session a turn. The copy at the top serves hosts that take the folder itself for the skill. README.md
    links no file that stays in the repository.
    """
    claude = json.loads((root / ".claude-plugin/plugin.json").read_text(encoding="utf-8"))
    skill = (root / "SKILL.md").read_text(encoding="utf-8")
    if skill.count(BESIDE) != 1:
        raise SystemExit(f"bundle: SKILL.md no longer says once where its folders are: {BESIDE}")
    found = {
        "plugin.json": json.dumps({"$schema": AGENT_PLUGINS_SCHEMA, **claude}, indent=2) + "\n",
        f"skills/{NAME}/SKILL.md": skill.replace(BESIDE, TWO_ABOVE),
    }
    for name in (".codex-plugin/plugin.json", ".cursor-plugin/plugin.json"):
        manifest = json.loads((root / name).read_text(encoding="utf-8"))
        found[name] = json.dumps({**manifest, "skills": "./skills/"}, indent=2) + "\n"
    readme = re.sub(r"!\[[^\]]*\]\([^)]*\)\n", "", (root / "README.md").read_text(encoding="utf-8"))
    found["README.md"] = re.sub(
        r"\[([^\]]*)\]\(((?:docs|benchmarks)/[^)]*|CONTRIBUTING.md|SECURITY.md)\)", r"\1 (in the repository)", readme
    )
    return found


def build(output: Path, root: Path = ROOT) -> Path:
    """Writes the folder anew and returns its path.

    Raises:
        SystemExit: a required file is not tracked (exit 3).
    """
    names = tracked(root)
    absent = [name for name in REQUIRED if name not in names]
    if absent:
        raise SystemExit(f"bundle: not tracked: {', '.join(absent)}")
    target = output / NAME
    shutil.rmtree(target, ignore_errors=True)
    digests = {}
    for name in names:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, copy)
        copy.chmod(0o644)
    made = for_other_hosts(root)
    for name, text in made.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")
        (target / name).chmod(0o644)
    for name in sorted({*names, *made}):
        digests[name] = hashlib.sha256((target / name).read_bytes()).hexdigest()
    manifest = {
        "name": NAME,
        "version": json.loads((root / ".claude-plugin/plugin.json").read_text())["version"],
        "files": digests,
    }
    (target / "MANIFEST.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return target


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder that gets the skill's folder (default dist/)")
    args = parser.parse_args(argv)
    try:
        target = build(args.output)
    except SystemExit as error:
        print(error, file=sys.stderr)
        return 3
    files = [p for p in target.rglob("*") if p.is_file()]
    print(f"{target}: {len(files)} files, {sum(p.stat().st_size for p in files) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
