"""Every command line that the texts show is really executed, in the order of a real run on a small rendered workspace.

A line in a text that is neither in ``TOUR`` nor in ``ELSEWHERE`` fails, and so does an entry that no text shows any more.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tests.workspaces.test_own_workspace import write_csv

import deft_aoi
from deft_aoi.agent.replay_server import ReplayServer, Script
from deft_aoi.agent.transcript import read

ROOT = Path(deft_aoi.__file__).parents[2]
TEXTS = [ROOT / "SKILL.md", ROOT / "README.md", ROOT / "agents/reporter.md", *sorted((ROOT / "references").glob("*.md"))]

ELSEWHERE = {
    "make demo": "CI and the README's reader run it; the same two scripts run in the loop's tests",
    "make test": "it is what runs this test",
    "make replay": "it runs the transcripts, which are integration tests of their own",
    "make bundle": "packaging/bundle.py is run by test_bundle.py",
    "deft setup-env": "test_wheel.py runs it from an installed wheel",
    "/plugin marketplace add <this repository>": "typed into Claude Code; test_claude_code.py loads the bundle there",
    "/plugin install tao-run-deft-aoi": "typed into Claude Code; test_claude_code.py loads the bundle there",
}
PREFLIGHT = 'python3 scripts/preflight.py --workspace WORKSPACE --kpi-target "FAR < 0.1% at recall=100%"'
OTHER_PLAN = 'python3 scripts/preflight.py --workspace WORKSPACE --kpi-target "FAR < 1% at recall=100%" --max-iterations 3'
STAGE = "python3 scripts/run_stage.py --results-dir RESULTS_DIR"
BY_HAND = 'python scripts/run_loop.py --workspace ~/workspace --kpi-target "FAR < 0.1% at recall=100%"'
INFER = "python3 scripts/infer.py --model best_model.json --csv boards.csv --images FOLDER --output OUT"
IMPORT = "python3 scripts/import_review.py labels.csv --review OUT/review.json --workspace WORKSPACE"
TOUR = (
    "python3 scripts/setup_env.py",
    "python3 scripts/setup_env.py --check",
    "python3 scripts/list_tao_platforms.py",
    "python3 scripts/list_tao_platforms.py --platform docker",
    "python3 scripts/list_tao_platforms.py --platform slurm",
    "python3 scripts/make_workspace.py --help",
    "python scripts/make_workspace.py --test shots --golden golden --output ~/own --pass-label OK",
    "python scripts/make_workspace.py --csv parts.csv --output ~/own2 --map input=img,golden=ref,label=verdict,board=serial "
    "--pass-label OK",
    "python3 scripts/check_data.py --workspace WORKSPACE",
    "python scripts/check_data.py --workspace W",
    "scripts/check_data.py --workspace WORKSPACE --write-fixed DIR",
    PREFLIGHT,
    'python3 scripts/run_loop.py --workspace WORKSPACE --kpi-target "FAR < 0.1% at recall=100%" --until-agent',
    "python3 scripts/record_spot_check.py --results-dir RESULTS_DIR --iteration baseline --picture 1=mislabeled "
    "--picture 2=edge_case",
    "python3 scripts/next_stage.py --results-dir RESULTS_DIR",
    STAGE,
    f"{STAGE} --stage train",
    "python3 scripts/run_loop.py --results-dir RESULTS_DIR --until-agent --detach",
    "python3 scripts/run_loop.py --results-dir RESULTS_DIR --wait 500",
    'python3 scripts/render_report.py --results-dir RESULTS_DIR --iteration 1 --note "SENTENCE"',
    "python3 scripts/record_spot_check.py --results-dir RESULTS_DIR --iteration iter1 --sample-id ID --verdict edge_case",
    "render_report.py --results-dir RESULTS_DIR --review",
    "python3 scripts/log_stage.py --log-path RESULTS_DIR/loop_log.jsonl --iter-label iter1 --stage note --status ok "
    '--summary "operator replaced lamp 2" --duration-sec 0',
    "python3 scripts/cancel.py --results-dir RESULTS_DIR",
    "prepare_inference_spec.py --results-dir R --output-dir D",
    "python3 scripts/run_loop.py --results-dir RESULTS_DIR --until-agent",
    "python scripts/run_loop.py --results-dir ~/workspace/results/run_20260101_120000",
    "python3 scripts/prestage_pregen.py --workspace WORKSPACE --results-dir RESULTS_DIR",
    "python3 scripts/render_report.py --results-dir RESULTS_DIR",
    "scripts/render_report.py --results-dir RESULTS_DIR",
    "python3 scripts/cancel.py --results-dir RESULTS_DIR --end",
    "python3 scripts/prepare_inference_spec.py --results-dir RESULTS_DIR",
    INFER,
    IMPORT,
    "python3 scripts/register_goldens.py --model best_model.json --csv boards.csv --images FOLDER --output OUT",
    "python3 scripts/analyze_kpi.py INFERENCE_CSV --output-dir OUT",
    'python3 scripts/analyze_kpi.py --false-alarms 0/400 --missed 0/180 --target "FAR < 0.1% at recall=100%"',
    "python3 scripts/analyze_gaps.py INFERENCE_CSV --spec SPEC --images-dir IMAGES --output-dir OUT",
    "python3 scripts/knn_mine.py --targets TARGETS.parquet --pool POOL.parquet --output-dir OUT",
    "compare_runs.py A B",
    "python3 scripts/align_token_usage.py --log-path RESULTS_DIR/loop_log.jsonl --cwd PROJECT_FOLDER",
    OTHER_PLAN,
    "init_deft_state.py --plan-digest DIGEST",
    'python3 scripts/run_agent.py "run the DEFT loop on ~/workspace" --model MODEL_ID --max-usd 10',
    'python scripts/run_agent.py "run the DEFT loop on ~/workspace"',
    BY_HAND,
)
BESIDES = (
    "status.py --results-dir RESULTS_DIR",
    "verify_run.py --results-dir RESULTS_DIR",
    "validate_training_csv.py --workspace WORKSPACE TRAINING_CSV",
    "resolve_versions_key.py images.tao_toolkit.pyt",
    "changenet_data_pair_prepare.py --workspace WORKSPACE --check",
    "route_gaps.py --gaps GAPS --output-dir OUT",
    "assemble_training_csv.py --help",
    "import_deeppcb.py --help",
    "export_model.py --help",
    "replay_transcript.py --help",
    "run_agent.py --help",
    "repair_run.py --results-dir RESULTS_DIR",
)
"""What no text shows with its arguments: run after the tour, so that every script has been seen."""

EXPECTED_EXIT = {IMPORT: 3}
"""The boards that the tour scores are the KPI set's: nobody may judge them into the pool."""
MOST_LINES = 28
"""What a script says to an agent, the Summary and ``--help`` excepted."""

