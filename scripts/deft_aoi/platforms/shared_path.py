"""Do a remote platform's hosts see this workspace? Nothing is copied, so it is asked before a run is approved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deft_aoi.contract.errors import Blocked
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.text import printable
from deft_aoi.platforms.base import Finding


def check(platform: str, options: Mapping[str, str], workspace: Path, witness: Path) -> list[Finding]:
    """Look, without writing anything.

    Args:
        platform: name of the platform.
        options: its options.
        workspace: the workspace's real path.
        witness: a file in it whose content is compared.

    Returns:
        One finding for a remote SLURM host or a Kubernetes claim; none where jobs run on this host.
    """
    if platform == "slurm" and options.get("host"):
        return [_over_ssh(options, witness)]
    if platform == "kubernetes" and options.get("claim_root"):
        root = Path(options["claim_root"])
        if workspace.is_relative_to(root):
            return [Finding("ok", f"the workspace lies on the claim, below {printable(root)}")]
        return [
            Finding(
                "missing",
                f"the workspace {printable(workspace)} is not below claim_root {printable(root)}",
                "move it onto the claim: Pods see nothing else, and nothing is copied",
            )
        ]
    return []


def _over_ssh(options: Mapping[str, str], witness: Path) -> Finding:
    from deft_aoi.platforms.slurm import run_command

    host = printable(options["host"])
    fix = "use a file system that this machine, the login node and the compute nodes share under the same path"
    try:
        answer = run_command({"host": options["host"]}, "sha256sum", "--", str(witness)).split()
    except Blocked as error:
        return Finding("missing", f"{host} does not see {printable(witness)}: {error.found or error.message}", fix)
    if answer[:1] != [sha256_file(witness)]:
        return Finding("missing", f"{host} sees another {printable(witness)} than this machine", fix)
    return Finding("ok", f"{host} sees this workspace under the same path; its compute nodes are not asked before a job runs")
