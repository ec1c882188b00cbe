"""Says which settings gunicorn itself makes of a command: one line of JSON in, one out, each in a process of its own."""

import json
import os
import sys

import gunicorn.app.wsgiapp
from gunicorn.config import Config


def resolve(command):
    os.environ.clear()
    os.environ.update(command["env"])
    if "PORT" in command["env"] or "WEB_CONCURRENCY" in command["env"]:
        for name in [n for n in sys.modules if n.split(".")[0] == "gunicorn"]:  # they were read when it was imported
            del sys.modules[name]
        import gunicorn.app.wsgiapp
    os.chdir(command["dir"])
    sys.modules["gunicorn.config"].Chdir.default = os.getcwd()  # likewise
    sys.argv = ["gunicorn"] + command["args"]
    app = sys.modules["gunicorn.app.wsgiapp"].WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]")
    settings = {name: repr(s.get()) for name, s in app.cfg.settings.items() if not callable(s.get())}
    settings.update({name: s.get().__qualname__ for name, s in app.cfg.settings.items() if callable(s.get())})
    settings["app"] = repr(app.app_uri)
    return settings


def options(parser):
    return {name: str(a.nargs) for a in parser._actions for name in a.option_strings}


print(json.dumps(options(Config().parser())), flush=True)
for line in sys.stdin:
    read, write = os.pipe()
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(1, 2)
        try:
            answer = json.dumps(resolve(json.loads(line)))
        except BaseException:
            answer = "{}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        print(answer.read(), flush=True)
    os.wait()
