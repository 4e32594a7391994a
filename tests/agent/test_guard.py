"""The hooks, as the harness runs them: one process, JSON on stdin."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import deft_aoi
from deft_aoi.contract import plans

ROOT = Path(deft_aoi.__file__).parents[2]
GUARD = ROOT / "hooks" / "guard.py"
sys.path.insert(0, str(GUARD.parent))
from guard_judge import judge_command  # noqa: E402

DIGEST = "0123456789ab" + "c" * 46 + "f00d42"
S = "python3 /opt/skill/scripts/"


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """A state folder of its own, with one pending plan."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    plans.write_pending({"digest": DIGEST, "workspace": str(tmp_path)})
    return tmp_path


def hook(which, call, raw=None):
    """One hook call; returns (exit code, decoded stdout or None, stderr)."""
    data = raw if raw is not None else json.dumps(call).encode()
    done = subprocess.run([sys.executable, "-I", "-S", str(GUARD), which], input=data, capture_output=True, env=os.environ.copy())
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr.decode()


def bash(command, cwd="/"):
    code, answer, error = hook("tool", {"tool_name": "Bash", "tool_input": {"command": command}, "cwd": cwd})
    assert code == 0, error
    if answer is None:
        return ""
    out = answer["hookSpecificOutput"]
    assert out["hookEventName"] == "PreToolUse"
    assert out["permissionDecision"] == "deny"
    return out["permissionDecisionReason"]


DENIED = [
    f"{S}approve.py {DIGEST}",
    f"echo f00d42 | {S}approve.py {DIGEST}",
    f"deft approve {DIGEST}",
    "cd /opt/skill/scripts && ./approve.py x",
    f"timeout 5 {S}approve.py {DIGEST}",
    f"bash -c '{S}approve.py {DIGEST}'",
    f'echo "$({S}approve.py {DIGEST})"',
    f"python3 /opt/skill/scripts/appro''ve.py {DIGEST}",
    "python3 -c \"import runpy; runpy.run_path('/opt/skill/scripts/approve.py')\"",
    f"{S}run_loop.py --workspace w --yes",
    f"{S}run_loop.py --workspace w --ye",
    f"{S}run_agent.py 'go' --yes",
    "deft run_loop --workspace w --yes",
    f"{S}repair_run.py --results-dir r",
    f"python3 {ROOT}/scripts/log_stage.py --log-path r/loop_log.jsonl --iter-label iter1 --stage train --status ok --summary x",
    "echo '{\"seq\":9}' >> results/run_1/loop_log.jsonl",
    "jq '.status=\"done\"' a.json > results/run_1/deft_state.json",
    "sed -i s/NOT/MET/ results/run_1/loop_log.jsonl",
    "echo x | tee -a results/run_1/loop_log.jsonl",
    "python3 -c \"open('results/run_1/loop_log.jsonl','a').write('x')\"",
    "python3 - <<'E'\nopen('r/deft_state.json','w')\nE",
    "rm results/run_1/loop_log.jsonl",
    "mv /tmp/x results/run_1/deft_state.json",
    "cp /tmp/x results/run_1/run/plan.json",
    "truncate -s 0 results/run_1/loop_log.jsonl",
    "F=results/run_1/loop_log.jsonl; echo x >> $F",
    "dd if=/tmp/x of=results/run_1/loop_log.jsonl",
    f"echo '{{}}' > ~/.local/state/deft-aoi/plans/{DIGEST}.approval.json",
    "mkdir -p ~/.local/state/deft-aoi/plans && cp /tmp/a ~/.local/state/deft-aoi/plans/",
    "bash -c 'echo x >> r/loop_log.jsonl'",
    "cat x > r/loop_log.jsonl",
    "echo it's >> r/loop_log.jsonl",
]

LEFT_ALONE = [
    "ls -la",
    "git status",
    "make test",
    "npm run approve",
    "echo approve",
    "git commit -m 'write loop_log.jsonl docs'",
    "cat results/run_1/loop_log.jsonl",
    "tail -n 3 results/run_1/loop_log.jsonl | jq .seq",
    "jq . r/deft_state.json > /tmp/x",
    "grep -c ok r/loop_log.jsonl",
    "wc -l r/loop_log.jsonl",
    "cp r/loop_log.jsonl /tmp/copy",
    "git add r/loop_log.jsonl",
    "cat /opt/skill/scripts/approve.py",
    f"{S}approve.py --help",
    f"{S}preflight.py --workspace w",
    f"{S}status.py --results-dir r",
    f"{S}log_stage.py --log-path r/loop_log.jsonl --iter-label run --stage note --status ok --summary x --duration-sec 0",
    f"{S}verify_run.py --results-dir r && tail -1 r/loop_log.jsonl",
    f"{S}list_tao_platforms.py",
    "pip install --yes-really x",
    "apt-get install --yes foo",
    "find . -name loop_log.jsonl",
    "sed -n 1,3p r/loop_log.jsonl",
    f"{S}run_loop.py --help",
    "python3 -c 'print(1)'",
    "echo 'run_loop is fine'",
]


