"""Tells what Django migrations say, by their text alone: nothing of the project is imported, executed or opened.

stdin holds frames: a kind (b"M", a migration; b"A", an apps.py), the text's length (4 bytes, big-endian), the text.
stdout gets {} once it runs, and one line of JSON for each, before the next is looked at: what ends this process is the first without one.
"""

import ast
import builtins
import gc
import io
import json
import os
import re
import resource
import signal
import sys
import tokenize

SECONDS = 5  # of processor time for one file
MEMORY = 1 << 30
MAX_LINE = 4 << 20
MAX_OPERATIONS = 10_000
MAX_TEXT = 512  # longer strings decide nothing, and needn't be told

MIGRATION = ("django.db.migrations.Migration", "django.db.migrations.migration.Migration")
WORD = re.compile(r"#\s*rollback-safe:\s*(\S.*)")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
BUILTINS = frozenset(dir(builtins))


class Odd(Exception):
    """The file is not plainly a migration: the message says why."""


def main():
    if sys.version_info < (3, 8):
        say(json.dumps({"fatal": "python3 is older than 3.8"}))
        return
    limit()
    say("{}")
    gc.disable()  # a syntax tree has no cycles, and looking for some takes a third of the time
    while True:
        head = sys.stdin.buffer.read(5)
        if len(head) < 5:
            return
        text = sys.stdin.buffer.read(int.from_bytes(head[1:], "big"))
        # The parser runs in C, where no handler would be called: the signal's default ends the process.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        say(answer(migration if head[:1] == b"M" else app, text))


def limit():
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for what, soft in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, 120),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(what, (soft, soft))


def say(line):
    rest = line.encode("ascii") + b"\n"
    while rest:
        rest = rest[os.write(1, rest) :]


def answer(look, text):
    out = {}
    try:
        look(text, out)
        line = json.dumps(out, separators=(",", ":"))
        if len(line) <= MAX_LINE:
            return line
        why = "says more than can be judged"
    except Odd as e:
        why = str(e)
    except SyntaxError as e:
        why = "is not Python %d.%d: %s" % (sys.version_info[0], sys.version_info[1], at(e))
    except RecursionError:
        why = "is nested too deeply"
    except MemoryError:
        why = "is nested too deeply, or needs too much memory"
    except Exception as e:
        why = "cannot be parsed: %s" % type(e).__name__
    out.pop("operations", None)
    out["problem"] = why
    line = json.dumps(out, separators=(",", ":"))
    return line if len(line) <= MAX_LINE else json.dumps({"problem": why})


def at(e):
    return "%.200s, line %d" % (e.msg, e.lineno) if e.lineno else "%.200s" % (e.msg,)


# --- apps.py


def app(text, out):
    """Finds the one label that the file's app configurations set."""
    labels = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and any(last(b).endswith("Config") for b in node.bases):
            labels += [value for name, value in assigned(node) if name == "label"]
    if len(labels) == 1 and isinstance(labels[0], ast.Constant) and isinstance(labels[0].value, str):
        out["label"] = labels[0].value[:MAX_TEXT]


def last(node):
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def assigned(cls):
    for node in cls.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


# --- migrations


def migration(text, out):
    tree = ast.parse(text)
    names = Names(tree, text)
    cls = migration_class(tree, names)
    words = said(text)
    attributes = {}
    try:
        for name, value in plain(cls, names, out):
            if name in attributes and name in ("operations", "dependencies", "replaces", "run_before"):
                raise Odd("sets %s twice" % name)
            attributes[name] = value
    finally:
        # What orders it is worth knowing of one that nobody can judge.
        for name in ("dependencies", "replaces", "run_before"):
            if name in attributes:
                out[name] = keys(attributes[name], names, name)
    for name in ("initial", "atomic"):
        if isinstance(attributes.get(name), ast.Constant) and isinstance(attributes[name].value, bool):
            out[name] = attributes[name].value
    word = attributes.get("rollback_safe")
    if isinstance(word, ast.Constant) and isinstance(word.value, str):
        words.append(word.value)
    for word in words:
        if word.strip():
            out["word"] = word.strip()[:MAX_TEXT]
            break
    if "operations" in attributes:
        out["operations"] = operations(attributes["operations"], names)


