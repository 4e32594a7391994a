"""One command line read as a whole, nested commands included.

Every folder that it changes to, wherever it stands, is a folder in which each of its relative paths may lie, and every
value that a variable gets is one it may have.
"""

import os
import time

import guard_paths as paths
from guard_shell import Command, parse

RESERVED = frozenset(("then", "do", "else", "elif", "if", "while", "until", "!", "{", "}", "fi", "done", "function"))
RUNNERS = {
    "sudo": "ugDCpRhTrt",
    "env": "uC",
    "nohup": "",
    "timeout": "ks",
    "nice": "n",
    "ionice": "cnp",
    "time": "fo",
    "command": "",
    "builtin": "",
    "exec": "a",
    "stdbuf": "ioe",
    "setsid": "",
    "xargs": "InPLsdEa",
    "busybox": "",
    "chronic": "",
    "unbuffer": "",
    "taskset": "",
    "parallel": "jIaS",
    "watch": "nd",
    "strace": "oeEps",
    "flock": "wE",
}
"""Commands that run another one, with those of their options that take a value."""

SHELLS = frozenset(("sh", "bash", "zsh", "dash", "ksh", "ash", "fish", "eval", "source", "."))
STRINGS = frozenset(
    (
        "trap",
        "alias",
        "ssh",
        "script",
        "su",
        "tmux",
        "screen",
        "at",
        "parallel",
        "watch",
        "env",
        "flock",
    )
)
"""Commands that take a command line as one word."""

MOST_TEXT = 400_000
"""Characters that are taken apart, nested texts counted again; beyond that what would run cannot be known."""

MOST_SECONDS = 4.0
"""The harness lets a call pass whose hook takes longer than the 10 seconds of hooks.json; this fails closed before."""

FOLDER_OPTIONS = ("-C", "-D", "--chdir", "--directory", "--work-tree", "--cwd", "-execdir")