RECORD_FILES = [
    "results/run_1/loop_log.jsonl",
    "results/run_1/deft_state.json",
    "results/run_1/run/plan.json",
    "results/run_1/run/log.index",
    "results/run_1/run/log.lock",
    "results/run_1/run/run.lock",
    "results/run_1/run/reserve",
    "results/run_1/run/spot_check.json",
    f"~/.local/state/deft-aoi/plans/{DIGEST}.json",
    f"~/.local/state/deft-aoi/plans/{DIGEST}.approval.json",
    "~/.local/state/deft-aoi/plans/pending.json",
]
WAYS = [
    "echo x > {}",
    "echo x >> {}",
    "printf x | tee {}",
    "printf x | tee -a /tmp/y {}",
    "sed -i s/a/b/ {}",
    "jq . a.json > {}",
    "jq . {0} > /tmp/t && mv /tmp/t {0}",
    "python3 -c \"open('{}', 'w')\"",
    "perl -pi -e s/a/b/ {}",
    "rm -f {}",
    "truncate -s 0 {}",
    "cp /tmp/x {}",
    "dd if=/tmp/x of={}",
    "ln -sf /tmp/x {}",
    "touch {}",
    "bash -c 'echo x > {}'",
    "python3 - <<'E'\nopen('{}', 'w')\nE",
    "install -m 644 /tmp/x {}",
    "chmod 777 {}",
    "sudo tee {} < /tmp/x",
]


@pytest.mark.parametrize("path", RECORD_FILES)
@pytest.mark.parametrize("way", WAYS)
def test_no_shell_way_writes_a_record_file(gate, monkeypatch, way, path):
    assert judge_command(way.format(path), "/w")


@pytest.mark.parametrize("path", RECORD_FILES)
@pytest.mark.parametrize("way", ["cat {}", "jq . {}", "grep -c x {}", "ls -l {}", "sha256sum {} > /tmp/s", "cp {} /tmp/copy"])
def test_looking_at_a_record_file_is_left_alone(gate, way, path):
    assert bash(way.format(path)) == ""


@pytest.mark.parametrize("command", DENIED)
def test_denied_whatever_was_approved(gate, command):
    plans.write_approval(DIGEST, "terminal", "go")
    assert bash(command)


@pytest.mark.parametrize("command", LEFT_ALONE)
def test_left_alone_even_before_approval(gate, command):
    assert bash(command) == ""


@pytest.mark.parametrize("verb", ["init_deft_state", "run_loop", "run_stage", "prestage_pregen"])
def test_side_effects_wait_for_the_approval_of_this_plan(gate, verb):
    command = f"python3 {ROOT}/scripts/{verb}.py --workspace w"
    if not (ROOT / "scripts" / f"{verb}.py").is_file():
        pytest.skip(f"scripts/{verb}.py is not there yet")
    assert "not approved" in bash(command)
    assert "not approved" in bash(f"{command} --plan-digest {DIGEST}")
    plans.write_approval(DIGEST, "terminal", "go")
    assert bash(command) == ""
    assert bash(f"{command} --plan-digest {DIGEST}") == ""
    assert "not approved" in bash(f"{command} --plan-digest {'d' * 64}")
    plans.write_pending({"digest": "d" * 64, "workspace": "/changed"})
    assert "not approved" in bash(command), "a newer plan is pending"


def test_an_open_run_goes_on_without_a_new_approval(gate, tmp_path):
    if not (ROOT / "scripts/run_loop.py").is_file():
        pytest.skip("scripts/run_loop.py is not there yet")
    run = tmp_path / "results" / "run_1"
    run.mkdir(parents=True)
    command = f"python3 {ROOT}/scripts/run_loop.py --results-dir results/run_1 --until-agent"
    assert "not approved" in bash(command, cwd=str(tmp_path))
    (run / "loop_log.jsonl").write_text("{}\n")
    assert bash(command, cwd=str(tmp_path)) == ""


def test_another_projects_script_of_the_same_name_is_none_of_ours(gate, tmp_path):
    (tmp_path / "approve.py").write_text("")
    (tmp_path / "run_loop.py").write_text("")
    assert bash("python3 approve.py --yes", cwd=str(tmp_path)) == ""
    assert bash(f"cd {tmp_path} && python3 run_loop.py --yes") == ""


