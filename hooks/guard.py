"""Both hooks of the skill; this file reads the call and answers, ``guard_rules.py`` has the rules.

``guard.py prompt`` (UserPromptSubmit): where the Summary of the pending plan is the last thing that the assistant showed and the
user's words are a clear go, it records them as approval. ``guard.py tool`` (PreToolUse): denies the agent what is the user's.
All other calls pass untouched, and end before ``json`` is imported.

A denial is a JSON object on stdout; where this file itself fails on a call of the skill it exits 2, which blocks the call. An
interlock against mistakes: the control is the permission prompt of the harness.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = (b"deft", b"approve", b"loop_log", b"--y", b"run_", b"run-", b"run/", b"results", b"log_stage", b"log-stage", b"lock")
OURS += (b"plan.json", b"log.index", b"reserve", b"spot_check")
"""A call that fails is blocked where its raw input has one of these: nobody else's work stops for our defect."""
LOOKED_AT = (
    *OURS,
    b"rm",
    b"mv",
    b"del",
    b"move",
    b"unlink",
    b"shred",
    b"trash",
    b"rename",
    b"claude",
    b"codex",
    b"cursor",
    b"tmux",
)
PROMPTING = ("CronCreate", "ScheduleWakeup", "SendMessage")
TALKERS = {"claude", "codex", "cursor-agent", "gemini", "tmux", "screen", "xdotool"}
COMMANDS = ("command", "cmd", "commands", "args", "argv", "arguments", "keys", "script", "code", "line", "stdin")
CONTENTS = ("content", "contents", "text", "body", "message", "description", "new_string", "old_string", "new_str", "old_str")
CONTENTS += ("newText", "oldText", "file_text", "insert_text", "prompt", "needle", "query", "pattern")
READS = set(
    [
        "read",
        "get",
        "list",
        "ls",
        "search",
        "find",
        "view",
        "show",
        "stat",
        "info",
        "tree",
        "grep",
        "fetch",
        "glob",
        "exists",
        "directory",
    ]
)


class _Plain:
    """What the interpreter's own JSON scanner asks of a decoder: it needs no ``re``, as ``json`` does."""

    strict, object_hook, object_pairs_hook, parse_float, parse_int, parse_constant = False, None, None, float, int, float
    memo: dict = {}


def main() -> int:
    """Reads the call and judges it."""
    raw, which = sys.stdin.buffer.read(), sys.argv[1] if len(sys.argv) > 1 else ""
    if which == "tool" and not any(word in raw for word in (*LOOKED_AT, *(p.encode() for p in PROMPTING))):
        return 0
    sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "scripts")]
    try:
        call = decode(raw.decode())
        text = on_prompt(call) if which == "prompt" else on_tool(call)
        if text:
            import json

            name, key = (
                ("UserPromptSubmit", "additionalContext") if which == "prompt" else ("PreToolUse", "permissionDecisionReason")
            )
            answer = {"hookEventName": name, key: text, **({} if which == "prompt" else {"permissionDecision": "deny"})}
            sys.stdout.write(json.dumps({"hookSpecificOutput": answer}))
        return 0
    except Exception as error:
        if which == "prompt" or not any(
            word in raw for word in OURS
        ):  # never keep the user from talking, nor others from working
            sys.stderr.write(f"deft-aoi hook: no approval recorded ({type(error).__name__})\n" if which == "prompt" else "")
            return 0
        sys.stderr.write(f"deft-aoi hook failed ({type(error).__name__}) and therefore denies this call of the skill. ")
        sys.stderr.write("Ask the user to check that the plugin is complete and to run preflight.py again.\n")
        return 2


def decode(text: str) -> dict:
    """A JSON text, by the interpreter's own scanner where it can be had without ``re``."""
    try:
        from _json import make_scanner

        return make_scanner(_Plain)(text.strip(), 0)[0]
    except (ImportError, AttributeError, TypeError, StopIteration):
        import json

        return json.loads(text)


def leaves(given: object, key: str = "") -> "list[tuple[str, str]]":
    """Every text of a tool's input with the name that it stands under."""
    if isinstance(given, dict):
        return [leaf for name, value in given.items() for leaf in leaves(value, name)]
    if isinstance(given, list):
        return [leaf for value in given for leaf in leaves(value, key)]
    return [(key, given)] if isinstance(given, str) else []


def on_tool(call: dict) -> str:
    """Why a tool call is denied; the empty string lets the harness decide as always."""
    import guard_rules as rules

    tool, cwd, texts = str(call.get("tool_name", "")), str(call.get("cwd", "")), leaves(call.get("tool_input"))
    verbs = set("".join(f" {c.lower()}" if c.isupper() else c if c.isalpha() else " " for c in tool.split("__")[-1]).split())
    sends = tool in PROMPTING or verbs & {"keys", "stdin", "type", "send"}
    shell = verbs & {"keys", "stdin", "terminal", "shell", "run", "exec", "execute"}
    if tool.startswith("mcp__") and verbs & READS and not verbs & {"delete", "remove", "create", "move", "write", "run"}:
        return ""
    line, paths, said = [], [], []
    for key, text in texts:
        if key in COMMANDS or (shell and key in ("input", "text", "data", "chars")):
            line.append(f"'{text}'" if key != "command" and " " in text and line else text)
        elif key in ("patch", "diff", "input"):  # apply_patch of several hosts
            paths += [row.split(": ", 1)[-1].strip() for row in text.splitlines() if row.startswith("*** ") and ": " in row]
        elif key not in CONTENTS and "\n" not in text[:4096]:
            paths.append(text[:4096].removeprefix("file://"))
        said += [text] if sends else []
    ends = tool.startswith("mcp__") and verbs & (rules.ENDS | {"delete", "remove", "move"})
    if any(rules.protected(p, cwd) for p in paths):
        return rules.HANDS_OFF
    if ends and any(
        rules.holds_a_run(os.path.join(cwd, p)) for k, p in texts if k not in CONTENTS and "dest" not in k and "/" in p
    ):
        return rules.USERS_FOLDER
    command = " ".join(line)
    words = [w for words, _ in rules.segments(command) for w in words] if line else []
    if TALKERS & {os.path.basename(w) for w in words}:
        said += words
    digest = pending_digest() if said or "approve" in command else ""
    if digest and said:
        from deft_aoi.agent import consent

        if any(consent.is_clear_go(text, digest) for text in said):
            return rules.PERSONS
    return rules.judge_command(command, cwd, digest) if line else ""


def pending_digest() -> str:
    """The digest of the plan that waits for a go; empty where none does."""
    from deft_aoi.contract import plans

    pending = plans.read_pending()
    return "" if pending is None or plans.read_approval(str(pending["digest"])) is not None else str(pending["digest"])


def on_prompt(call: dict) -> str:
    """Records the user's words as approval where they are one; returns what the agent is told beside them."""
    digest = pending_digest()
    if not digest:
        return ""
    from deft_aoi.agent import consent
    from deft_aoi.contract import plans

    shown = consent.last_shown(str(call.get("transcript_path", "")))
    if digest[:12] not in shown:
        return ""
    words, gate = str(call.get("prompt", "")), f"DEFT AOI gate: plan {digest[:12]}"
    reason = consent.why_not_shown(shown, digest, plans.read_summary(digest)) or consent.why_not(words, digest)
    if reason:
        return f"{gate} is NOT approved by this message ({reason}). " + consent.what_to_answer(words)
    plans.write_approval(digest, "user_prompt_hook", words, str(call.get("session_id", "")))
    return f"{gate} is approved by the user; it is on record. Start the loop now."


if __name__ == "__main__":
    sys.exit(main())
