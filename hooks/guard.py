"""Both hooks of the skill, in one file that starts in a few milliseconds.

``guard.py prompt`` (UserPromptSubmit): where the Summary of the pending plan is the last thing that the assistant
showed and the user's words are a clear go, it records them as approval.
``guard.py tool`` (PreToolUse): denies ``approve.py``, ``--yes``, a side-effecting script of this skill without an
approval, and every write to plan, approval, log or state files. All other tool calls pass untouched.

Input is one JSON object on stdin. A denial is a JSON object on stdout; when this file itself fails on a call of the
skill it exits 2 with a message, which blocks the call: it fails closed. An agent with a shell could still forge a
file in a way that is not foreseen here; the harness's permission prompt is the control, this is the interlock.
"""

import sys

# Any of these in the raw input means that the call concerns the skill. Everything else leaves at once.
TRIGGERS = (
    b"approve", b"--y", b"deft", b"loop_log", b"_state.json", b".approval", b"plans/", b"plan.json",
    b"init_deft", b"run_loop", b"run_stage", b"run_agent", b"prestage_pregen", b"changenet_data_pair",
    b"assemble_training", b"knn_mine", b"prepare_inference", b"repair_run", b"cancel.py", b"infer.py",
    b"render_report", b"route_gaps", b"analyze_gaps", b"record_spot_check", b"align_token", b"log_stage",
    b"run/log.", b"run/run.lock", b"run/reserve", b"spot_check.json", b"claude", b"CronCreate", b"ScheduleWakeup", b"SendMessage",
)  # fmt: skip

GATED = frozenset((
    "init_deft_state", "run_stage", "run_loop", "prestage_pregen", "changenet_data_pair_prepare",
    "prepare_inference_spec",
))  # fmt: skip
"""Scripts that change a run or start a job (a test compares this with the loop's own list). Each refuses by itself
(exit 5) without an approval; here it is refused one step earlier."""

READ_ONLY = {"changenet_data_pair_prepare": "--check"}
"""The option with which a gated script only reads, and so needs no approval."""

PROMPTING = ("CronCreate", "ScheduleWakeup", "SendMessage")
"""Tools whose text comes back as a submitted prompt: a "go" of the agent must not pass for the user's."""

PERSON_ONLY = frozenset({"approve", "repair_run"})

PROTECTED_NAMES = ("loop_log.jsonl", "deft_state.json", ".approval.json")
PROTECTED_TAILS = ("run/plan.json", "run/log.index", "run/log.lock", "run/run.lock", "run/reserve", "run/spot_check.json")
PLANS_DIR = "deft-aoi/plans"

VIEWERS = frozenset((
    "cat", "head", "tail", "less", "more", "wc", "ls", "stat", "jq", "grep", "egrep", "fgrep", "rg", "diff",
    "cmp", "file", "sha256sum", "md5sum", "test", "[", "realpath", "readlink", "basename", "dirname", "du",
    "nl", "od", "xxd", "cd", "pwd", "tac", "cut", "sort", "uniq", "bat",
))  # fmt: skip
RUNNERS = frozenset((
    "sudo", "env", "nohup", "timeout", "nice", "ionice", "time", "command", "exec", "stdbuf", "setsid", "xargs",
    "then", "do", "else", "if", "while", "until", "!",
))  # fmt: skip
INTERPRETERS = ("python", "pypy", "perl", "ruby", "node", "awk", "gawk", "sed", "ed", "ex", "vi", "php")
SHELLS = frozenset(("sh", "bash", "zsh", "dash", "ksh", "eval"))
OPERATORS = frozenset([";", "&", "&&", "||", "|", "|&", "(", ")", "{", "}", ";;", "\n"])
REDIRECTS = (">", ">>", ">|", "&>", "&>>", "<>", ">&")

NO_APPROVAL = (
    "The plan is not approved yet. Show the Pre-Flight Summary that preflight.py printed as plain text, "
    "then stop and wait for the user's own words. The user can also run the approve.py line at its end."
)
HANDS_OFF = (
    "Plan, approval, log and state files are written by the skill's scripts only. To add a note use "
    "log_stage.py --stage note; to see the state use status.py or next_stage.py; to check it use verify_run.py."
)
PERSONS = (
    "Approving and repairing are for the user. Show the Pre-Flight Summary, stop, and wait: the user's own words, "
    "or the approve.py line that the user runs, are the approval."
)


