"""Checks 2, 4 and 9: this machine's packages, the platform, and the GPUs."""

from __future__ import annotations

import importlib.util
import platform as host

from deft_aoi.bootstrap import setup_command
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.schema import bundle_root
from deft_aoi.contract.text import printable
from deft_aoi.loop.checks.session import Checklist
from deft_aoi.loop.config import RunConfig

REQUIRED_MODULES = ("numpy", "pandas", "pyarrow", "yaml", "jinja2", "jsonschema", "PIL", "scipy", "matplotlib", "omegaconf")


def check_bundle(session: Checklist) -> None:
    """Check 2: packages, and the skill's own files."""
    wanted = list(REQUIRED_MODULES)
    config = session.config
    if config is not None and config.engine == "embedded" and config.platform == "local":
        wanted.append("torch")
    if config is not None and config.engine == "embedded" and config.encoder == "siglip":
        wanted += ["torch", "transformers"]  # its images are embedded by this very interpreter
    absent = [m for m in dict.fromkeys(wanted) if importlib.util.find_spec(m) is None]
    if absent:
        raise Blocked(f"Python packages are missing: {', '.join(absent)}", hint=setup_command())
    broken = bundle_problems()
    if broken:
        raise HardStop("the bundle is not complete", found=", ".join(broken[:5]), hint="reinstall the skill")
    session.add(2, "ok", f"Python {host.python_version()}, packages and bundle complete")


def bundle_problems() -> list[str]:
    """Files that the bundle's manifest lists and that are missing or changed; none in a checkout without a manifest."""
    from deft_aoi.contract.files import read_json, sha256_file

    manifest = bundle_root() / "MANIFEST.json"
    if not manifest.is_file():
        return [
            n for n in ("specs/embedded_spec.yaml", "specs/baseline_spec.yaml", "schemas") if not (bundle_root() / n).exists()
        ]
    files = read_json(manifest, what="bundle manifest").get("files", {})
    return [n for n, digest in files.items() if not (bundle_root() / n).is_file() or sha256_file(bundle_root() / n) != digest]


def check_platform(session: Checklist, config: RunConfig) -> None:
    """Check 4: does the platform answer, and do its hosts see the workspace. All that is missing is listed."""
    from deft_aoi.platforms import shared_path
    from deft_aoi.platforms.base import probe

    options, ws = dict(config.platform_options), session.workspace
    # The scheduler must be able to run the image, whether the user or the versions file named it.
    image = session.images.get("visual_changenet") if config.platform == "slurm" else None
    named = {"image": image["reference"]} if image else {}
    findings = probe(config.platform, named | options, gpus_needed=config.engine == "tao")
    for finding in (*findings, *shared_path.check(config.platform, options, ws.root, ws.baseline_spec)):
        text, fix = printable(finding.text, 200), printable(finding.fix, 200)
        if finding.level in ("missing", "stop"):
            kind = Blocked if finding.level == "missing" else HardStop
            session.refuse(4, kind(f"{config.platform}: {text}", hint=fix))
        else:
            session.add(4, finding.level, text, fix if finding.level == "warn" else "")


def check_request(session: Checklist, config: RunConfig) -> None:
    """Check 7: a job of this run can be put into the platform's words: its paths, its options, its image."""
    from deft_aoi import engines
    from deft_aoi.platforms import kubernetes_manifest, slurm_script
    from deft_aoi.platforms.base import JobRequest

    ws, options = session.workspace, dict(config.platform_options)
    run = ws.results / "run_20260101_000000"
    out = run / "baseline" / "train.tmp-00000000"
    image = session.images.get("visual_changenet") or {}
    argv = engines.command(
        config.engine,
        "visual_changenet",
        "train",
        run / "run" / "specs" / "baseline-train.yaml",
        (f"train.results_dir={out}",),
        options.get("tao_python") if config.engine == "tao" else None,
        container=bool(image),
    )
    request = JobRequest(
        "deft-20260101-000000-baseline-train",
        argv,
        str(out),
        str(out / "train.log"),
        read_only=(ws.root,),
        writable=(out,),
        image=image.get("reference"),
        gpus=config.num_gpus if config.engine == "tao" else 0,
    )
    if config.platform == "slurm":
        slurm_script.render(request, options, run / "run" / "jobs")
    elif config.platform == "kubernetes":
        kubernetes_manifest.render(request, options)


def check_gpus(session: Checklist, config: RunConfig) -> None:
    """Check 9: the GPUs that the run asks for exist and are visible, and the batch fits their memory."""
    from deft_aoi.platforms import gpus

    if config.platform not in ("local", "docker"):
        session.add(
            9,
            "ok",
            f"{config.num_gpus} GPUs a training are asked of {config.platform}"
            if config.engine == "tao"
            else f"jobs on {config.platform} ask for no GPU",
        )
        return
    found = gpus.inventory()
    if config.engine == "tao" and not found:
        raise Blocked(
            "TAO needs an NVIDIA GPU and this machine has none",
            hint="run on a GPU box, on --platform slurm or kubernetes, or use --engine embedded (our small engine; its "
            "numbers and checkpoints are not TAO's)",
        )
    wanted = [str(i) for i in config.gpu_ids] if config.gpu_ids else [g.index for g in found[: config.num_gpus]]
    chosen = [g for g in found if g.index in wanted]
    if config.gpu_ids and len(chosen) < len(wanted) or config.engine == "tao" and len(wanted) < config.num_gpus:
        raise Blocked(
            "the GPUs that were asked for are not here",
            expected=f"ids {', '.join(wanted)}" if config.gpu_ids else f"{config.num_gpus} GPUs",
            found=f"ids {', '.join(g.index for g in found) or 'none'}, as nvidia-smi and CUDA_VISIBLE_DEVICES show them",
            hint="lower --num-gpus, correct --gpu-ids, or widen CUDA_VISIBLE_DEVICES",
        )
    for problem in gpus.batch_problems(chosen, int(specs.get(session.spec, "dataset.classify.batch_size") or 8), config.engine):
        session.add(9, "warn", problem, "--set dataset.classify.batch_size=N")
    names = ", ".join(f"{g.index}: {printable(g.model, 40)}, {g.memory_gib:.0f} GiB" for g in chosen[:8])
    session.add(
        9, "ok", f"{len(chosen)} of {len(found)} GPUs ({names})" if chosen else "no GPU: the embedded engine trains on the CPU"
    )