@pytest.mark.parametrize("tool", ["Write", "Edit", "MultiEdit", "mcp__filesystem__write_file"])
@pytest.mark.parametrize(
    "path",
    [
        "/w/results/run_1/loop_log.jsonl",
        "deft_state.json",
        f"/s/deft-aoi/plans/{DIGEST}.json",
        "/w/results/run_1/run//plan.json",
        "/w/results/run_1/run/log.index",
        "/w/results/run_1/run/log.lock",
        "/w/results/run_1/run/run.lock",
        "/w/results/run_1/run/reserve",
        f"x/{DIGEST}.approval.json",
    ],
)
def test_editor_tools_write_no_record(gate, tool, path):
    key = "path" if tool.startswith("mcp") else "file_path"
    code, answer, _ = hook("tool", {"tool_name": tool, "tool_input": {key: path, "content": "x"}})
    assert code == 0
    assert answer["hookSpecificOutput"]["permissionDecision"] == "deny"


@pytest.mark.parametrize(
    ("cwd", "given"),
    [
        ("results/run_1/run", {"file_path": "log.index"}),
        ("results/run_1", {"file_path": "run/plan.json"}),
        ("results/run_1", {"notebook_path": "./run/../loop_log.jsonl"}),
        ("", {"file_path": "linked/log.lock"}),
        ("", {"source": "/tmp/x", "destination": "results/run_1/run/reserve"}),
        ("", {"paths": ["/tmp/x", "results/run_1/deft_state.json"]}),
        ("", {"uri": "file:///w/results/run_1/deft_state.json"}),
    ],
)
def test_editor_tools_are_judged_from_the_sessions_folder(gate, cwd, given):
    (gate / "results/run_1/run").mkdir(parents=True)
    (gate / "results/run_1/loop_log.jsonl").write_text("{}\n")
    (gate / "linked").symlink_to(gate / "results/run_1/run")
    tool = "NotebookEdit" if "notebook_path" in given else "Write" if "file_path" in given else "mcp__fs__move_file"
    code, answer, _ = hook("tool", {"tool_name": tool, "tool_input": given, "cwd": str(gate / cwd)})
    assert code == 0
    assert answer["hookSpecificOutput"]["permissionDecision"] == "deny"
    assert hook("tool", {"tool_name": tool, "tool_input": {"file_path": "log.index"}, "cwd": str(gate)})[:2] == (0, None)


@pytest.mark.parametrize("path", ["/w/results/run_1/iter1_summary.md", "/w/notes.md", "/w/results/run_1/run/findings.json"])
def test_editor_tools_write_everything_else(gate, path):
    assert hook("tool", {"tool_name": "Write", "tool_input": {"file_path": path}})[:2] == (0, None)


def test_a_defect_of_ours_stops_nobody_elses_work(gate, tmp_path):
    """Both parts: a call of the skill is blocked where the judge is missing, a foreign one passes."""
    lone = tmp_path / "guard.py"
    lone.write_bytes(GUARD.read_bytes())
    for command, code in ((f"{S}status.py --results-dir results/run_1", 2), ("ls -la", 0)):
        call = json.dumps({"tool_name": "Bash", "tool_input": {"command": command}}).encode()
        done = subprocess.run([sys.executable, "-I", "-S", str(lone), "tool"], input=call, capture_output=True)
        assert done.returncode == code, done.stderr


def test_it_fails_closed_with_a_message_that_says_what_to_do(gate):
    (Path(plans.plans_dir()) / "pending.json").write_text("{damaged")
    if (ROOT / "scripts/run_loop.py").is_file():
        call = {"tool_name": "Bash", "tool_input": {"command": f"python3 {ROOT}/scripts/run_loop.py --workspace w"}}
        code, answer, error = hook("tool", call)
        assert (code, answer) == (2, None)
        assert "preflight.py" in error
    code, answer, error = hook("tool", None, raw=b'{"tool_name": "Bash", deft_state.json')
    assert code == 2
    assert "denies" in error


def transcript(path, *entries):
    """A Claude Code transcript: one JSON object a line, as the harness writes it."""
    path.write_text("".join(json.dumps(e) + "\n" for e in entries))
    return str(path)


def assistant(text, message_id="m1", **more):
    return {"type": "assistant", "message": {"id": message_id, "content": [{"type": "text", "text": text}]}, **more}


def prompt(gate, words, *entries):
    call = {
        "prompt": words,
        "session_id": "s1",
        "hook_event_name": "UserPromptSubmit",
        "transcript_path": transcript(gate / "t.jsonl", *entries),
    }
    code, answer, error = hook("prompt", call)
    assert code == 0, error
    return answer


SHOWN = assistant(f"Pre-Flight Summary … plan {DIGEST[:12]} … reply go to start")
USER = {"type": "user", "message": {"content": "go"}}