def main() -> int:
    """Reads the call, leaves at once where it is not the skill's, else judges it."""
    raw = sys.stdin.buffer.read()
    which = sys.argv[1] if len(sys.argv) > 1 else ""
    if which == "tool":
        bare = raw.translate(None, b"'\"\\")
        if not any(trigger in bare for trigger in TRIGGERS):
            return 0
    try:
        import json
        import os

        sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scripts"))
        call = json.loads(raw)
        answer = on_prompt(call) if which == "prompt" else on_tool(call)
        if answer is not None:
            sys.stdout.write(json.dumps(answer))
        return 0
    except Exception as error:
        if which == "prompt":  # never keep the user from talking; only the approval is missing
            sys.stderr.write(f"deft-aoi hook: no approval recorded ({type(error).__name__})\n")
            return 0
        sys.stderr.write(
            f"deft-aoi hook failed ({type(error).__name__}) and therefore denies this call of the skill. "
            "Ask the user to check that the plugin is complete and to run preflight.py again.\n"
        )
        return 2


def on_tool(call: dict) -> "dict | None":
    """The decision on one tool call: None lets the harness decide as always."""
    tool, given = call.get("tool_name", ""), call.get("tool_input") or {}
    if isinstance(given.get("command"), str):
        reason = judge_command(given["command"], str(call.get("cwd", "")))
    elif tool in PROMPTING:
        reason = PERSONS if puts_words_into_the_users_mouth(given) else ""
    else:
        paths = [str(v) for k, v in given.items() if isinstance(v, str) and k.endswith(("path", "file", "destination"))]
        writes = not tool.startswith("mcp__") or any(
            w in tool.lower() for w in ("write", "edit", "create", "move", "delete", "append", "remove", "copy")
        )
        reason = HANDS_OFF if writes and any(is_protected(p) for p in paths) else ""
    if not reason:
        return None
    return {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": reason,
        }
    }


def puts_words_into_the_users_mouth(given: dict) -> bool:
    """True where a plan waits and a text that would be submitted as a prompt is a clear go."""
    from deft_aoi.agent import consent
    from deft_aoi.contract import plans

    pending = plans.read_pending()
    if pending is None or plans.read_approval(str(pending["digest"])) is not None:
        return False
    return any(isinstance(v, str) and consent.is_clear_go(v, str(pending["digest"])) for v in given.values())


def is_protected(path: str) -> bool:
    """True for a path that names a plan, approval, log or state file of the skill."""
    plain = path.replace("\\", "/").rstrip("/")
    while "/./" in plain or "//" in plain:
        plain = plain.replace("/./", "/").replace("//", "/")
    name = plain.rpartition("/")[2]
    return name.endswith(PROTECTED_NAMES) or plain.endswith(PROTECTED_TAILS) or PLANS_DIR in plain


def mentions_protected(text: str) -> bool:
    """True where a text, such as a program given to an interpreter, names a protected file anywhere."""
    return any(name in text for name in (*PROTECTED_NAMES, *PROTECTED_TAILS, PLANS_DIR))


def judge_command(command: str, cwd: str, depth: int = 0) -> str:
    """Why a shell command is denied; the empty string where the skill has nothing against it."""
    import shlex

    if depth > 4:
        return HANDS_OFF
    if "<<" in command and mentions_protected(command):
        for word in command.replace(";", " ").replace("|", " ").split():
            name = word.rpartition("/")[2]
            if name in SHELLS or name.startswith(INTERPRETERS[:6]):
                return HANDS_OFF  # a program in a here-document
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        tokens = list(lexer)
    except ValueError:  # an open quote, a heredoc with an apostrophe: judge the text as a whole
        tokens = []
        if mentions_protected(command) or "approve.py" in command:
            return HANDS_OFF
        return judge_script(command.split(), cwd)
    segment: list[str] = []
    for token in [*tokens, ";"]:
        if token in OPERATORS or set(token) <= set(";&|()\n"):
            reason = judge_segment(segment, cwd, depth)
            if reason:
                return reason
            if len(segment) == 2 and segment[0] == "cd":
                cwd = f"{cwd}/{segment[1]}" if not segment[1].startswith(("/", "~", "$")) else segment[1]
            segment = []
        else:
            segment.append(token)
    return ""