READING = (
    "list_tao_platforms",
    "check_data",
    "preflight",
    "next_stage",
    "status",
    "verify_run",
    "validate_training_csv",
    "resolve_versions_key",
    "compare_runs",
)


def documented(text: str) -> list[str]:
    """Command lines of a text: indented or fenced lines, and code spans that are a whole command."""
    lines = [re.sub(r"\s+#.*$", "", line.strip()) for line in text.splitlines() if re.match(r"\s*(python3? |make |deft )", line)]
    spans = [
        " ".join(s.split())
        for s in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
        if re.match(r"(python3? |make |/plugin |deft )", s) or re.match(r"(scripts/)?\w+\.py \S", s)
    ]
    return lines + spans


SHOWN = {line for path in TEXTS for line in documented(path.read_text(encoding="utf-8"))}


def test_every_documented_command_is_executed_here_or_named_with_its_reason():
    assert len(SHOWN) > 40
    assert set() == SHOWN - set(TOUR) - set(ELSEWHERE), "shown by a text and executed by nothing"
    assert set() == (set(TOUR) | set(ELSEWHERE)) - SHOWN, "no text shows these any more"
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {line.split()[1] for line in ELSEWHERE if line.startswith("make ")} <= set(targets)


def test_a_new_line_would_be_seen():
    line = "python3 scripts/status.py --results-dir R"
    assert documented(f"text\n\n    {line}  # why\n") == [line]
    assert documented("say `status.py --results-dir\nR` or `status.py`") == ["status.py --results-dir R"]


