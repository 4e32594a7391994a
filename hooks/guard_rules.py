"""What a tool call may not do: words and patterns on the line, no shell parser. Reading is always allowed.

Programs (``python -c``, ``make``, a script), ``git`` and ``find`` are not judged; ``verify_run.py`` finds what they did.
"""

import glob
import os
import re

RECORD = ("loop_log.jsonl", "deft_state.json")
JOB = ("plan.json", "log.lock", "run.lock", "reserve", "spot_check.json")
PLANS = "/deft-aoi/plans/"
VERBS = ("approve", "repair_run", "run_loop", "run_agent", "log_stage")
READERS = {*"cat head tail less more wc ls grep egrep rg zgrep diff stat file bat sha256sum sed awk nl vim code git".split()}
BEFORE = {
    *"sh bash zsh dash ksh fish eval env sudo nohup time timeout exec command nice setsid xargs if then else do while".split()
}
STARTERS = BEFORE | {*"uv pixi poetry conda coverage source . -exec alias ln cp parallel watch".split()}
CHECKERS = {"json.tool", "ruff", "mypy", "pytest", "py_compile", "black", "pydoc", "ast", "tokenize"}
MOVES = {"mv", "move", "rename", "move-item"}
ENDS = MOVES | {"rm", "rmdir", "shred", "unlink", "trash", "del", "delete", "remove", "remove-item"}
COPIES = MOVES | {"cp", "install", "rsync", "scp", "ln", "copy-item"}
EDITS = {*"tee sponge truncate touch chmod chown dd set-content add-content out-file clear-content".split()} | ENDS - MOVES
TOKEN = re.compile(r"""((?:[^\s'"\\;|&()<>]|\\.|'[^']*'|"(?:\\.|[^"\\])*")+)|([;|&()<>\n]+)|['"\\]""", re.S)
HERE_DOCUMENT = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1([^\n]*)\n.*?^[ \t]*\2$", re.S | re.M)
ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.S)

HANDS_OFF = "Plan, approval, log and state files are written by the skill's scripts only: log_stage.py --stage note adds a note; "
HANDS_OFF += "status.py and next_stage.py show the state; verify_run.py checks it."
USERS_FOLDER = "A run's folder, or one above it, is moved or deleted by the user: tell the user what you would do and why."
NOTES_ONLY = "Only notes are entered with log_stage.py (--stage note); a stage's event is written by the stage itself."
PERSONS = "Approving and repairing are for the user. Show the Pre-Flight Summary, stop, and wait: the user's own words, or the "
PERSONS += "approve.py line at its end that the user runs, are the approval."


def judge_command(text: str, cwd: str, digest: str = "", depth: int = 0) -> str:
    """Why a command line is denied, or the empty string. ``digest`` is the pending plan's, where one waits."""
    values, base, outer = {"PWD": cwd, "HOME": os.path.expanduser("~")}, cwd, []
    without = HERE_DOCUMENT.sub(r"\3", text.replace("\\\n", " "))
    fed = [] if without == text else commands(text)  # a here-document may feed a shell or make
    reason = next(filter(None, (_for_persons(words, base, text, digest) for words, _, _ in fed)), "")
    for raw, targets, sign in commands(without):
        words = [_filled(word, values) for word in raw]
        reason = reason or _for_persons(words, base, text, digest)
        if any(protected(_filled(target, values), base) for target in targets):
            reason = reason or HANDS_OFF
        while words and (ASSIGNMENT.match(words[0]) or os.path.basename(words[0]) in BEFORE or words[0][:1] in "-0123456789{!"):
            values.update(ASSIGNMENT.findall(words.pop(0)))
            if words and " " in words[0] and depth < 3:  # bash -c 'LINE'
                reason = reason or judge_command(words[0], base, digest, depth + 1)
        if words[:1] == ["for"] and len(words) > 3:
            values[words[1]] = words[3]
        elif words[:1] in (["cd"], ["pushd"]):
            base = _full(words[1] if len(words) > 1 else "~", base)
        elif words:
            reason = reason or _changes(os.path.basename(words[0]).lower(), words[1:], base)
        if reason:
            return reason
        outer += [base] * sign.count("(")
        base = outer.pop() if ")" in sign and outer else base
    return ""


def commands(text: str) -> list:
    """A line as its simple commands: (words, targets of redirections, the signs that end it)."""
    found, words, targets, sign = [], [], [], ""
    for word, signs in [*TOKEN.findall(text), ("", ";")]:
        if word:
            (targets if ">" in sign else words).append(re.sub(r"""\\(.)|['"]""", r"\1", word, flags=re.S))
        elif signs and not re.fullmatch(r"[<>]+[|&]?|&>+", signs):
            found.append((words, targets, signs))
            words, targets = [], []
        sign = signs
    return found


