"""The one normaliser: what two runs of the same plan must have in common, to the byte.

Dropped, and nothing else:

- the record's own machinery (locks, index, reserve, bytes kept aside), job records, logs of drivers: they tell *how* it was
  done; the events are compared here, one by one, and the log's chain and view by ``rig.judge``;
- what is set aside (``*.stale``), temporary files that a killed atomic write left outside the published folders; a folder
  of an attempt, its mark, or a scratch folder that is left over is compared and therefore a difference;
- the *content* of what an engine or a report says about its own time: logs, ``status.json``, the HTML, the summaries;
- in texts: the number of an attempt (``.tmp-2``), and the date that names the folder of a root-cause analysis;
- in manifests: size and digest of such texts; ``extra.decoded`` (how many images this very call embedded); and for the
  staged pairs what a copy's ``stat`` says (times, inode), with the digests that follow from it;
- in events: number, time, duration, chain, the attempt in the key, digests of manifests, of logs, of the report and of
  ``best_model.json``, and how many checkpoints this very call pruned or images it embedded;
- in ``best_model.json``: the digest of the record's head (a chain over time stamps).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import Any

MACHINERY = re.compile(
    r"loop_log\.jsonl|deft_state\.json|run/(log\.lock|log\.index.*|run\.lock|driver\.(start|exit)|reserve.*|torn|jobs|logs|ops)(/.*)?"
)
LEFTOVER = re.compile(r"((run/(specs/)?|\.deft/.*/)?\.[^/]+\.tmp)|.*/[^/]+\.stale(/.*)?")
TIMED = re.compile(r"(.*/)?(status\.json|[a-z_]+\.log|DEFT_Loop_Report\.html|iter[0-9]+_summary\.md)")
VIEWS = re.compile(r"DEFT_Loop_Report\.html|iter[0-9]+_summary\.md")
"""Written again by the next stage that draws a report; one that was killed may leave the old one."""
ATTEMPT = re.compile(rb"\.tmp-[0-9]+")
STAMP = re.compile(r"(?<=(?:rca|ing)_results/)[0-9]{8}_[0-9]{6}")
STAMP_BYTES = re.compile(rb"(?<=(?:rca|ing)_results/)[0-9]{8}_[0-9]{6}")
STAT = ("mtime_ns", "ctime_ns", "inode", "source_ctime_ns")
"""Of the copies of the staged pairs, and when the source was last touched."""
OF_THIS_CALL = ("manifest", "holdout_manifest", "decoded", "duration_from", "voucher", "checkpoints_pruned", "best_model_sha256")
TEXTS = (".json", ".yaml", ".csv", ".txt", ".jsonl")


def tree(run: Path, *, views: bool = True, prefix: str = "") -> dict[str, str]:
    """Path → digest of its normalised content, for every file and link of a run.

    Args:
        run: the run's folder.
        views: compare what the report stage writes, too.
        prefix: put before every path.
    """
    found = {}
    for path in sorted(run.rglob("*")):
        inside = prefix + path.relative_to(run).as_posix()
        if (path.is_dir() and not path.is_symlink()) or MACHINERY.fullmatch(inside) or LEFTOVER.fullmatch(inside):
            continue
        if not views and VIEWS.fullmatch(inside):
            continue
        found[STAMP.sub("<time>", inside)] = _content(path, inside)
    return found


def _content(path: Path, inside: str) -> str:
    if path.is_symlink():
        return f"link {path.readlink()}"
    data = path.read_bytes()
    if TIMED.fullmatch(inside):
        return "present" if data else "empty"
    with contextlib.suppress(ValueError, KeyError, TypeError):  # a damaged file is compared as it is
        data = _without_machine_facts(path.name, inside, data)
    if path.suffix in TEXTS:
        data = STAMP_BYTES.sub(b"<time>", ATTEMPT.sub(b".tmp-N", data))
    return hashlib.sha256(data).hexdigest()


def _without_machine_facts(name: str, inside: str, data: bytes) -> bytes:
    """A JSON file of ours without what differs between two runs that did the same."""
    if name == "_MANIFEST.json":
        return json.dumps(_manifest(json.loads(data), inside), sort_keys=True).encode()
    if inside == "synth_pool/manifest.json":
        body = json.loads(data)
        body["files"] = [{k: v for k, v in entry.items() if k not in STAT} for entry in body["files"]]
        return json.dumps(body, sort_keys=True).encode()
    if inside == "best_model.json":
        return json.dumps({k: v for k, v in json.loads(data).items() if k != "record_head"}, sort_keys=True).encode()
    if name == "ingest_summary.json":
        return json.dumps({k: v for k, v in json.loads(data).items() if k not in ("files_digested", "manifest_sha256")}).encode()
    return data


def _manifest(body: dict[str, Any], inside: str) -> dict[str, Any]:
    body["extra"].pop("decoded", None)
    if inside.endswith("anomalygen/_MANIFEST.json"):
        del body["inputs_digest"]  # it follows from the stat of the staged copies
    for entry in body["files"]:
        # A text that names an attempt or a time has a digest of its own; its content is compared where it lies.
        if TIMED.fullmatch(entry["path"]) or entry["path"].endswith(TEXTS):
            entry.pop("size", None)
            entry.pop("sha256", None)
        entry["path"] = re.sub(r"^[0-9]{8}_[0-9]{6}/", "<time>/", entry["path"])
    return body


def events(log: list[dict[str, Any]]) -> list[str]:
    """The finished stages in their order, each as one text."""
    return [_event(e) for e in log if e["status"] == "ok"]


def _event(event: dict[str, Any]) -> str:
    data = {k: v for k, v in event["data"].items() if k not in OF_THIS_CALL}
    if "files" in data:  # as their contents are treated: a manifest lists logs, and a log tells the time
        timed = {path for path in data["files"] if path.endswith("_MANIFEST.json") or TIMED.fullmatch(path)}
        data["files"] = {path: "" if path in timed else digest for path, digest in data["files"].items()}
    if event["stage"] == "report":
        data.pop("sha256", None)
    body = {k: event[k] for k in ("iter", "stage", "status", "summary")} | {"data": data}
    return STAMP.sub("<time>", json.dumps(body, sort_keys=True))


def difference(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """What differs between two trees."""
    missing, more = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    changed = sorted(k for k in found.keys() & expected.keys() if found[k] != expected[k])
    parts = (("missing", missing), ("too much", more), ("other content", changed))
    return [f"{what}: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}" for what, names in parts if names]
