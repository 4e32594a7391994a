"""A shell command line taken apart as bash reads it: just enough to see what is run and what is written.

No import and no regular expression: this runs at every shell command of a session.
"""

BLANKS = " \t\r"
SPECIAL = frozenset(" \t\r\n;&|()<>\\'\"$`")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b", "E": "\x1b"}


class Command:
    """One simple command.

    ``words`` with quotes removed and variables as they stand; ``targets`` and ``sources``: files that redirections
    write and read; ``texts``: here-documents and here-strings; ``nested``: the texts of its substitutions; ``piped``:
    it reads the output of the command before it; ``via`` and ``options``: what was stripped from its front (``sudo -u x``).
    """

    __slots__ = ("nested", "options", "piped", "sources", "targets", "texts", "via", "words")

    def __init__(self, piped: bool = False) -> None:
        self.words, self.targets, self.sources = [], [], []
        self.texts, self.nested, self.piped = [], [], piped
        self.via, self.options = [], []


class Lexer:
    """Reads one text; ``whole`` is False afterwards where a quote or a substitution was not closed."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.whole = text, 0, True
        self.commands, self.command = [], Command()
        self.word, self.quoted, self.into = None, False, "words"
        self.waiting = []

    def read(self) -> "list[Command]":
        """The simple commands in their order."""
        text, size = self.text, len(self.text)
        while self.at < size:
            char = text[self.at]
            if char in BLANKS:
                self.end_word()
                self.at += 1
            elif char == "\n":
                self.end_command()
                self.at += 1
                self.here_documents()
            elif char in ";&|()":
                self.operator(char)
            elif char in "<>":
                self.redirection(char)
            elif char == "#" and self.word is None:
                end = text.find("\n", self.at)
                self.at = size if end < 0 else end
            elif char in "\\'\"$`":
                self.add(*self.special(char, False))
            else:
                end = self.at + 1
                while end < size and text[end] not in SPECIAL:
                    end += 1
                self.add(text[self.at : end], end)
        self.end_command()
        return self.commands

    def add(self, piece: str, end: int) -> None:
        """Adds to the word in hand, which begins here where there is none."""
        if self.word is None:
            self.word = []
        self.word.append(piece)
        self.at = end

    def special(self, char: str, inside: bool) -> "tuple[str, int]":
        """(text, end) of what begins with a quote, a backslash, a dollar or a backquote; ``inside`` double quotes."""
        text, at = self.text, self.at
        following = text[at + 1 : at + 2]
        if char == "\\":
            if inside and following not in '"\\$`\n':
                return char, at + 1
            self.quoted = True
            return ("" if following == "\n" else following), at + 2
        if char == "`":
            return self.until_backquote(at + 1)
        if char == "$" and following == "(":
            inner, end = self.until_closed(at + 2)
            self.command.nested.append(inner)
            return f"$({inner})", end
        if char == "$" and following == "{":
            end = text.find("}", at)
            self.whole = self.whole and end > 0
            end = len(text) if end < 0 else end + 1
            return text[at:end], end
        if inside or (char == "$" and following not in ("'", '"')):
            return char, at + 1
        self.quoted = True
        if char == '"' or following == '"':
            return self.until_double(at + 1 + (char == "$"))
        return self.until_ansi(at + 2) if char == "$" else self.until_single(at + 1)

    def until_single(self, at: int) -> "tuple[str, int]":
        """The content of single quotes."""
        end = self.text.find("'", at)
        if end < 0:
            self.whole, end = False, len(self.text)
        return self.text[at:end], end + 1

    def until_double(self, at: int) -> "tuple[str, int]":
        """The content of double quotes, with the substitutions in it."""
        pieces, kept = [], self.at
        while at < len(self.text) and self.text[at] != '"':
            start = at
            if self.text[at] in "\\$`":
                self.at = at
                piece, at = self.special(self.text[at], True)
            else:
                while at < len(self.text) and self.text[at] not in '\\$`"':
                    at += 1
                piece = self.text[start:at]
            pieces.append(piece)
        self.whole = self.whole and at < len(self.text)
        self.at = kept
        return "".join(pieces), at + 1

    def until_ansi(self, at: int) -> "tuple[str, int]":
        """The content of ``$'…'``, its escapes resolved."""
        out, text = [], self.text
        while at < len(text) and text[at] != "'":
            if text[at] != "\\":
                out.append(text[at])
                at += 1
                continue
            kind, at = text[at + 1 : at + 2], at + 2
            digits, most = ("0123456789abcdefABCDEF", {"x": 2, "u": 4, "U": 8}.get(kind, 0)) if kind in "xuU" else ("01234567", 3)
            start = at if kind in "xuU" else at - 1
            end = start
            while end < len(text) and end - start < most and text[end] in digits:
                end += 1
            if end > start:
                out.append(chr(min(int(text[start:end], 16 if kind in "xuU" else 8), 0x10FFFF)))
                at = end
            else:
                out.append(ESCAPES.get(kind, kind))
        self.whole = self.whole and at < len(text)
        return "".join(out), at + 1

    def until_backquote(self, at: int) -> "tuple[str, int]":
        """A substitution in backquotes."""
        end = at
        while end < len(self.text) and self.text[end] != "`":
            end += 2 if self.text[end] == "\\" else 1
        self.whole = self.whole and end < len(self.text)
        inner = self.text[at:end]
        self.command.nested.append(inner.replace("\\", ""))
        return f"`{inner}`", end + 1

    def until_closed(self, at: int) -> "tuple[str, int]":
        """The text up to the parenthesis that closes, and the place after it."""
        text, depth, end, quote = self.text, 1, at, ""
        while end < len(text):
            char = text[end]
            if quote:
                quote = "" if char == quote else quote
                end += char == "\\" and quote == '"'
            elif char == "\\":
                end += 1
            elif char in "'\"":
                quote = char
            elif char in "()":
                depth += 1 if char == "(" else -1
                if depth == 0:
                    return text[at:end], end + 1
            end += 1
        self.whole = False
        return text[at:], len(text)

    def operator(self, char: str) -> None:
        """``;``, ``&``, ``|``, parentheses; ``&>`` is a redirection."""
        if char == "&" and self.text[self.at + 1 : self.at + 2] == ">":
            self.end_word()
            self.at += 1
            return self.redirection(">")
        end = self.at + 1
        while end < len(self.text) and self.text[end] == char and char in "&|;":
            end += 1
        piped = char == "|" and end == self.at + 1
        self.end_command(piped)
        self.at = end + (piped and self.text[end : end + 1] == "&")

    def redirection(self, char: str) -> None:
        """Where the next word goes; a number directly before is a file descriptor; ``<(…)`` is a substitution."""
        text, at = self.text, self.at
        if text[at + 1 : at + 2] == "(":
            inner, end = self.until_closed(at + 2)
            self.command.nested.append(inner)
            return self.add(f"{char}({inner})", end)
        if self.word is not None and not self.quoted and "".join(self.word).strip("0123456789") == "":
            self.word = None
        self.end_word()
        end = at + 1
        while end < len(text) and end - at < 3 and text[end] in "<>|&-" and text[at:end] not in (">>", ">|", ">&", "<>", "<&"):
            if text[at:end] != "<<" and text[end] == "-":
                break
            end += 1
        sign = text[at:end]
        self.into = {"<": "sources", "<<": "here", "<<-": "here-", "<<<": "texts"}.get(sign, "targets")
        self.at = end

    def end_word(self) -> None:
        """Puts the word in hand where it belongs."""
        if self.word is None:
            return
        word = "".join(self.word)
        if self.into.startswith("here"):
            self.waiting.append((self.command, word, self.into == "here-", self.quoted))
        else:
            to = self.command
            {"words": to.words, "targets": to.targets, "sources": to.sources, "texts": to.texts}[self.into].append(word)
        self.word, self.quoted, self.into = None, False, "words"

    def end_command(self, piped: bool = False) -> None:
        """Closes the command in hand."""
        self.end_word()
        command = self.command
        if command.words or command.targets or command.sources or command.texts or command.nested or self.waiting:
            self.commands.append(command)
        self.command, self.into = Command(piped), "words"

    def here_documents(self) -> None:
        """Reads the bodies that were announced on the line just ended."""
        for command, delimiter, dash, quoted in self.waiting:
            lines = []
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                end = len(self.text) if end < 0 else end
                line, self.at = self.text[self.at : end], end + 1
                if (line.lstrip("\t") if dash else line) == delimiter:
                    break
                lines.append(line)
            body = "\n".join(lines)
            command.texts.append(body)
            if not quoted and ("$(" in body or "`" in body):
                inner = Lexer(body.replace("'", " ").replace('"', " "))
                command.nested += [n for c in inner.read() for n in c.nested]
        self.waiting = []


def parse(text: str) -> "tuple[list[Command], bool]":
    """The simple commands of a text, and whether every quote was closed."""
    lexer = Lexer(text)
    return lexer.read(), lexer.whole