def said(text):
    """The author's word stands in a comment on a line of its own; one in a string is no comment."""
    if b"rollback-safe" not in text:
        return []
    words = []
    for token in tokenize.tokenize(io.BytesIO(text).readline):
        match = WORD.match(token.string) if token.type == tokenize.COMMENT else None
        if match and token.line.lstrip().startswith("#"):
            words.append(match.group(1))
    return words


def migration_class(tree, names):
    found = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Migration"]
    if len(found) != 1:
        raise Odd("has no plain class Migration")
    cls = found[0]
    if names.other_migration:
        raise Odd("its operations are built by code")
    return cls


def plain(cls, names, out):
    """Yields what the class assigns; raises Odd if it is more than assignments."""
    bases = [names.dotted(b) for b in cls.bases]
    if len(bases) != 1 or bases[0] not in MIGRATION or cls.keywords or cls.decorator_list:
        # It may change the tables of any app: a migration's app_label can be set.
        out["anywhere"] = True
        raise Odd("its class Migration is built on another one")
    for node in cls.body:
        if isinstance(node, (ast.Pass, *FUNCTIONS)) or is_text(node):
            continue
        if isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) for t in node.targets):
            for target in node.targets:
                names.add(target.id, None)
                yield target.id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id, None)
            if node.value:
                yield node.target.id, node.value
        else:
            raise Odd("its operations are built by code")
    if any(isinstance(n, (*FUNCTIONS, ast.ClassDef)) for n in cls.body):
        out["anywhere"] = True
        raise Odd("its class Migration has code of its own")


def is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def keys(node, names, what):
    """Pairs of an app's label and a name; a swappable dependency is known by its setting."""
    found = []
    for item in items(node, what):
        if isinstance(item, ast.Call) and last(item.func) == "swappable_dependency" and len(item.args) == 1:
            found.append([names.dotted(item.args[0]) or "?", "__first__"])
            continue
        pair = item.elts if isinstance(item, (ast.Tuple, ast.List)) else []
        texts = [p.value for p in pair if isinstance(p, ast.Constant) and isinstance(p.value, str)]
        if len(pair) != 2 or len(texts) != 2:
            raise Odd("its %s are built by code" % what)
        found.append([t[:MAX_TEXT] for t in texts])
    return found


def items(node, what):
    """The elements of [...], or of [...] + [...]."""
    todo, found = [node], []
    while todo:
        node = todo.pop()
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            todo += [node.right, node.left]
        elif isinstance(node, (ast.List, ast.Tuple)):
            if any(isinstance(e, ast.Starred) for e in node.elts):
                raise Odd("its %s are built by code" % what)
            found += node.elts
        else:
            raise Odd("its %s are built by code" % what)
    return found


def operations(node, names):
    found = items(node, "operations")
    if len(found) > MAX_OPERATIONS:
        raise Odd("has more than %d operations" % MAX_OPERATIONS)
    return [encode(o, names) if isinstance(o, ast.Call) else unread(o, names) for o in found]


def unread(node, names):
    return {"call": "?" + (names.dotted(node) or type(node).__name__).lstrip("?"), "line": node.lineno, "open": True}


# --- values


def encode(node, names):
    """Constants are themselves; a call, a name of something imported, a dict are objects; the rest is unknown."""
    kind = type(node)
    if kind is ast.Constant:
        return constant(node.value)
    if kind in (ast.List, ast.Tuple, ast.Set):
        if any(isinstance(e, ast.Starred) for e in node.elts):
            return {"unknown": "Starred"}
        return [encode(e, names) for e in node.elts]
    if kind is ast.Call:
        return call(node, names)
    if kind in (ast.Name, ast.Attribute):
        name = names.dotted(node)
        return {"ref": name} if name and name[0] != "?" else {"unknown": name or kind.__name__}
    if kind is ast.Dict:
        if None in node.keys:
            return {"unknown": "Dict"}
        return {"dict": [[encode(k, names), encode(v, names)] for k, v in zip(node.keys, node.values)]}
    if kind is ast.UnaryOp and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        if type(node.operand.value) in (int, float):
            return constant(-node.operand.value)
    return {"unknown": kind.__name__}


