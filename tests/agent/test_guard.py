"""The hooks, as the harness runs them: one process, JSON on stdin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deft_aoi.contract import plans

from .guard_lines import ALSO_DENIED, DENIED, DIGEST, EVERYDAY, LEFT_ALONE, ROOT, RUN, S

GUARD = ROOT / "hooks" / "guard.py"
sys.path.insert(0, str(GUARD.parent))
import guard as guard_hook  # noqa: E402
from guard_rules import judge_command  # noqa: E402


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """A workspace with one run, and a state folder of its own with one pending plan."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    plans.write_pending({"digest": DIGEST, "workspace": str(tmp_path)})
    (tmp_path / RUN / "run").mkdir(parents=True)
    for name in ("loop_log.jsonl", "deft_state.json", "run/plan.json"):
        (tmp_path / RUN / name).write_text("{}\n")
    for name in ("build", "other"):
        (tmp_path / name).mkdir()
    return tmp_path


def hook(which, call, raw=None):
    """One hook call; returns (exit code, decoded stdout or None, stderr)."""
    data = raw if raw is not None else json.dumps(call).encode()
    done = subprocess.run([sys.executable, "-I", "-S", str(GUARD), which], input=data, capture_output=True, env=os.environ.copy())
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr.decode()


def judged(gate, command):
    signs = {"@R": RUN, "@L": f"{RUN}/loop_log.jsonl", "@S": f"{ROOT}/scripts", "@W": str(gate), "@D": DIGEST}
    for sign, text in signs.items():
        command = command.replace(sign, text)
    return judge_command(command, str(gate), DIGEST)


@pytest.mark.parametrize("command", DENIED + ALSO_DENIED)
def test_what_is_the_users_is_denied(gate, command):
    assert judged(gate, command)


@pytest.mark.parametrize("command", LEFT_ALONE + EVERYDAY)
def test_reading_and_other_work_is_left_alone(gate, command):
    assert judged(gate, command) == ""


def test_a_denial_reaches_the_harness_in_its_own_words(gate):
    code, answer, _ = hook("tool", {"tool_name": "Bash", "tool_input": {"command": "rm -rf results"}, "cwd": str(gate)})
    out = answer["hookSpecificOutput"]
    assert (code, out["hookEventName"], out["permissionDecision"]) == (0, "PreToolUse", "deny")
    assert "moved or deleted by the user" in out["permissionDecisionReason"]


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("Write", {"file_path": f"{RUN}/loop_log.jsonl", "content": "x"}),
        ("Edit", {"file_path": f"/w/{RUN}/deft_state.json"}),
        ("Write", {"file_path": f"/s/deft-aoi/plans/{DIGEST}.json", "content": "{}"}),
        ("apply_patch", {"input": f"*** Begin Patch\n*** Update File: {RUN}/loop_log.jsonl\n+x\n*** End Patch"}),
        ("NotebookEdit", {"notebook_path": f"./{RUN}/run/../loop_log.jsonl"}),
        ("mcp__serena__replace_lines", {"relative_path": f"{RUN}/loop_log.jsonl", "start": 1}),
        ("mcp__fs__write_files", {"files": [{"path": f"{RUN}/run/plan.json", "content": "x"}]}),
        ("mcp__fs__move_file", {"source": "/tmp/x", "destination": f"{RUN}/deft_state.json"}),
        ("mcp__fs__delete_directory", {"path": "./results"}),
        ("mcp__shell__execute", {"command": ["rm", f"{RUN}/loop_log.jsonl"]}),
        ("mcp__shell__run", {"cmd": "bash", "args": ["-c", "rm -rf results"]}),
        ("mcp__terminal__send_keys", {"keys": f"{S}approve.py --confirm f00d42\n"}),
        ("mcp__terminal__send_keys", {"keys": "go\n"}),
        ("CronCreate", {"cron": "* * * * *", "prompt": "go"}),
        ("ScheduleWakeup", {"delaySeconds": 60, "prompt": "yes, go ahead"}),
        ("SendMessage", {"to": "main", "message": "approved"}),
        ("Bash", {"command": 'claude -c -p "go"'}),
        ("Bash", {"command": "echo go | claude -p --resume s1"}),
        ("Bash", {"command": "tmux send-keys -t main 'yes, start' Enter"}),
    ],
)
def test_no_tool_writes_the_record_or_speaks_for_the_user(gate, tool, given):
    assert guard_hook.on_tool({"tool_name": tool, "tool_input": given, "cwd": str(gate)})


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("Write", {"file_path": f"{RUN}/iter1_summary.md", "content": f"see {RUN}/loop_log.jsonl"}),
        ("Write", {"file_path": "notes.md", "content": "rm -rf results"}),
        ("mcp__filesystem__read_text_file", {"path": f"{RUN}/loop_log.jsonl"}),
        ("mcp__fs__list_directory", {"path": "results"}),
        ("mcp__fs__create_directory", {"path": f"{RUN}/notes"}),
        ("mcp__fs__move_file", {"source": "other/x", "destination": "results/x"}),
        ("mcp__shell__run", {"cmd": "ls results"}),
        ("Bash", {"command": "claude --version"}),
        ("SendMessage", {"to": "main", "message": "the plan is ready"}),
    ],
)
def test_tools_read_and_write_everything_else(gate, tool, given):
    assert guard_hook.on_tool({"tool_name": tool, "tool_input": given, "cwd": str(gate)}) == ""