def _changes(head: str, given: list, base: str) -> str:
    """Judges what one command would write, move or delete."""
    options = [word for word in given if word.startswith(("-", "if="))]
    named = [path for word in given if word not in options for path in _named_by(word.removeprefix("of="), base)]
    in_place = head in ("sed", "perl") and any(re.match(r"--in-place|-\w*i", option) for option in options)
    if (head in EDITS or in_place) and any(protected(path, base) for path in named):
        return HANDS_OFF
    if head in COPIES and named:
        into = re.findall(r"(?:^| )(?:-t |--target-directory=)(\S+)", " ".join(given)) or named[-1:]
        named = [name for name in named if name not in into]
        landing = [*into, *(os.path.join(into[0], os.path.basename(name.rstrip("/"))) for name in named)]
        if any(protected(path, base) for path in landing + (named if head in MOVES else [])):
            return HANDS_OFF
    return USERS_FOLDER if head in ENDS and any(holds_a_run(_full(path, base)) for path in named) else ""


def _for_persons(words: list, base: str, text: str, digest: str) -> str:
    """Judges whether a person's script, ``--yes`` or an event of a stage is called, whatever runs it."""
    line = " ".join(words).strip()
    flat = re.split(r"""[\s'"(),=!{}`\[\]]+""", line)
    names = [os.path.basename(piece) for piece in flat]
    if {"--help", "-h"} & set(flat) or (names[0] in READERS and "alias." not in line):
        return ""
    if digest and {"approve", "approve.py"} & set(names) and {digest[-6:], digest[:12], digest} & set(flat):
        return PERSONS
    after = text if "$" in line or "xargs" in text else line
    for at, name in enumerate(names):
        verb, before = name.removesuffix(".py").replace("-", "_"), names[:at]
        runs = not before or "=" in words[0] or any(n in STARTERS or n.startswith(("python", "pypy")) for n in before)
        script = name.endswith(".py") and runs and not CHECKERS & set(before) and is_ours(flat[at], base)
        if verb not in VERBS or not (script or before[-1:] in (["deft"], ["deft_aoi"])):
            continue
        if verb in ("approve", "repair_run") or (verb != "log_stage" and re.search(r"--y(es?)?(?![\w-])", after)):
            return PERSONS
        if verb == "log_stage" and set(re.findall(r"--stag?e?[=\s'\"]+([^\s'\"]+)", after)) - {"note"}:
            return NOTES_ONLY
    return ""


def is_ours(path: str, base: str) -> bool:
    """True for a script of this skill: by its place on disk; where nothing is there, by its folder's name."""
    full = _full(path, base)
    if os.path.isfile(full):
        return os.path.isdir(os.path.join(os.path.dirname(os.path.realpath(full)), "deft_aoi"))
    return "$" in path or full.endswith(f"scripts/{os.path.basename(path)}")


def protected(path: str, base: str) -> bool:
    """True for a plan, an approval, or a log or state file of a run, as written or as the disk resolves it."""
    for full in (_full(path, base), os.path.realpath(_full(path, base))):
        folder, name = os.path.split(full)
        in_job = name in JOB and os.path.basename(folder) == "run" and is_run(os.path.dirname(folder))
        if PLANS in f"{full}/" or in_job or (name.lower() in RECORD and is_run(folder)):
            return True
    return False


def is_run(folder: str) -> bool:
    """True for a run's folder; where it cannot be looked at, by its name."""
    named = re.fullmatch(r"run_\d[\w-]*", os.path.basename(folder)) and (not os.path.exists(folder) or "/results/" in folder)
    return bool(os.path.isfile(f"{folder}/loop_log.jsonl") or "$" in folder or (named and not os.path.isfile(folder)))


def holds_a_run(folder: str, most: int = 300) -> bool:
    """True for a run's folder, its ``run/``, the plans, and any folder above one (the first ``most`` folders are looked at)."""
    folder = os.path.realpath(folder)
    if PLANS.startswith(f"/{os.path.basename(folder)}/") or protected(f"{folder}/plan.json", "/"):
        return True
    todo = [folder] if "$" not in folder else []
    for at in todo:
        if is_run(at):
            return True
        inside = [path.rstrip("/") for path in sorted(glob.iglob(f"{glob.escape(at)}/*/")) if "/node_modules" not in path]
        todo += [path for path in inside if not os.path.islink(path)][: most - len(todo)]
    return False


def _named_by(word: str, base: str) -> list:
    """The paths that a word of a shell names: braces, and patterns as far as the disk has them."""
    found = [word]
    while len(found) < 64 and (group := re.search(r"\{([^{}]*,[^{}]*)\}", found[0])):
        found = [item.replace(group[0], part, 1) for item in found for part in group[1].split(",")[:32]]
    patterns = [_full(item, base) for item in found if re.search(r"[*?\[]", item)]
    return found + [path for pattern in patterns for path, _ in zip(glob.iglob(pattern), range(256))]  # noqa: B905


def _filled(word: str, values: dict) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values.get(found[1], found[0]), word)[:4096]


def _full(path: str, base: str) -> str:
    return os.path.normpath(os.path.join(base or "/", os.path.expanduser(path)))
