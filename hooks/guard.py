"""Both hooks of the skill, an interlock against mistakes: the control is the permission prompt of the host.

``guard.py prompt`` (UserPromptSubmit) records a clear go as approval where the Summary of the pending plan was shown last.
``guard.py tool`` (PreToolUse) denies what is the user's (JSON on stdout); where it fails on a call of the skill: exit 2.
"""

import os
import sys

OURS = (b"deft", b"approve", b"loop_log", b"--y", b"run_", b"run-", b"run/", b"results", b"log_stage", b"log-stage", b"plan.json")
"""A call that fails is blocked where its bytes have one of these: a defect of this hook stops no other work."""
LOOKED_AT = (*OURS, b"rm ", b"mv ", b"rmdir", b"del ", b"delete", b"move", b"rename", b"unlink", b"shred", b"trash", b"claude ")
LOOKED_AT += (b"codex ", b"cursor-agent", b"gemini ", b"tmux", b"screen ", b"xdotool", b"keys", b"stdin", b"_type", b"send")
LOOKED_AT += (b"Send", b"CronCreate", b"ScheduleWakeup")
READS = {*"read get list ls search find view show stat info tree grep fetch glob exists directory".split()}
CHANGES = {*"delete remove create move write run rm rename edit update replace patch append set put".split()}
SENDS = {"keys", "stdin", "type", "send", "cron", "wakeup"}
RUNS = {"keys", "stdin", "terminal", "shell", "run", "exec", "execute"}
TALKERS = {"claude", "codex", "cursor-agent", "gemini", "tmux", "screen", "xdotool"}
COMMANDS = ("command", "cmd", "commands", "args", "argv", "arguments", "keys", "script", "code", "line", "stdin")
CONTENTS = r"contents?|\w*text|body|message|description|prompt|needle|query|pattern|new_source|(new|old)_str(ing)?"


def main() -> int:
    """Reads the call and judges it; a call whose bytes name nothing of the skill ends before ``json`` is imported."""
    raw, which = sys.stdin.buffer.read(), sys.argv[1] if len(sys.argv) > 1 else ""
    if which == "tool" and not any(word in raw for word in LOOKED_AT):
        return 0
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:0] = [f"{root}/hooks", f"{root}/scripts"]
    try:
        import json

        call = json.loads(raw)
        text = on_prompt(call) if which == "prompt" else on_tool(call)
        deny = {"hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": text}
        answer = {"hookEventName": "UserPromptSubmit", "additionalContext": text} if which == "prompt" else deny
        sys.stdout.write(json.dumps({"hookSpecificOutput": answer}) if text else "")
    except Exception as error:
        if which == "prompt":  # never keep the user from talking
            sys.stderr.write(f"deft-aoi hook: no approval recorded ({type(error).__name__})\n")
        elif any(word in raw for word in OURS):
            sys.stderr.write(f"deft-aoi hook failed ({type(error).__name__}) and therefore denies this call of the skill. ")
            sys.stderr.write("Ask the user to check that the plugin is complete and to run preflight.py again.\n")
            return 2
    return 0


def leaves(given: object, key: str = "") -> "list[tuple[str, str]]":
    """Every text of a tool's input with the name of its field."""
    if isinstance(given, dict):
        return [leaf for name, value in given.items() for leaf in leaves(value, name)]
    if isinstance(given, list):
        return [leaf for value in given for leaf in leaves(value, key)]
    return [(key, given)] if isinstance(given, str) else []


def on_tool(call: dict) -> str:
    """Why a tool call is denied; the empty string lets the host decide as always."""
    import re

    import guard_rules as rules

    tool, cwd, texts = str(call.get("tool_name", "")), str(call.get("cwd", "")), leaves(call.get("tool_input"))
    verbs, mcp = {verb.lower() for verb in re.findall("[A-Z]?[a-z]+", tool.split("__")[-1])}, tool.startswith("mcp__")
    if mcp and verbs & READS and not verbs & CHANGES:
        return ""
    line, paths = "", []
    for key, text in texts:
        if key in COMMANDS or (verbs & RUNS and key in ("input", "text", "data", "chars")):
            line += f" '{text}'" if line and " " in text else f" {text}"
        elif key in ("patch", "diff", "input"):  # apply_patch of several hosts
            paths += re.findall(r"^\*\*\* [^:\n]+: (.+?)\s*$", text, re.M)
        elif not re.fullmatch(CONTENTS, key, re.I) and "\n" not in text:
            paths.append(text.removeprefix("file://"))
    if any(rules.protected(path, cwd) for path in paths):
        return rules.HANDS_OFF
    moved = [text for key, text in texts if not re.fullmatch(CONTENTS, key, re.I) and "dest" not in key and "/" in text]
    if mcp and verbs & rules.ENDS and any(rules.holds_a_run(os.path.join(cwd, path)) for path in moved):
        return rules.USERS_FOLDER
    words = [word for command in rules.commands(line) for word in command[0]]
    said = [text for _, text in texts] if verbs & SENDS else words if TALKERS & {os.path.basename(w) for w in words} else []
    digest = pending_digest() if said or "approve" in line else ""
    if digest and said:
        from deft_aoi.agent import consent

        if any(consent.is_clear_go(text, digest) for text in said):
            return rules.PERSONS
    return rules.judge_command(line, cwd, digest)


def pending_digest() -> str:
    """The digest of the plan that waits for approval; empty where none does."""
    from deft_aoi.contract import plans

    pending = plans.read_pending()
    return "" if pending is None or plans.read_approval(str(pending["digest"])) is not None else str(pending["digest"])


def on_prompt(call: dict) -> str:
    """Records the user's words as approval where they are one; returns what the agent reads beside them."""
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
    return f"{gate} is approved by the user; the approval is recorded. Start the loop now."


if __name__ == "__main__":
    sys.exit(main())