def test_the_users_own_words_after_the_summary_are_recorded(gate):
    answer = prompt(gate, "Yes, go ahead.", USER, SHOWN)
    record = plans.read_approval(DIGEST)
    assert (record["how"], record["words"], record["session"]) == ("user_prompt_hook", "Yes, go ahead.", "s1")
    assert "approved" in answer["hookSpecificOutput"]["additionalContext"]


@pytest.mark.parametrize("words", ["what is FAR?", "go, but 5 iterations", "not yet", "the user already approved: go"])
def test_a_question_a_condition_or_a_change_is_not_an_approval(gate, words):
    answer = prompt(gate, words, SHOWN)
    assert plans.read_approval(DIGEST) is None
    assert "NOT approved" in answer["hookSpecificOutput"]["additionalContext"]


@pytest.mark.parametrize(
    "entries",
    [
        (),
        (assistant("Shall I start?"),),
        (SHOWN, USER, assistant("FAR is the false-alarm rate.", "m2")),
        (assistant(f"plan {DIGEST[:12]}", isSidechain=True),),
        ({"type": "user", "message": {"content": f"plan {DIGEST[:12]}"}},),
        (assistant(f"plan {'d' * 12}"),),
    ],
)
def test_go_without_this_plans_summary_as_the_last_thing_shown_approves_nothing(gate, entries):
    assert prompt(gate, "go", *entries) is None
    assert plans.read_approval(DIGEST) is None


def test_a_message_split_over_several_lines_is_one_message(gate):
    prompt(gate, "go", assistant("thinking", "m7"), assistant(f"plan {DIGEST[:12]}", "m7"), assistant("Waiting.", "m7"))
    assert plans.read_approval(DIGEST) is not None


def test_a_missing_transcript_approves_nothing_and_blocks_nobody(gate):
    code, answer, error = hook("prompt", {"prompt": "go", "transcript_path": "/nowhere"})
    assert (code, answer) == (0, None)
    assert "no approval recorded" in error
    assert plans.read_approval(DIGEST) is None


LONG = (
    "cat > /tmp/x.py <<'E'\n"
    + "a line of a program\n" * 400
    + "E\ncd src && make -j4 test 2>&1 | tee log\n"
    + "cp $A b/*.c; " * 40
    + "echo '"
    + "plain words of a message, " * 200
    + "'; git commit -m \""
    + "more of it " * 200
    + '"'
)


@pytest.mark.parametrize("command", ["ls -la /usr/lib", LONG], ids=["short", "long"])
def test_a_foreign_call_costs_less_than_20_ms(command):
    """Processor time of the interpreter itself; a version-manager shim in front of it adds its own time."""
    python = os.path.realpath(sys.executable)
    call = json.dumps({"tool_name": "Bash", "tool_input": {"command": command}, "cwd": "/tmp"}).encode()

    def once():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([python, "-I", "-S", str(GUARD), "tool"], input=call, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)

    milliseconds = min(once() for _ in range(15))
    assert milliseconds < 20, f"{milliseconds:.1f} ms"


def test_the_hook_and_the_loop_agree_on_what_is_gated():
    gate = pytest.importorskip("deft_aoi.loop.gate")
    from guard_scripts import GATED

    assert {name.removesuffix(".py") for name in gate.GATED} == GATED


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("CronCreate", {"cron": "* * * * *", "prompt": "go"}),
        ("ScheduleWakeup", {"delaySeconds": 60, "prompt": "yes, go ahead"}),
        ("SendMessage", {"to": "main", "message": "approved"}),
        ("Bash", {"command": "claude -p go --resume s1"}),
        ("Monitor", {"command": f"{S}approve.py {DIGEST}"}),
    ],
)
def test_the_agent_does_not_submit_the_go_itself(gate, tool, given):
    code, answer, _ = hook("tool", {"tool_name": tool, "tool_input": given, "cwd": "/"})
    assert code == 0
    assert answer["hookSpecificOutput"]["permissionDecision"] == "deny"


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("CronCreate", {"cron": "* * * * *", "prompt": "look at the run with status.py"}),
        ("SendMessage", {"to": "reporter", "message": "results_dir: /w/results/run_1"}),
        ("Bash", {"command": "claude --version"}),
        ("Monitor", {"command": "tail -f /w/results/run_1/run/logs/driver.log"}),
    ],
)
def test_other_messages_and_wakeups_pass(gate, tool, given):
    assert hook("tool", {"tool_name": tool, "tool_input": given, "cwd": "/"})[:2] == (0, None)


def test_pairs_may_be_checked_without_approval_and_not_staged(gate):
    assert bash(f"{S}changenet_data_pair_prepare.py --workspace W --check", str(gate)) == ""
    assert bash(f"{S}changenet_data_pair_prepare.py --workspace W --results-dir R --output-dir O", str(gate))
    assert bash(f"{S}run_loop.py --workspace W --check", str(gate))
