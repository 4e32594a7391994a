"""Every proof of SECURITY.md in one command: attacks, fuzzing, scanners; prints how much was tried.

Usage: python tests/security/run.py [--budget SECONDS] [--no-attacks] [--no-scanners]
Exit codes: 0 nothing got through; 1 something did, or a part could not run.

The attacks are the tests of this folder, which ``make test`` and ``make integration`` run as well (of the table of changed
files a part): where those have run, ``--no-attacks`` leaves the rest, which nothing else runs.
"""
# ruff: noqa: E501 - tables of attacks and commands are read line by line

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SCANNERS = REPO / ".venv-security"
REQUIREMENTS = REPO / "packaging" / "security-requirements.lock"
GUIDED = SCANNERS / "atheris"
GUIDED_REQUIREMENTS = REPO / "packaging" / "fuzz-requirements.txt"
CODE = ("scripts", "hooks", "packaging")
_SECRET_FILES = r"requirements.*\.lock$|MANIFEST\.json$|^references/deft_state\.json$|^tests/|\.sha256$"
"""Not searched for secrets: digests look like keys, and the tests plant canaries on purpose."""


@dataclass(frozen=True)
class Part:
    """One line of the result."""

    name: str
    holds: bool
    tried: str


def call(*command: object, timeout: float = 900, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a program without a shell."""
    return subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, cwd=REPO, timeout=timeout, check=False, **more
    )


def attacks() -> Part:
    """The tests of this folder: real files, real processes."""
    env = os.environ | {"PYTHONPATH": str(REPO / "scripts")}
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "r.xml"
        done = call(
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/security", f"--junitxml={xml}", env=env
        )
        counts = dict(re.findall(r'(tests|failures|errors|skipped)="(\d+)"', xml.read_text()[:600])) if xml.exists() else {}
    if done.returncode:
        print(done.stdout[-6000:])
    text = ", ".join(f"{counts.get(k, '?')} {k}" for k in ("tests", "failures", "errors", "skipped"))
    return Part("attacks", done.returncode == 0 and int(counts.get("tests", 0)) > 150, text)


def changes() -> Part:
    """Every kind of file changed before every stage of a loop of two iterations, alone and with its manifest."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(REPO / "scripts"), str(REPO)))}
    done = call(sys.executable, "-m", "tests.security.change_table", env=env, timeout=3600)
    lines = done.stdout.strip().splitlines() or [done.stderr[-300:]]
    print(*lines[:-1], sep="\n", end="\n" if lines[:-1] else "")
    return Part("changed files", done.returncode == 0, lines[-1])


def payload_count() -> Part:
    """How many payloads were planted, and where."""
    code = (
        "import sys; sys.path[:0] = ['scripts', '.']\n"
        "from tests.security import test_checkpoints as c, test_images as i, test_injection_slots as s, test_paths_and_tables as p\n"
        "print(len(s.PAYLOADS), len(s.SLOTS), len(c.HOSTILE_PICKLES), len(i.BOMBS), len(i.REFUSED), len(p.BAD_PATHS), len(p.BAD_NAMES), len(p.BAD_YAML))"
    )
    done = call(sys.executable, "-c", code)
    numbers = done.stdout.split()
    names = ("payloads", "slots", "hostile pickles", "bombs", "bad images", "paths", "names", "specs")
    return Part(
        "corpora", done.returncode == 0, ", ".join(f"{n} {w}" for n, w in zip(numbers, names, strict=False)) or done.stderr[-200:]
    )


def fuzz(budget_sec: float) -> Part:
    """Seeded mutation of tables, specs, images, Parquet files and checkpoints."""
    env = os.environ | {"PYTHONPATH": str(REPO / "scripts")}
    done = call(sys.executable, REPO / "tests/security/fuzz.py", "--seconds", budget_sec, env=env, timeout=budget_sec * 3 + 300)
    return Part("fuzzing", done.returncode == 0, (done.stdout.strip().splitlines() or [done.stderr[-300:]])[-1])


def install(python: Path | str, requirements: Path, *more: object) -> str:
    """Install what a lock file names, by its hashes; why not, or an empty string."""
    done = call(
        python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", *more, "-r", requirements
    )
    return done.stderr.strip()[-300:] if done.returncode else ""


def guided(budget_sec: float) -> Part:
    """Fuzzing that follows the code's branches, with atheris where it installs; without it the seeded fuzzing stands alone."""
    stamp = GUIDED / ".ready"
    if not stamp.exists() or stamp.read_text() != GUIDED_REQUIREMENTS.read_text():
        shutil.rmtree(GUIDED, ignore_errors=True)
        problem = install(sys.executable, GUIDED_REQUIREMENTS, "--no-deps", "--only-binary=:all:", "--target", GUIDED)
        if problem:
            return Part("guided fuzzing", True, f"left out: atheris does not install for this Python ({problem[-80:]})")
        stamp.write_text(GUIDED_REQUIREMENTS.read_text())
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(REPO / "scripts"), str(GUIDED)))}
    told, missed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("YAML", "defect_spec", "checkpoint", "CSV"):
            own = Path(folder) / kind
            done = call(sys.executable, REPO / "tests/security/guided.py", kind, round(budget_sec / 4) or 1, own, env=env)
            runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
            grown = re.search(r"new_units_added: +(\d+)", done.stderr)
            told.append(f"{kind} {runs[1] if runs else '?'} inputs, {grown[1] if grown else '?'} of them new ground")
            if done.returncode or not runs or int(runs[1]) < 100:
                wrong = [line for line in done.stderr.splitlines() if kind in line or "Error" in line][:2]
                missed.append(
                    f"{kind}: exit {done.returncode} {' '.join(wrong)[:200]} {[p.read_bytes()[:200] for p in own.glob('crash-*')]}"
                )
    return Part("guided fuzzing", not missed, "; ".join(told + missed))


