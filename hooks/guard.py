"""Both hooks of the skill; this file starts, reads the call, and answers.

``guard.py prompt`` (UserPromptSubmit): where the Summary of the pending plan is the last thing that the assistant
showed and the user's words are a clear go, it records them as approval.
``guard.py tool`` (PreToolUse): denies ``approve.py``, ``--yes``, a side-effecting script of this skill without an
approval, and every write to plan, approval, log or state files. All other tool calls pass untouched.

Input is one JSON object on stdin. A denial is a JSON object on stdout; when this file itself fails on a call of the
skill it exits 2 with a message, which blocks the call: it fails closed. An agent with a shell could still forge a
file in a way that is not foreseen here; the harness's permission prompt is the control, this is the interlock.

Every command line is judged, for a relative path, a pattern or a variable names nothing that one could look for; so
nothing here imports ``re``, on which ``json`` and ``shlex`` would spend half of the time that a call may cost.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = (b"deft", b"approve", b"loop_log", b"--y", b"run_loop", b"run_stage", b"results", b"prestage", b"repair_run", b"log_stage")
"""A call that fails is blocked where its raw input has one of these: nobody else's work stops for our defect."""

PROMPTING = ("CronCreate", "ScheduleWakeup", "SendMessage")
"""Tools whose text comes back as a submitted prompt: a "go" of the agent must not pass for the user's."""


class _Plain:
    """What the scanner asks of a decoder."""

    strict, object_hook, object_pairs_hook, parse_float, parse_int, parse_constant = False, None, None, float, int, float
    memo: dict = {}


def main() -> int:
    """Reads the call and judges it."""
    raw = sys.stdin.buffer.read()
    which = sys.argv[1] if len(sys.argv) > 1 else ""
    sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "scripts")]
    try:
        call = decode(raw.decode())
        answer = on_prompt(call) if which == "prompt" else on_tool(call)
        if answer is not None:
            import json

            sys.stdout.write(json.dumps({"hookSpecificOutput": answer}))
        return 0
    except Exception as error:
        if which == "prompt":  # never keep the user from talking; only the approval is missing
            sys.stderr.write(f"deft-aoi hook: no approval recorded ({type(error).__name__})\n")
            return 0
        if not any(word in raw for word in OURS):
            return 0
        sys.stderr.write(
            f"deft-aoi hook failed ({type(error).__name__}) and therefore denies this call of the skill. "
            "Ask the user to check that the plugin is complete and to run preflight.py again.\n"
        )
        return 2


def decode(text: str) -> dict:
    """A JSON text, by the interpreter's own scanner where it can be had without ``re``."""
    try:
        from _json import make_scanner

        scan = make_scanner(_Plain)
    except (ImportError, AttributeError, TypeError):
        import json

        return json.loads(text)
    try:
        return scan(text.strip(), 0)[0]
    except StopIteration:
        raise ValueError("not JSON") from None


def on_tool(call: dict) -> "dict | None":
    """The decision on one tool call: None lets the harness decide as always."""
    import guard_judge as judge
    from guard_line import Line

    tool, given, cwd = call.get("tool_name", ""), call.get("tool_input") or {}, str(call.get("cwd", ""))
    reason = ""
    if isinstance(given.get("command"), str):
        command = given["command"]
        reason = judge.judge_command(command, cwd)
        if not reason and "claude" in command and puts_words_into_the_users_mouth(command.split()):
            reason = judge.scripts.PERSONS
    elif tool in PROMPTING:
        reason = judge.scripts.PERSONS if puts_words_into_the_users_mouth(given.values()) else ""
    elif not tool.startswith("mcp__") or any(
        w in tool.lower() for w in ("write", "edit", "create", "move", "delete", "append", "remove", "copy", "save", "put")
    ):
        line = Line("", cwd)
        reason = judge.HANDS_OFF if any(line.protected(p) for p in named_paths(given)) else ""
    if not reason:
        return None
    return {"hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": reason}


def named_paths(given: dict) -> "list[str]":
    """The paths in an editor tool's input, one or several under a name that says so."""
    found = []
    for key, value in given.items():
        if key.lower().endswith(("path", "paths", "file", "files", "filename", "destination", "target", "source", "uri")):
            found += [v.removeprefix("file://") for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)]
    return found


def puts_words_into_the_users_mouth(texts: object) -> bool:
    """True where a plan waits and a text that would be submitted as a prompt is a clear go."""
    from deft_aoi.agent import consent
    from deft_aoi.contract import plans

    pending = plans.read_pending()
    if pending is None or plans.read_approval(str(pending["digest"])) is not None:
        return False
    return any(isinstance(t, str) and consent.is_clear_go(t, str(pending["digest"])) for t in texts)


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
    return {"hookEventName": "UserPromptSubmit", "additionalContext": text}


def last_shown(transcript_path: str) -> str:
    """The text of the assistant's last message in this conversation (subagents' messages do not count)."""
    import json

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