def judge_segment(tokens: "list[str]", cwd: str, depth: int) -> str:
    """Judges one simple command of a shell line."""
    words, targets, skip = [], [], False
    for index, token in enumerate(tokens):
        if skip:
            skip = False
        elif token in REDIRECTS or (token.strip("0123456789<>|&") == "" and ">" in token):
            targets.append(tokens[index + 1] if index + 1 < len(tokens) else "")
            skip = True
        else:
            words.append(token)
    if any(is_protected(t) for t in targets):
        return HANDS_OFF
    assigned = []
    while words and (words[0].rpartition("/")[2] in RUNNERS or _is_assignment(words[0])):
        assigned.append(words.pop(0))
        while assigned[-1] in RUNNERS and words and (words[0].startswith("-") or words[0][:1].isdigit()):
            words.pop(0)  # `timeout 5`, `nice -n 3`, `xargs -0`
    if any(mentions_protected(a) for a in assigned):
        return HANDS_OFF
    if not words:
        return ""
    name, text = words[0].rpartition("/")[2], " ".join(words)
    if name == "claude" and puts_words_into_the_users_mouth(dict(enumerate(words))):
        return PERSONS
    nested = "$(" in text or "`" in text
    if name in SHELLS:
        for word in words[1:]:
            reason = judge_command(word, cwd, depth + 1) if " " in word or depth else ""
            if reason:
                return reason
    if nested:
        inner = text.replace("$(", ";").replace("`", ";").replace(")", ";")
        reason = judge_command(inner, cwd, depth + 1)
        if reason:
            return reason
    reason = judge_script(words, cwd)
    if reason:
        return reason
    if _script_of(words, cwd) is not None:
        return ""  # our own script: it takes such paths as arguments and guards them itself
    looks_only = (name in VIEWERS or _is_reading(name, words)) and not nested
    if looks_only:
        return ""
    if name in ("cp", "rsync") and not is_protected(words[-1]):
        return ""
    if name in SHELLS or name.startswith(INTERPRETERS):
        if "approve.py" in text and _is_ours(words, "approve.py", cwd):
            return PERSONS
        if mentions_protected(text):
            return HANDS_OFF
    return HANDS_OFF if any(is_protected(w.partition("=")[2] or w) for w in words) else ""


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.replace("_", "a").isalnum() and not name[:1].isdigit()


def _is_reading(name: str, words: "list[str]") -> bool:
    if name == "git":
        return len(words) > 1 and words[1] in ("diff", "log", "show", "status", "blame", "grep", "add")
    if name == "sed":
        return not any(w.startswith(("-i", "--in-place")) or " w" in w or w.startswith("w") for w in words[1:])
    if name == "find":
        return not any(w in ("-delete", "-exec", "-execdir", "-ok", "-fprint", "-fls") for w in words)
    return False


def _script_of(words: "list[str]", cwd: str) -> "str | None":
    """The skill's verb that a simple command runs: ``python3 …/run_loop.py``, ``./run_loop.py``, ``deft run_loop``."""
    import os

    verb_at = _verb_index(words)
    if verb_at is None:
        return None
    verb = words[verb_at].rpartition("/")[2]
    verb = verb[:-3] if verb.endswith(".py") else verb
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    known = verb in PERSON_ONLY | GATED | {"run_agent"} or os.path.isfile(f"{here}/scripts/{verb}.py")
    return verb if known and _is_ours(words, words[verb_at], cwd) else None


def _is_ours(words: "list[str]", path: str, cwd: str) -> bool:
    """False only for a script that is there and lies in another project; what cannot be found counts as ours."""
    import os

    if words[0].rpartition("/")[2] == "deft" or "$" in path:
        return True
    full = os.path.realpath(os.path.join(cwd, os.path.expanduser(path)))
    return not os.path.isfile(full) or os.path.isdir(os.path.join(os.path.dirname(full), "deft_aoi"))