def scanner(name: str) -> Path:
    """A scanner's program, installed on first use."""
    program = SCANNERS / "bin" / name
    stamp = SCANNERS / ".ready"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        venv.create(SCANNERS, with_pip=True, clear=True)
        problem = install(SCANNERS / "bin" / "python", REQUIREMENTS)
        if problem:
            raise RuntimeError(f"the scanners cannot be installed: {problem}")
        stamp.write_text(REQUIREMENTS.read_text())
    return program


def bandit() -> Part:
    """No finding of medium severity or more; each exception has its reason on its line."""
    done = call(scanner("bandit"), "-q", "-r", *CODE, "-ll", "-f", "json")
    report = json.loads(done.stdout)
    found = [f"{r['filename']}:{r['line_number']} {r['test_id']}" for r in report["results"]]
    lines = report["metrics"]["_totals"]["loc"]
    return Part(
        "bandit", not found and not report["errors"] and lines > 5000, f"{lines} lines, {len(found)} findings {found[:5]}"
    )


def detect_secrets() -> Part:
    """No secret in a tracked file."""
    names = call("git", "ls-files").stdout.split()
    done = call(scanner("detect-secrets"), "scan", "--exclude-files", _SECRET_FILES)
    found = [f"{name}:{hit['line_number']}" for name, hits in json.loads(done.stdout)["results"].items() for hit in hits]
    return Part("detect-secrets", not found and len(names) > 100, f"{len(names)} files, {len(found)} findings {found[:5]}")


def semgrep() -> Part:
    """The project's own rules; first that they find what they are for."""
    env = os.environ | {"PATH": f"{scanner('semgrep').parent}:{os.environ['PATH']}"}
    base = (
        scanner("semgrep"),
        "scan",
        "--metrics=off",
        "--disable-version-check",
        "--config",
        REPO / "packaging/semgrep/rules.yaml",
        "--json",
    )
    with tempfile.TemporaryDirectory() as folder:
        bad = Path(folder) / "bad.py"
        bad.write_text(
            "import os, pickle, subprocess, torch, yaml\nfrom PIL import Image\ntorch.load('x')\npickle.loads(b'')\nyaml.load('x', yaml.SafeLoader)\n"
            "subprocess.run('x', shell=True)\neval('1')\nopen('r/loop_log.jsonl', 'a')\nImage.open('x')\nyaml.UnsafeLoader\n"
        )
        planted = len(json.loads(call(*base, bad, env=env).stdout)["results"])
    report = json.loads(call(*base, *CODE, env=env).stdout)
    found = [f"{r['path']}:{r['start']['line']} {r['check_id'].split('.')[-1]}" for r in report["results"]]
    scanned = len(report["paths"]["scanned"])
    holds = planted == 8 and not found and scanned > 100
    return Part("semgrep", holds, f"{scanned} files, {planted} of 8 planted faults found, {len(found)} findings {found[:5]}")


def skill_scanners() -> Part:
    """The bundle, as it would be installed, before the judges of skills."""
    with tempfile.TemporaryDirectory() as folder:
        made = call(sys.executable, "packaging/bundle.py", "--output", folder)
        bundle = Path(folder) / "tao-run-deft-aoi"
        if made.returncode:
            return Part("skill scanners", False, made.stderr[-200:])
        valid = call(scanner("agentskills"), "validate", bundle)
        done = call(scanner("skill-scanner"), "scan", bundle, "--format", "json")
        report = json.loads(done.stdout[done.stdout.index("{") :])
    bad = [f"{f['severity']} {f['rule_id']} {f['file_path']}" for f in report["findings"] if f["severity"] not in ("LOW", "INFO")]
    holds = valid.returncode == 0 and report["is_safe"] and not bad
    return Part(
        "skill scanners",
        holds,
        f"agentskills {valid.returncode}, {report['max_severity']}, {len(report['findings'])} notes {bad[:4]}",
    )


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--budget", type=float, default=30, metavar="SECONDS", help="time for each of the two fuzzers (default 30)"
    )
    parser.add_argument("--no-attacks", action="store_true", help="leave out the tests, where make test has run them")
    parser.add_argument("--no-scanners", action="store_true", help="leave out the scanners that must be installed")
    args = parser.parse_args(argv)
    parts: list[Callable[[], Part]] = [payload_count] if args.no_attacks else [payload_count, attacks, changes]
    parts += [lambda: fuzz(args.budget)]
    parts += [] if args.no_scanners else [bandit, detect_secrets, semgrep, skill_scanners, lambda: guided(args.budget)]
    held = True
    for part in parts:
        start = time.monotonic()
        try:
            result = part()
        except (RuntimeError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            result = Part(getattr(part, "__name__", "part"), False, f"could not run: {error}"[:300])
        held = held and result.holds
        print(
            f"{'ok  ' if result.holds else 'MISS'} {result.name:15} {time.monotonic() - start:4.0f} s  {result.tried}", flush=True
        )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