def constant(value):
    if value is None or value is True or value is False:
        return value
    if type(value) is str and len(value) <= MAX_TEXT:
        return value
    if type(value) is int and -(1 << 53) < value < 1 << 53:
        return value
    if type(value) in (float, bytes, complex) and len(repr(value)) <= MAX_TEXT:
        return {"const": repr(value)}
    return {"unknown": "a long constant"}


def call(node, names):
    out = {"call": names.dotted(node.func) or "?", "line": node.lineno}
    if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
        out["open"] = True
    if node.args:
        out["args"] = [encode(a, names) for a in node.args if not isinstance(a, ast.Starred)]
    if node.keywords:
        out["kw"] = {k.arg: encode(k.value, names) for k in node.keywords if k.arg is not None}
    return out


# --- names


class Names:
    """What the names of a module stand for: the dotted path of what was imported, or nothing that can be known."""

    def __init__(self, tree, text):
        self.bound = {}
        self.other_migration = False
        # A name that is bound inside of an expression, or by a function: hardly ever, and worth a slow look.
        deep = b":=" in text or b"global" in text or len(re.findall(rb"\bMigration\b", text)) > 2
        todo = [(node, False) for node in tree.body]
        while todo:
            node, local = todo.pop()
            if not local or isinstance(node, (ast.Global, ast.Name)):
                self.bind(node)
            if deep or isinstance(node, COMPOUND):
                local = local or isinstance(node, FUNCTIONS)
                todo.extend((child, local) for child in ast.iter_child_nodes(node))

    def bind(self, node):
        kind = type(node)
        if kind is ast.Import:
            for a in node.names:
                self.add(a.asname or a.name.split(".")[0], a.name if a.asname else a.name.split(".")[0])
        elif kind is ast.ImportFrom:
            module = "." * node.level + (node.module or "")
            for a in node.names:
                if a.name == "*":
                    raise Odd("imports everything of %s, so that its names are not known" % module)
                self.add(a.asname or a.name, module + ("." if node.module else "") + a.name)
        elif kind in (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef):
            self.add(node.name, None)
        elif kind is ast.Assign:
            for target in node.targets:
                self.assign(target)
        elif kind in (ast.AnnAssign, ast.AugAssign, ast.For, ast.AsyncFor, ast.NamedExpr):
            self.assign(node.target)
        elif kind is ast.Delete:
            for target in node.targets:
                self.assign(target)
        elif kind in (ast.With, ast.AsyncWith):
            for item in node.items:
                if item.optional_vars:
                    self.assign(item.optional_vars)
        elif kind is ast.Global:
            for name in node.names:
                self.add(name, None)
        elif kind is ast.ExceptHandler and node.name:
            self.add(node.name, None)
        elif kind is ast.Name and node.id == "Migration":
            self.other_migration = True

    def assign(self, target):
        if isinstance(target, (ast.Tuple, ast.List)):
            for t in target.elts:
                self.assign(t)
            return
        if isinstance(target, ast.Starred):
            target = target.value
        if isinstance(target, ast.Name):
            self.add(target.id, None)
            return
        # Something is put into an object: into a module that was imported, for all that is known.
        while isinstance(target, (ast.Attribute, ast.Subscript)):
            target = target.value
        self.add(target.id if isinstance(target, ast.Name) else "", None)

    def add(self, name, path):
        # The last "import a.b" binds a, as does "import a.c".
        self.bound[name] = path if self.bound.get(name, path) == path else None

    def dotted(self, node):
        parts = []
        while type(node) is ast.Attribute:
            parts.append(node.attr)
            node = node.value
        if type(node) is not ast.Name:
            return None
        root = self.bound.get(node.id)
        if root is None:
            known = node.id not in self.bound and node.id in BUILTINS
            root = "builtins." + node.id if known else "?" + node.id
        parts.append(root)
        return ".".join(reversed(parts))


COMPOUND = tuple(
    getattr(ast, name)
    for name in ("If", "Try", "TryStar", "For", "AsyncFor", "While", "With", "AsyncWith", "ExceptHandler", "Match")
    + ("match_case",)
    if hasattr(ast, name)
)

main()
