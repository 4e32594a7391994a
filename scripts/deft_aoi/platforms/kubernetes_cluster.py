"""Reaching a Kubernetes cluster by the user's own configuration, and a read-only look at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deft_aoi.contract.errors import Blocked
from deft_aoi.contract.text import printable
from deft_aoi.platforms.base import Finding
from deft_aoi.platforms.kubernetes_manifest import claim_is_here


def connect(options: Mapping[str, str]) -> Any:
    """Open the client by the user's own configuration.

    Raises:
        Blocked: the package is missing or there is no usable configuration.
    """
    try:
        import kubernetes.config
    except ImportError as error:
        raise Blocked("the Python package kubernetes is missing", hint="run setup_env.py") from error
    try:
        return kubernetes.config.new_client_from_config(config_file=options.get("kubeconfig"), context=options.get("context"))
    except (kubernetes.config.ConfigException, OSError, ValueError) as error:
        raise Blocked(
            "there is no usable Kubernetes configuration",
            found=printable(error, 160),
            hint="set KUBECONFIG, or --platform-option kubeconfig=…",
        ) from error


def probe(options: Mapping[str, str]) -> list[Finding]:
    """Read-only look at the cluster: configuration, answer, claim."""
    try:
        api = connect(options)
    except Blocked as error:
        return [Finding("missing", f"{error.message} {error.found}".strip(), error.hint)]
    import kubernetes.client as k8s

    found = []
    try:
        version = k8s.VersionApi(api).get_code(_request_timeout=10)
        found.append(Finding("ok", f"Kubernetes {printable(version.git_version)}"))
        if options.get("claim"):
            found.append(_look_at_claim(api, options["claim"], options.get("namespace", "default")))
    except Exception as error:  # whatever the client raises: the probe reports, it does not fail
        return [Finding("missing", f"the cluster does not answer: {printable(error, 120)}", "check kubeconfig and your rights")]
    if not options.get("claim") or not claim_is_here(options):
        found.append(
            Finding(
                "missing",
                "the workspace must lie on a volume claim that is mounted here as well",
                "--platform-option claim=NAME --platform-option claim_root=/where/it/is/mounted/here",
            )
        )
    return found


def _look_at_claim(api: Any, claim: str, space: str) -> Finding:
    import kubernetes.client as k8s

    try:
        k8s.CoreV1Api(api).read_namespaced_persistent_volume_claim(claim, space, _request_timeout=10)
    except k8s.ApiException as error:
        if error.status not in (403, 404):
            raise
        why = "does not exist" if error.status == 404 else "may not be looked at"
        return Finding(
            "missing" if error.status == 404 else "warn",
            f"the claim {printable(claim)} {why} in namespace {printable(space)}",
            "--platform-option claim=NAME, namespace=NAME; kubectl get pvc lists them",
        )
    return Finding("ok", f"claim {printable(claim)} exists")