def _verb_index(words: "list[str]") -> "int | None":
    name = words[0].rpartition("/")[2]
    if name.startswith("python") or name in ("uv", "pypy3"):
        for index, word in enumerate(words[1:], 1):
            if word in ("-c", "-m"):
                return None
            if word.endswith(".py"):
                return index
        return None
    if name == "deft":
        return 1 if len(words) > 1 else None
    return 0 if name.endswith(".py") else None


def judge_script(words: "list[str]", cwd: str) -> str:
    """Judges a call of one of the skill's own scripts."""
    if not words:
        return ""
    verb = _script_of(words, cwd)
    if verb is None:
        return ""
    if any(w in ("-h", "--help") for w in words):
        return ""
    if verb in PERSON_ONLY:
        return PERSONS
    if any(w.startswith("--y") and "--yes".startswith(w.partition("=")[0]) for w in words):
        return PERSONS
    if verb == "log_stage" and _option(words, "--stage") not in ("note", ""):
        return HANDS_OFF
    if verb in GATED and READ_ONLY.get(verb) not in words and not has_approval(words, cwd):
        return NO_APPROVAL
    return ""


def _option(words: "list[str]", name: str) -> str:
    """The value of an option of a command line; the last one counts, as in argparse."""
    found = ""
    for index, word in enumerate(words):
        key, equals, value = word.partition("=")
        if key == name:
            found = value if equals else (words[index + 1] if index + 1 < len(words) else "")
    return found


def has_approval(words: "list[str]", cwd: str) -> bool:
    """True where the named run is open already, or the plan that the command is for is approved."""
    import os

    from deft_aoi.contract import plans

    run, digest = _option(words, "--results-dir"), _option(words, "--plan-digest")
    log = os.path.join(cwd, os.path.expanduser(run), "loop_log.jsonl")
    if run and os.path.isfile(log) and os.path.getsize(log) > 0:
        return True  # the run's first event is its approval; the script checks that the digest still holds
    if run and "$" in run:
        return True  # an unexpanded variable: the script's own gate decides
    if digest:
        folder = plans.plans_dir()
        names = os.listdir(folder) if os.path.isdir(folder) else []
        fits = [n[:64] for n in names if n.startswith(digest) and n.endswith(".json") and plans.is_digest(n[:-5])]
        return len(fits) == 1 and plans.read_approval(fits[0]) is not None
    pending = plans.read_pending()
    return pending is not None and plans.read_approval(str(pending["digest"])) is not None


def on_prompt(call: dict) -> "dict | None":
    """Records the user's words as approval where they are one; None where they do not concern the gate."""
    from deft_aoi.contract import plans

    pending = plans.read_pending()
    if pending is None:
        return None
    digest = str(pending["digest"])
    if plans.read_approval(digest) is not None:
        return None
    shown = last_shown(str(call.get("transcript_path", "")))
    if digest[:12] not in shown:
        return None
    from deft_aoi.agent import consent

    words = str(call.get("prompt", ""))
    reason = consent.why_not(words, digest)
    if reason:
        return _context(
            f"DEFT AOI gate: plan {digest[:12]} is NOT approved by this message ({reason}). Answer the user; where a "
            "parameter changes run preflight.py again; show the new Summary and wait for a plain go."
        )
    plans.write_approval(digest, "user_prompt_hook", words, str(call.get("session_id", "")))
    return _context(f"DEFT AOI gate: the user approved plan {digest[:12]}; it is on record. Start the loop now.")


def _context(text: str) -> dict:
    return {"hookSpecificOutput": {"hookEventName": "UserPromptSubmit", "additionalContext": text}}


def last_shown(transcript_path: str) -> str:
    """The text of the assistant's last message in this conversation (subagents' messages do not count)."""
    import json
    import os

    with open(transcript_path, "rb") as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(0, size - 1_000_000))
        lines = handle.read().splitlines()
    message_id, texts = None, []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the first line of the window may be cut
        if not isinstance(entry, dict) or entry.get("type") != "assistant" or entry.get("isSidechain"):
            continue
        message = entry.get("message") or {}
        if message_id is not None and message.get("id") != message_id:
            break
        message_id = message.get("id")
        blocks = message.get("content")
        if isinstance(blocks, list):
            texts += [str(b.get("text", "")) for b in blocks if isinstance(b, dict) and b.get("type") == "text"]
    return "\n".join(texts)


if __name__ == "__main__":
    sys.exit(main())
