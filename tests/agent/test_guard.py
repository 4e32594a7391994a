"""The hooks, as the harness runs them: one process, JSON on stdin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import deft_aoi
from deft_aoi.contract import plans

ROOT = Path(deft_aoi.__file__).parents[2]
GUARD = ROOT / "hooks" / "guard.py"
sys.path.insert(0, str(GUARD.parent))
import guard as guard_hook  # noqa: E402
from guard_rules import judge_command  # noqa: E402

DIGEST = "0123456789ab" + "c" * 46 + "f00d42"
S = f"python3 {ROOT}/scripts/"
RUN = "results/run_20260101_120000"


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


DENIED = [
    f"{S}approve.py {DIGEST}",
    f"{S}approve.py --confirm f00d42",
    f"echo f00d42 | {S}approve.py {DIGEST}",
    f"deft approve {DIGEST}",
    "python3 -m deft_aoi approve --confirm f00d42",
    f"cd {ROOT}/scripts && ./approve.py x",
    f"{ROOT}/scripts/approve.py --confirm f00d42",
    f"timeout 5 {S}approve.py {DIGEST}",
    f"bash -c '{S}approve.py {DIGEST}'",
    f"bash <<< '{S}approve.py --confirm f00d42'",
    f"bash <<'E'\n{S}approve.py --confirm f00d42\nE",
    f"make -f - <<'E'\nall:\n\t{S}approve.py --confirm f00d42\nE",
    f"git -c alias.x='!{S}approve.py --confirm f00d42' x",
    f"env -S '{S}approve.py --confirm f00d42'",
    f"c='{S}approve.py --confirm f00d42'; $c",
    f'echo "$({S}approve.py {DIGEST})"',
    f"python3 {ROOT}/scripts/appro''ve.py {DIGEST}",
    f"python3 -c \"import runpy; runpy.run_path('{ROOT}/scripts/approve.py')\"",
    f"ln -s {ROOT}/scripts/approve.py ok.py",
    f"{S}run_loop.py --workspace w --yes",
    f"{S}run_loop.py --workspace w --ye",
    f"Y=--yes; {S}run_loop.py --workspace w $Y",
    f"{S}run_agent.py 'go' --yes",
    "deft run_loop --workspace w --yes",
    f"{S}repair_run.py --results-dir r",
    f"{S}log_stage.py --log-path @L --iter-label iter1 --stage train --status ok --summary x",
    f"{S}log_stage.py --log-path @L --iter-label run --stage=approve --status ok --summary x",
    "echo '{\"seq\":9}' >> @L",
    "echo x >| @L",
    "echo x &> @L",
    "sed -i s/NOT/MET/ @L",
    "perl -pi -e s/a/b/ @L",
    "echo x | tee -a @L",
    "rm @L",
    "rm @R/*.jsonl",
    "mv /tmp/x @R/deft_state.json",
    "cp /tmp/loop_log.jsonl @R",
    "cp -t @R /tmp/loop_log.jsonl",
    "truncate -s 0 @L",
    "F=@L; echo x >> $F",
    "dd if=/tmp/x of=@L",
    "cd @R && echo x > run/plan.json",
    "cat > @R/deft_state.json <<'X'\n{}\nX",
    f"echo x > ~/.local/state/deft-aoi/plans/{DIGEST}.approval.json",
    "cp /tmp/a ~/.local/state/deft-aoi/plans/",
    "rm -rf ~/.local/state/deft-aoi",
    "bash -c 'echo x >> @L'",
    "rm -rf @R",
    "rm -rf results",
    "rm -rf res*",
    "rm -rf *",
    "rm -rf ./*",
    "rm -rf {results,build}",
    'rm -r "$PWD"',
    "cd results && rm -rf run_2026*",
    "cd @R && rm -rf ..",
    "(cd build && make); rm -rf *",
    "sudo rm -rf results",
    "bash -c 'rm -rf results'",
    "find . -name x | xargs rm -rf results",
    "mv @R results/old",
    "mv res* other",
]

LEFT_ALONE = [
    "ls -la",
    "git status",
    "make test",
    "npm run approve",
    "echo approve",
    "git commit -m 'write loop_log.jsonl docs; rm -rf results'",
    "cat @L",
    "tail -n 3 @L | jq .seq",
    "jq . @R/deft_state.json > /tmp/x",
    "grep -c '>' @L",
    "wc -l < @L",
    "sha512sum @L",
    "hexdump -C @L",
    "zgrep x @L",
    "awk '{print > \"/dev/stdout\"}' @L",
    "sed -n 1,3p @L",
    "sed -e 's/;/x/' @L | sort > /tmp/y",
    "python3 -m json.tool @R/deft_state.json",
    "python3 -c \"import json; print([json.loads(l)['stage'] for l in open('@L')])\"",
    "cp @L /tmp/copy",
    "cp -r @R /tmp/backup",
    "tar czf /tmp/run.tgz results",
    "git add @L",
    "ln -s @R latest",
    "docker cp @L c:/tmp/",
    "ssh box 'tail -3 /w/results/run_1/loop_log.jsonl'",
    f"cat {ROOT}/scripts/approve.py",
    f"grep -n digest {ROOT}/scripts/approve.py",
    f"wc -l {ROOT}/scripts/*.py",
    f"git log -- {ROOT}/scripts/approve.py",
    f"python3 -m ruff check {ROOT}/scripts/approve.py",
    f"{S}approve.py --help",
    "grep -r approve.py .",
    "python3 -c \"print('approve.py')\"",
    "docker compose exec web python approve.py --yes",
    f"{S}preflight.py --workspace w",
    f"{S}status.py --results-dir @R",
    f"{S}log_stage.py --log-path @L --iter-label run --stage note --status ok --summary x --duration-sec 0",
    f"{S}verify_run.py --results-dir @R && tail -1 @L",
    f"{S}run_loop.py --results-dir @R --until-agent 2>&1 | tail -20",
    f"nohup {S}run_loop.py --results-dir @R > /tmp/run.log 2>&1 &",
    f"{S}run_loop.py --help",
    "apt-get install --yes foo",
    "python train.py --yes",
    "find . -name loop_log.jsonl",
    "rm -rf build",
    "rm -rf *.pyc",
    "cd build && rm -rf *",
    "rm -f /tmp/other/deft_state.json",
    "mv my_loop_log.jsonl archive/",
    "echo x > logs/training_loop_log.jsonl",
    "mv build other",
    "cat > notes.md <<'E'\nrm -rf results\nE",
    "echo go",
]


EVERYDAY = [
    "vim @L",
    "nl @L",
    "tac @L",
    "od -c @L | head",
    "cut -c1-80 @L",
    "sort @R/loop_log.jsonl | uniq -c",
    "for f in results/*/loop_log.jsonl; do tail -1 $f; done",
    'while read l; do echo "$l" | jq .stage; done < @L',
    "cat @L 2>/dev/null",
    "cat @L 2>&1 | tee /tmp/copy",
    "diff <(cat @L) /tmp/x",
    "less +G @L",
    "column -t -s, @R/iter1/kpi.csv",
    "python3 - <<'E'\nimport json\nfor l in open('@L'): print(json.loads(l)['stage'])\nE",
    "jq -r '.stage + \" \" + .status' @L > /tmp/stages.txt",
    "jq 'select(.seq > 3)' @L",
    "awk '$3 > 5 {print $1}' @R/iter1/x.txt",
    'grep -n "rm -rf" @S/run_loop.py',
    "sed -n '1,20p' @S/approve.py",
    "git diff @S/approve.py",
    "git log --oneline -- scripts/approve.py",
    'git add scripts/approve.py && git commit -m "approve.py: docs"',
    "uv run ruff check @S/approve.py",
    "ruff check @S/run_loop.py",
    "mypy @S/approve.py",
    "code @S/approve.py",
    "rm -f run_tests.sh",
    "mv run_a.py scripts/",
    "rm -rf run_out",
    "rm -f /tmp/run_1.log",
    'rm -rf "$TMPDIR/x"',
    "T=$(mktemp -d); python3 @S/status.py --results-dir @R > $T/x; rm -rf $T",
    "rm -rf build/ dist/ *.egg-info",
    "rm -rf {build,dist}",
    "rm -rf /tmp/fixed && python3 @S/check_data.py --workspace . --write-fixed /tmp/fixed",
    "find . -name '*.tmp' -exec rm {} \\;",
    "docker run --rm -v $PWD:/w alpine rm -rf /tmp/x",
    "docker rm results",
    "git rm --cached notes.md",
    "ls @R | wc -l",
    "du -sh results/*",
    "python3 @S/run_loop.py --results-dir @R --wait 500; tail -3 @R/run/logs/driver.log",
    "sleep 400; python3 @S/next_stage.py --results-dir @R",
    "python3 @S/compare_runs.py @R",
    "watch -n 30 python3 @S/status.py --results-dir @R",
    "stat @R/run/plan.json",
    "xxd @R/run/plan.json | head -2",
    "cp @R/report.html /tmp/",
    "cp -a @R/iter1 /tmp/iter1",
    "rsync -a @R/ backup:/runs/",
    "scp @L box:/tmp/",
    "zip -r /tmp/run.zip @R",
    "tar -cf - @R | ssh box 'cat > /tmp/run.tar'",
    "python3 -m http.server -d @R",
    "open @R/report.html",
    "xdg-open @R/report.html",
    'python3 @S/log_stage.py --log-path @L --iter-label run --stage note --status ok --summary "the user asked: approve later?"',
    'echo "see @L" >> notes.md',
    "echo hello > @R/notes.txt",
    "cat > @R/iter1_summary.md <<'E'\nrm -rf nothing\nE",
    "mkdir -p results/notes",
    "touch results/keep.txt",
    "python3 @S/render_report.py --results-dir @R | head",
    "npm run approve",
    "pytest tests/test_approve.py",
    "python3 -m pytest tests/agent/test_guard.py -k approve",
]

ALSO_DENIED = [
    "rm -rf @W",
    "rm -rf @W/results/",
    "rm -rf ./results/run_2026*",
    "cd results; rm -r *",
    "for r in results/run_*; do rm -rf $r; done",
    "find results -name 'x' ; rm -rf results/*",
    "cd results/.. && rm -rf results",
    "cd @R && rm -rf .",
    "cd @R/run && rm plan.json",
    "mv results results_old",
    "mv @R /tmp/",
    "mv @R/loop_log.jsonl /tmp/",
    "sudo rm -rf @R",
    'rm -rf "@R"',
    "rm -rf '@W'",
    "nice rm -r @R",
    "if true; then rm -rf results; fi",
    "true && rm -rf results",
    "true || rm -rf results",
    "ls; (rm -rf results)",
    "sed -i.bak s/a/b/ @L",
    "sed --in-place s/a/b/ @L",
    "sed -ni 1p @L",
    "sed -E -i s/a/b/ @L",
    ": > @L",
    "> @L",
    "cat /dev/null > @L",
    "echo x 2>> @L",
    "echo x &>> @L",
    "cp /tmp/a @L",
    "cp /tmp/a @R/run/plan.json",
    "cp /tmp/deft_state.json @R/",
    "mv /tmp/a @R/deft_state.json",
    "tee -a @L <<< x",
    "printf x | tee @L > /dev/null",
    "truncate -s0 @R/deft_state.json",
    "python @S/approve.py",
    "python3 -u @S/approve.py @D",
    'sh -c "cd @S && python3 approve.py @D"',
    "cd @S && python3 approve.py @D",
    "cd @S/.. && python3 scripts/approve.py @D --confirm f00d42",
    "yes | python3 @S/run_loop.py --workspace . --yes",
    "python3 @S/run_loop.py --workspace=. --yes --until-agent",
    "nohup python3 @S/run_loop.py --workspace . --yes &",
    "python3 @S/repair_run.py --results-dir @R",
    "python3 -m deft_aoi repair-run --results-dir @R",
    "uvx deft approve @D",
    "deft run-loop --workspace . --yes",
    "python3 @S/log_stage.py --stage approve --log-path @L",
    "python3 @S/log_stage.py --stage=train --log-path @L",
    "echo @D | xargs python3 @S/approve.py",
    "unlink @L",
    "shred @L",
]


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
