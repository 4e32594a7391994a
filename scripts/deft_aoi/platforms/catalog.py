"""The platforms as a list to choose from: what each needs, what is ready here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.text import printable, quoted
from deft_aoi.platforms import base, credentials, gpus

NOT_SUPPORTED = {
    "brev": "run on the Brev instance itself with --platform docker",
    "lepton": "run on the machine itself with --platform docker, or on the cluster with --platform kubernetes",
}


@dataclass(frozen=True)
class Entry:
    """One platform in words: what runs there, what it needs, how it sees the workspace."""

    what: str
    needs: tuple[str, ...]
    workspace: str


ENTRIES = {
    "local": Entry(
        "processes of this machine: the embedded engine, or TAO's wheels (--platform-option tao_python=PATH)",
        ("nothing for the embedded engine", "for TAO: an NVIDIA GPU and a Python 3.12 with the TAO wheels"),
        "used where it lies",
    ),
    "docker": Entry(
        "containers of a Docker Engine: TAO's images or the embedded engine's",
        ("Docker Engine", "for TAO: an NVIDIA GPU and the NVIDIA Container Toolkit"),
        "mounted at its own path, read-only but for the job's folder; the engine must see this file system",
    ),
    "slurm": Entry(
        "batch jobs of a cluster, from its login node or over SSH (--platform-option host=…)",
        ("sbatch and squeue, here or on the login node", "for images: Pyxis and Enroot"),
        "on a file system that login and compute nodes share under the same path; nothing is copied",
    ),
    "kubernetes": Entry(
        "Jobs of a cluster, through your kubeconfig",
        ("a volume claim (claim=, claim_root=)", "an image that the cluster can pull", "the kubernetes package"),
        "on the claim, mounted here as well; nothing is copied",
    ),
}


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` words as a mapping.

    Raises:
        UsageError: a word without ``=``.
    """
    for word in words:
        if "=" not in word:
            raise UsageError("a platform option cannot be read", expected="KEY=VALUE", found=quoted(word))
    return dict(word.split("=", 1) for word in words)


def describe(name: str | None, options: Mapping[str, str]) -> dict[str, Any]:
    """Describe one platform, or all of them.

    Raises:
        UsageError: no such platform, or options without one.
    """
    if name is None and options:
        raise UsageError("platform options need --platform", expected="--platform NAME --platform-option KEY=VALUE")
    if name is not None and name.lower() in NOT_SUPPORTED:
        raise UsageError(f"{name} is not supported", expected=" | ".join(ENTRIES), hint=NOT_SUPPORTED[name.lower()])
    if name is not None and name not in ENTRIES:
        raise UsageError(f"there is no platform {quoted(name)}", expected=" | ".join(ENTRIES))
    found = {}
    for each in [name] if name else list(ENTRIES):
        entry, findings = ENTRIES[each], base.probe(each, options)
        found[each] = {
            "what": entry.what,
            "needs": list(entry.needs),
            "workspace": entry.workspace,
            "is_ready": all(f.level in ("ok", "warn") for f in findings),
            "findings": [{"level": f.level, "text": printable(f.text, 200), "fix": printable(f.fix, 200)} for f in findings],
            "credentials_for_tao": [" or ".join(n) for n in credentials.needed(each, "tao", "baseline")],
            "options": sorted(base.platform_options(each)),
        }
    listed = [f"{g.index}: {g.model}, {g.memory_gib:.0f} GiB" for g in gpus.inventory()]
    return {"platforms": found, "gpus_here": listed, "not_supported": NOT_SUPPORTED}


def as_text(found: Mapping[str, Any]) -> str:
    """The same for a person: one line a platform, or one platform in full."""
    platforms = found["platforms"]
    if len(platforms) > 1:
        lines = [f"{name:<11} {'ready    ' if p['is_ready'] else 'not ready'}  {p['what']}" for name, p in platforms.items()]
        lines += [f"{'':<11} {p['findings'][0]['text']}" for p in platforms.values() if p["is_ready"] and p["findings"]][:4]
        lines.append(f"GPUs here: {'; '.join(found['gpus_here']) or 'none (the embedded engine runs on the processors)'}")
        lines.append(f"Not supported: {', '.join(found['not_supported'])}. Next: the same command with --platform NAME.")
        return "\n".join(lines)
    ((name, platform),) = platforms.items()
    lines = [f"{name}: {platform['what']}", f"needs: {'; '.join(platform['needs'])}", f"workspace: {platform['workspace']}"]
    wanted = platform["credentials_for_tao"]
    lines.append(f"credentials for TAO, only where something must be pulled: {', '.join(wanted) or 'none'}")
    lines.append(f"options: {', '.join(platform['options']) or 'none'}")
    for finding in platform["findings"]:
        remedy = f"; {finding['fix']}" if finding["fix"] and finding["level"] != "ok" else ""
        lines.append(f"[{finding['level']}] {finding['text']}{remedy}")
    return "\n".join(lines)