class Place:
    """A home with a prepared workspace; runs one documented line literally, its placeholders filled in."""

    def __init__(self, home: Path) -> None:
        self.home, self.workspace, self.out = home, home / "workspace", 0
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ANTHROPIC_", "DEFT_"))}
        binaries = home / "bin"
        binaries.mkdir()
        for name in ("python", "python3"):  # the lines say python3; here that is the interpreter that runs the tests
            (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            (binaries / name).chmod(0o755)
        self.env |= {"HOME": str(home), "PATH": f"{binaries}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    @property
    def plans(self) -> Path:
        return self.home / ".local/state/deft-aoi/plans"

    @property
    def digest(self) -> str:
        return json.loads((self.plans / "pending.json").read_text())["digest"]

    @property
    def run(self) -> Path:
        return sorted((self.workspace / "results").glob("run_*"))[0]

    def tree(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file of the workspace."""
        files = [p for p in self.workspace.rglob("*") if p.is_file()]
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in files}

    def approve(self) -> None:
        self.shell(f"python3 scripts/approve.py {self.digest} --confirm {self.digest[-6:]}", check=True)

    def filled(self, line: str) -> str:
        run, self.out = self.run if (self.workspace / "results").is_dir() else Path("/none"), self.out + 1
        for word, pattern in (
            ("INFERENCE_CSV", "baseline/inference/*/inference.csv"),
            ("SPEC", "best_model_inference_spec.yaml"),
            ("TRAINING_CSV", "iter1/dataset/train_combined_iter1.csv"),
            ("GAPS", "iter1/rca_results/*/kpi_gaps.parquet"),
            ("TARGETS.parquet", "iter1/mining_filter/target_embeddings.parquet"),
            ("best_model.json", "best_model.json"),
            ("POOL.parquet", "pool_with_embeddings.parquet"),
        ):
            if word in line.split():
                if word == "POOL.parquet":  # files and embeddings in one table, as the script's first line asks
                    files, vectors = (pd.read_parquet(run / f"synth_pool/source_{n}.parquet") for n in ("pool", "embeddings"))
                    ids = pd.read_csv(run / "synth_pool/source_pool.csv")[["sample_id", "content_id"]]
                    pool = files.merge(ids, on="sample_id").merge(vectors, on="content_id")
                    pool.to_parquet(run / "pool_with_embeddings.parquet")
                line = line.replace(word, str(sorted(run.glob(pattern))[0]))
        if " labels.csv " in line:
            review = max(self.home.glob("out*/review.json"), key=lambda path: path.stat().st_mtime_ns)
            body = json.loads(review.read_text())
            rows = [f"{body['page']},{part['id']},PASS,Ana,2026-01-05T08:00:00Z" for part in body["parts"]]
            labels = review.with_name("labels.csv")
            labels.write_text("\n".join(["page,part,label,by,at", *rows]) + "\n")
            line = line.replace("labels.csv", str(labels)).replace("OUT/review.json", str(review))
        if " ID " in line:
            weak = json.loads(sorted(run.glob("iter1/rca_results/*/metrics.json"))[0].read_text())["images"]
            line = line.replace(" ID ", f" '{weak[0]['sample_id']}' ")
        values = {
            "RESULTS_DIR": run,
            "WORKSPACE": self.workspace,
            "run_20260101_120000": run.name,
            "MODEL_ID": "claude-opus-5-5",
            "PROJECT_FOLDER": self.home / "project",
            "boards.csv": self.workspace / "kpi/testing_set.csv",
            "FOLDER": self.workspace / "kpi/images",
            "--test shots --golden golden": f"--test {self.home}/in/test --golden {self.home}/in/golden",
            "parts.csv": self.home / "in/parts.csv",
            "IMAGES": self.workspace / "kpi/images",
            "OUT": self.home / f"out{self.out}",
            "DIR": self.home / f"out{self.out}",
            "DIGEST": self.digest if self.plans.is_dir() else "",
        }
        for word, value in values.items():
            line = re.sub(rf"(?<!\w){re.escape(word)}\b", str(value), line)
        line = re.sub(r"--workspace W$", f"--workspace {self.workspace}", line)
        line = re.sub(r" R --output-dir D$", f" {run} --output-dir {self.home / 'early'}", line)
        line = re.sub(r" A B$", f" {run}:baseline {run}:iter1", line)
        line = line if line.startswith("python") else f"python3 {line if line.startswith('scripts/') else 'scripts/' + line}"
        assert not re.search(r"\b[A-Z_]{4,}\b", line.replace("DEFT", "").replace("FAR", "").replace("SENTENCE", "")), line
        return line

    def shell(self, command: str, *, check: bool = False, stdin: int = subprocess.DEVNULL, **env: str):
        done = subprocess.run(
            ["bash", "-c", command], cwd=ROOT, env=self.env | env, stdin=stdin, capture_output=True, text=True, timeout=600
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
        return done


def at_the_terminal(place: Place, line: str):
    """A person at a terminal reads the Summary and types the last six characters of its digest."""
    for approval in place.plans.glob("*.approval.json"):
        approval.unlink()
    place.shell(place.filled(PREFLIGHT), check=True)
    ours, theirs = pty.openpty()
    os.write(ours, f"{place.digest[-6:]}\n".encode())
    try:
        return place.shell(line, stdin=theirs)
    finally:
        os.close(ours), os.close(theirs)


def with_a_model(place: Place, line: str):
    """The model is played: it answers once. Everything else of the session is real."""
    script = place.home / "turns.jsonl"
    turns = [{"deft_transcript": 1, "prompt": "x"}, {"reply": {"content": [{"type": "text", "text": "Which platform?"}]}}]
    script.write_text("".join(json.dumps(t) + "\n" for t in turns))
    with ReplayServer(Script(read(script), {})) as server:
        return place.shell(line, ANTHROPIC_BASE_URL=server.url, ANTHROPIC_API_KEY="x", DEFT_AGENT_MODEL="replay-model")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    home = Place(tmp_path_factory.mktemp("home"))
    home.shell(f"python3 scripts/make_demo_workspace.py --output {home.workspace} --scale small", check=True)
    spec = home.workspace / "specs/baseline_spec.yaml"
    spec.write_text(spec.read_text().replace("num_epochs: 10", "num_epochs: 1"))
    write_csv(home.home / "in")
    (home.home / "project").mkdir()
    slug = re.sub(r"[^A-Za-z0-9]", "-", str(home.home / "project"))
    session = home.home / ".claude/projects" / slug / "s.jsonl"
    session.parent.mkdir(parents=True)
    usage = {"id": "m1", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 7}, "content": [], "role": "assistant"}
    session.write_text(json.dumps({"type": "assistant", "timestamp": "2999-01-01T00:00:00Z", "message": usage}) + "\n")
    return home


def script_name(line: str) -> str:
    """The script of a command line, without its suffix."""
    return re.search(r"(\w+)\.py\b", line).group(1)


def test_every_script_is_run_somewhere():
    seen = {script_name(line) for line in (*TOUR, *BESIDES)}
    assert {p.stem for p in (ROOT / "scripts").glob("*.py")} == seen | {"make_demo_workspace", "approve"}  # Place and its fixture
    assert set(READING) <= seen


@pytest.mark.integration
def test_every_documented_command_runs_in_the_order_of_a_run(place):
    for line in (*TOUR, *BESIDES):
        command = place.filled(line)
        before = place.tree()
        if line == BY_HAND:
            done = at_the_terminal(place, command)
        elif "run_agent.py" in line:
            done = with_a_model(place, command)
        else:
            done = place.shell(command)
        assert done.returncode == EXPECTED_EXIT.get(line, 0), f"{command}\n{done.stdout[-2500:]}\n{done.stderr[-2500:]}"
        said = f"{done.stdout}{done.stderr}".strip().splitlines()
        if "--help" not in line and line not in (PREFLIGHT, OTHER_PLAN, BY_HAND):
            assert len(said) <= MOST_LINES, f"{command}: {len(said)} lines\n" + "\n".join(said)
        if script_name(line) in READING:
            assert place.tree() == before, f"{command} changed the workspace"
        if line in (PREFLIGHT, OTHER_PLAN):
            place.approve()
        if line == STAGE:  # routing was run; the next three, and then it is the training's turn
            for _ in range(3):
                place.shell(command, check=True)


@pytest.mark.integration
def test_a_script_starts_again_under_the_environment_that_setup_env_made(place):
    """The interpreter that a plugin install meets: no packages of ours at all."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place.home / "bare")], check=True)
    bare = [str(place.home / "bare/bin/python"), str(ROOT / "scripts/check_data.py"), "--workspace", str(place.workspace)]
    env = {k: v for k, v in place.env.items() if k != "PYTHONPATH"}
    done = subprocess.run(bare, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    without = subprocess.run(bare, env=env | {"XDG_DATA_HOME": str(place.home / "nothing")}, capture_output=True, text=True)
    assert without.returncode == 4
    assert "setup_env.py" in without.stderr