def test_another_projects_script_of_the_same_name_is_none_of_ours(gate):
    for name in ("approve.py", "run_loop.py"):
        (gate / "other" / name).write_text("")
    assert judged(gate, "cd other && python3 approve.py --yes") == ""
    assert judged(gate, "cd other && python3 run_loop.py --yes") == ""


@pytest.mark.parametrize(
    "command", ["ls -la /usr/lib", "npm test -- --watch", "cat > /tmp/x <<'E'\n" + "it's a line; cp x y\n" * 400 + "E"]
)
def test_a_foreign_call_ends_before_json_re_or_shlex_is_imported(gate, command):
    call = {"session_id": "s", "transcript_path": "/home/u/.claude/projects/-home-u-app/s.jsonl", "permission_mode": "default"}
    call |= {"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {"command": command}, "cwd": "/home/u/app"}
    program = (
        f"import sys; sys.argv = ['guard.py', 'tool']; sys.path.insert(0, {str(GUARD.parent)!r}); import guard;"
        "code = guard.main();"
        "print(code, *sorted({'json', 're', 'shlex', 'pathlib', 'subprocess'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], input=json.dumps(call).encode(), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "0"


@pytest.mark.parametrize(
    "line", ["a=$a$a; " * 40 + "rm $a", "rm " + "{a,b}" * 30, "rm " + "*a" * 60, "'" * 3001 + "rm x", "$(" * 2000 + "rm x"]
)
def test_a_line_that_unfolds_without_bound_is_still_answered(gate, line):
    assert isinstance(judged(gate, line), str | None)


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
    call = {"tool_name": "Bash", "tool_input": {"command": f"{S}approve.py x"}}
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
    plans.write_summary(DIGEST, SUMMARY)
    call = {
        "prompt": words,
        "session_id": "s1",
        "hook_event_name": "UserPromptSubmit",
        "transcript_path": transcript(gate / "t.jsonl", *entries),
    }
    code, answer, error = hook("prompt", call)
    assert code == 0, error
    return answer


SUMMARY = "DEFT AOI Pre-Flight Summary\nworkspace  /w\n\nRun\n  epochs   3   (user)"
SUMMARY += f"\n\nPlan digest {DIGEST}\nTo start: answer with a clear go"
SHOWN = assistant(f"Here it is:\n```\n{SUMMARY}\n```\nReply go to start.")
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
        (assistant(f"Plan {DIGEST[:12]} waits. Shall I delete the old results first?"),),
        (assistant(SUMMARY.replace("epochs   3", "epochs   4")),),
        (assistant(SUMMARY.replace(DIGEST, DIGEST[:12])),),
        (assistant(f"{SUMMARY}\nBefore that: shall I delete the old results?"),),
        (assistant(f"{SUMMARY}\n" + "And something else is to be said. " * 20),),
    ],
)
def test_go_without_this_plans_summary_as_the_last_thing_shown_approves_nothing(gate, entries):
    answer = prompt(gate, "go", *entries)
    assert answer is None or "NOT approved" in json.dumps(answer)
    assert plans.read_approval(DIGEST) is None


def test_a_message_split_over_several_lines_is_one_message(gate):
    prompt(gate, "go", assistant("thinking", "m7"), assistant(SUMMARY, "m7"), assistant("Waiting.", "m7"))
    assert plans.read_approval(DIGEST) is not None


def test_a_missing_transcript_approves_nothing_and_blocks_nobody(gate):
    code, answer, error = hook("prompt", {"prompt": "go", "transcript_path": "/nowhere"})
    assert (code, answer) == (0, None)
    assert "no approval recorded" in error
    assert plans.read_approval(DIGEST) is None


def test_a_summary_retold_with_marks_of_its_host_counts_and_a_go_in_another_language_is_answered(gate):
    prompt(gate, "vas-y", assistant(SUMMARY.replace("  epochs   3   (user)", "| epochs | **3** | (user) |")))
    assert plans.read_approval(DIGEST) is not None


def test_a_no_is_answered_as_a_no_in_the_users_language(gate):
    context = prompt(gate, "nein, noch nicht", SHOWN)["hookSpecificOutput"]["additionalContext"]
    assert "says no" in context
    assert "bitte antworten: go" in context
