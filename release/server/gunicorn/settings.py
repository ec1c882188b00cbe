"""Tells what a gunicorn configuration file does, by its text alone: nothing of it is imported, executed or opened.

stdin holds the text; stdout gets one line of JSON, the statements in their order or the problem with them.
"""

import ast
import json
import os
import resource
import signal
import sys

SECONDS = 5  # of processor time
MEMORY = 1 << 30
MAX_ANSWER = 4 << 20

REBINDS = ("exec", "eval", "globals", "locals", "vars", "setattr")  # they can set what no statement names


def main():
    if sys.version_info < (3, 8):
        say({"problem": "can't be parsed: python3 is older than 3.8"})
        return
    limit()
    text = sys.stdin.buffer.read()
    try:
        say({"statements": [statement(node) for node in ast.parse(text).body]})
    except SyntaxError as e:
        where = ", line %d" % e.lineno if e.lineno else ""
        say({"problem": "is not Python %d.%d: %.200s%s" % (sys.version_info[0], sys.version_info[1], e.msg, where)})
    except (RecursionError, MemoryError):
        say({"problem": "is nested too deeply"})
    except Exception as e:
        say({"problem": "can't be parsed: %s" % type(e).__name__})


def limit():
    # The parser runs in C, where no handler would be called: the signal's default ends the process.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    for what, soft in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, 2 * SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(what, (soft, soft))


def say(answer):
    line = json.dumps(answer, separators=(",", ":"))
    if len(line) > MAX_ANSWER:
        line = '{"problem":"says more than can be judged"}'
    rest = line.encode("ascii")
    while rest:
        rest = rest[os.write(1, rest) :]


def statement(node):
    kind = type(node)
    out = {"line": node.lineno, "kind": kind.__name__}
    if kind in (ast.Import, ast.ImportFrom):
        out["kind"] = "import"
        out["names"] = [a.asname or a.name.split(".")[0] for a in node.names]
    elif kind in (ast.Assign, ast.AugAssign, ast.AnnAssign):
        assignment(node, out)
    elif kind in (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef):
        out["kind"] = "define"
        out["names"] = [node.name]
    elif kind is ast.Pass or kind is ast.Expr and isinstance(node.value, ast.Constant):
        out["kind"] = "nothing"
    elif kind is ast.Expr and isinstance(node.value, ast.Call):
        out["kind"] = "call"
        out["names"] = [dotted(node.value.func)]
    return out


def assignment(node, out):
    out["kind"] = "assign"
    names = []
    todo = list(node.targets) if isinstance(node, ast.Assign) else [node.target]
    while todo:
        target = todo.pop(0)
        if isinstance(target, (ast.Tuple, ast.List)):
            todo += target.elts
        elif isinstance(target, ast.Starred):
            todo.append(target.value)
        elif isinstance(target, ast.Name):
            names.append(target.id)
        else:
            out["kind"] = "change"
            out["names"] = [dotted(target)]
            return
    strings, calls = [], []
    for n in ast.walk(node):
        if isinstance(n, ast.NamedExpr):
            names.append(n.target.id)
        elif isinstance(n, ast.Call) and dotted(n.func) in REBINDS:
            calls.append(dotted(n.func))
        elif isinstance(n, ast.Constant) and isinstance(n.value, (str, bytes)):
            text = n.value if isinstance(n.value, str) else n.value.decode("latin-1")
            if "/" in text:
                strings.append(text)
    out.update(names=names, strings=strings, calls=calls)
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and len(names) == 1:
        value(node.value, out)


def value(node, out):
    if isinstance(node, ast.Constant):
        out["value"] = repr(node.value)[:20]
    elif isinstance(node, ast.Dict):
        out["handlers"] = handlers(node)


def handlers(node):
    """The classes of a logging configuration's handlers; "?" for what can't be told."""
    found = []
    for key, value in entries(node):
        if key == "handlers":
            for _, handler in entries(value):
                options = dict(entries(handler))
                known = options.get("class") if "()" not in options and None not in options else None
                found.append(getattr(known, "value", None) if isinstance(known, ast.Constant) else "?")
        elif key is None:
            found.append("?")
    return [f if isinstance(f, str) else "?" for f in found]


def entries(node):
    if not isinstance(node, ast.Dict):
        return [(None, None)]
    return [(k.value if isinstance(k, ast.Constant) else None, v) for k, v in zip(node.keys, node.values)]


def dotted(node):
    parts = []
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Attribute):
            parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "something")
    return ".".join(reversed(parts))[:100]


main()