class Line:
    """Everything that one command line holds, nested ones included."""

    def __init__(self, text: str, cwd: str) -> None:
        self.bases, self.values, self.commands = [os.path.normpath(cwd or os.getcwd())], {}, []
        self.whole, self.lost, self.size, self.judged = True, False, 0, {}
        self.until = time.monotonic() + MOST_SECONDS
        self.gather(text, 0)
        everything = {w: None for c in self.commands for w in (*c.words, *c.targets, *c.sources, *c.texts)}
        self.expanded = [v for w in everything for v in paths.variants(w, self.values)]
        self.find_folders()
        self.near_record = any(paths.is_home(b) for b in self.bases) or any("results/run_" in w for w in self.expanded)
        self.names_record = any(
            paths.mentions(w) or (self.near_record and w.rpartition("/")[2] in paths.JOB_NAMES) for w in self.expanded
        )
        self.says_yes = any(w.startswith("--y") for t in self.expanded for w in t.split())

    def gather(self, text: str, depth: int) -> None:
        """Takes a text apart; what shells, substitutions and the like would run is taken apart too."""
        self.size += len(text)
        if depth >= 6 or self.size > MOST_TEXT:
            self.whole = False
            return
        commands, whole = parse(text)
        self.whole = self.whole and whole
        for command in commands:
            self.unwrap(command)
            for nested in command.nested:
                self.gather(nested, depth + 1)
            if not command.words:
                continue
            name = base_name(command.words[0])
            if name in SHELLS:
                inner = [*command.texts, *(w for w in command.words[1:] if " " in w or "$" in w or depth or name == "eval")]
                inner += [" ".join(command.words[1:])] if name == "eval" else []
                inner += [w for c in self.commands for w in c.words[1:] if " " in w] if command.piped else []
            else:
                inner = [w for w in command.words[1:] if " " in w] if name in STRINGS or command.via else []
            for nested in inner:
                for variant in paths.variants(nested, self.values)[:4]:
                    self.gather(variant, depth + 1)
            if name == "find":
                self.found_commands(command)

    def unwrap(self, command: Command) -> None:
        """Strips assignments, reserved words and commands that run another one; keeps what they tell."""
        self.commands.append(command)
        words = command.words
        while words:
            name = base_name(words[0])
            if _assigns(words[0]):
                key, _, value = words.pop(0).partition("=")
                self.values.setdefault(key.rstrip("+"), []).append(value)
            elif words[0] in RESERVED:
                words.pop(0)
            elif name in RUNNERS and len(words) > 1:
                command.via.append(name)
                with_value = RUNNERS[name]
                command.options.append(words.pop(0))
                while words and (words[0].startswith("-") or words[0][:1].isdigit()):
                    option = words.pop(0)
                    command.options.append(option)
                    if len(option) == 2 and option[1:] in with_value and words:
                        command.options.append(words.pop(0))
            else:
                break
        if words and words[0] == "for" and len(words) > 2:
            self.values.setdefault(words[1], []).extend(words[3:])
        for word in words[1:] if words and words[0] in ("export", "declare", "local", "readonly", "typeset") else []:
            if _assigns(word):
                self.values.setdefault(word.partition("=")[0], []).append(word.partition("=")[2])

    def found_commands(self, command: Command) -> None:
        """The commands after ``find -exec``; their ``{}`` is whatever was found."""
        words = command.words
        for index, word in enumerate(words):
            if word in ("-exec", "-execdir", "-ok", "-okdir"):
                inner = Command()
                inner.words = words[index + 1 :]
                self.unwrap(inner)
                inner.via.append("find")

    def find_folders(self) -> None:
        """Every folder that some part of the line may run in, in whatever order they are entered."""
        told = []
        for command in self.commands:
            words = command.words
            if words and words[0] in ("cd", "pushd", "chdir"):
                told += [w for w in words[1:] if not w.startswith("-")]
            both = [*command.options, *words]
            for index, word in enumerate(both):
                for option in FOLDER_OPTIONS:
                    if word == option and index + 1 < len(both):
                        told.append(both[index + 1])
                    elif word.startswith(option) and len(word) > len(option) and not (option == "--cwd" and "=" not in word):
                        told.append(word[len(option) :].lstrip("="))
        for word in dict.fromkeys(told):
            for variant in paths.variants(word, self.values):
                new = [self.join(base, variant) for base in self.bases]
                self.bases += [n for n in new if n not in self.bases][: paths.MOST - len(self.bases)]
                self.lost = self.lost or len(self.bases) >= paths.MOST
        real = [os.path.realpath(b) for b in self.bases]
        self.bases += [r for r in real if r not in self.bases]

    @staticmethod
    def join(base: str, path: str) -> str:
        """An absolute, normalised path; an unknown variable at its start stays."""
        return os.path.normpath(path if path.startswith("$") else os.path.join(base, path))

    def places(self, word: str) -> "list[str]":
        """Where a word may point to, from each folder and with each value."""
        return [self.join(b, v) for v in paths.variants(word, self.values) for b in self.bases if len(v) < 4096]

    def protected(self, word: str) -> bool:
        """True where a word may be a protected file."""
        if word not in self.judged:
            if time.monotonic() > self.until:
                raise TimeoutError("too much to judge")
            self.judged[word] = self._protected(word)
        return self.judged[word]

    def _protected(self, word: str) -> bool:
        if ("$(" in word or "`" in word) and paths.mentions(word):
            return True
        if self.lost and any(paths.could_be(word.rpartition("/")[2], n) for n in paths.JOB_NAMES):
            return True  # more folders than can be followed
        return any(paths.is_protected(p) for p in self.places(word))

    def home(self, word: str) -> bool:
        """True where a word may be a folder of record files."""
        return any(paths.is_home(p) for p in self.places(word))

    def unknown(self, word: str) -> bool:
        """True where the last part of a path cannot be known."""
        return any("$" in v.rpartition("/")[2] or "`" in v or v == "{}" for v in paths.variants(word, self.values))


def base_name(word: str) -> str:
    """A command's name without its folder."""
    return word.rpartition("/")[2]


def _assigns(word: str) -> bool:
    name, equals, _ = word.partition("=")
    name = name.rstrip("+")
    return bool(equals) and name.replace("_", "a").isalnum() and not name[:1].isdigit()
