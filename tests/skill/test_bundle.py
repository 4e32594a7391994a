"""The installable folder: tracked files only, complete, with digests."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import deft_aoi

ROOT = Path(deft_aoi.__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    if subprocess.run(["git", "rev-parse", "--git-dir"], cwd=ROOT, capture_output=True).returncode != 0:
        pytest.skip("the bundle is built from tracked files: this is not a git checkout")
    specification = importlib.util.spec_from_file_location("bundle_module", ROOT / "packaging" / "bundle.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.build(tmp_path_factory.mktemp("dist"))


def test_every_file_is_listed_with_its_digest_and_nothing_else_is_there(bundle):
    manifest = json.loads((bundle / "MANIFEST.json").read_text())
    files = {str(p.relative_to(bundle)): p for p in bundle.rglob("*") if p.is_file() and p.name != "MANIFEST.json"}
    assert set(files) == set(manifest["files"])
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == manifest["files"][name]
    assert bundle.name == "tao-run-deft-aoi"


def test_other_hosts_find_the_skill_where_they_look(bundle):
    plugin = json.loads((bundle / "plugin.json").read_text())
    assert plugin["$schema"] == "https://agent-plugins.org/schemas/1.0.0/plugin.schema.json"
    assert set(plugin) <= {"$schema", "name", "version", "description", "author", "license", "keywords"}
    skill, top = bundle / "skills" / plugin["name"] / "SKILL.md", bundle / "SKILL.md"
    changed = [
        pair for pair in zip(skill.read_text().split("\n"), top.read_text().split("\n"), strict=True) if len(set(pair)) > 1
    ]
    assert [line for line, _ in changed if "`../../scripts/`" in line] == [line for line, _ in changed]
    assert len(changed) == 1
    assert (skill.parent / "../../scripts/preflight.py").is_file()
    for host in (".codex-plugin", ".cursor-plugin"):
        skills = bundle / json.loads((bundle / host / "plugin.json").read_text())["skills"]
        assert [p.parent.name for p in skills.glob("*/SKILL.md")] == [plugin["name"]]


def test_no_document_of_the_bundle_has_a_dead_link(bundle):
    import re

    documents = list(bundle.rglob("*.md"))
    assert len(documents) > 10
    dead = []
    for path in documents:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not (path.parent / link).exists():
                dead.append(f"{path.relative_to(bundle)}: {link}")
    assert dead == []


def test_no_bytecode_no_weights_no_tests(bundle):
    names = [str(p.relative_to(bundle)) for p in bundle.rglob("*")]
    assert names
    assert not [n for n in names if n.endswith((".pyc", ".pth", ".ckpt")) or "__pycache__" in n or n.startswith("tests")]


def test_an_untracked_file_does_not_get_in(bundle):
    stray = ROOT / "references" / "stray-note.tmp"
    specification = importlib.util.spec_from_file_location("bundle_module", ROOT / "packaging" / "bundle.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    stray.write_text("x")
    try:
        assert "references/stray-note.tmp" not in module.tracked()
    finally:
        stray.unlink()


def test_setup_env_of_the_bundle_finds_its_own_lock_file(bundle, tmp_path):
    """With the interpreter that a plugin install meets: no package, nothing of the checkout on its path."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "XDG_"))}
    env |= {"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(tmp_path / "bare/bin/python"), str(bundle / "scripts/setup_env.py"), "--check"]
    absent = subprocess.run(command, env=env, capture_output=True, text=True)
    assert absent.returncode == 4
    assert f"python3 {bundle}/scripts/setup_env.py" in absent.stderr
    made = tmp_path / ".local/share/deft-aoi/env"
    (made / "bin").mkdir(parents=True)
    (made / "bin/python").symlink_to(sys.executable)
    for lock, code in (((bundle / "requirements.lock").read_bytes(), 0), (b"another", 4)):
        (made / ".deft-aoi-ready.json").write_text(json.dumps({"lock_sha256": hashlib.sha256(lock).hexdigest()}))
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    assert (bundle / "requirements-torch.txt").is_file()
