package server_test

import (
	"slices"
	"strings"
	"testing"

	"deploygate/release/server"
)

func TestOwn(t *testing.T) {
	is := func(name string) bool { return name == "gunicorn" || name == "uvicorn" }
	for _, c := range []struct{ command, want string }{
		{"/venv/bin/gunicorn -b :1 shop.wsgi", "-b :1 shop.wsgi"},
		{"/usr/bin/python3.12 -m uvicorn shop:app", "shop:app"},
		{"python -Wd -X dev -mgunicorn shop", "shop"},
		{"python -u -W ignore /venv/bin/gunicorn shop", "shop"},
		{"/usr/bin/env -u HOME PORT=1 gunicorn shop", "shop"},
		{"nice -n 5 ionice -c2 -n 7 gunicorn shop", "shop"},
		{"uv run --project /srv/app/current --no-sync gunicorn shop", "shop"},
		{"uv run --with gunicorn uvicorn shop:app", "shop:app"},
		{"uv run -m uvicorn shop:app", "shop:app"},
		{"uv run python -m uvicorn shop:app", "shop:app"},
		{"poetry -C /srv run gunicorn shop", "shop"},
		{"pipenv run -- gunicorn shop", "shop"},
		{"newrelic-admin run-program gunicorn shop", "shop"},
		{"ddtrace-run gunicorn shop", "shop"},
		{"tini -g -- gunicorn shop", "shop"},
		{"bash|-c|source .env && exec gunicorn --bind unix:/run/x.sock shop", "--bind unix:/run/x.sock shop"},
		{"bash|-lc|cd /srv; PORT=3 exec /venv/bin/uvicorn --port $PORT shop:app", "--port $PORT shop:app"},
		{"sh|-e|-c|gunicorn shop", "shop"},

		{"/usr/bin/uvicorn --uds /run/gunicorn/gunicorn.sock shop:app", "--uds /run/gunicorn/gunicorn.sock shop:app"},
		{"uwsgi --socket /run/gunicorn", "not found"},
		{"/srv/app/bin/start --name gunicorn", "not found"},
		{"/srv/gunicorn/start", "not found"},
		{"bash /srv/app/gunicorn", "not found"},
		{"bash|-c|gunicorn 'open", "not found"},
		{"bash -l -c", "not found"},
		{"python -c gunicorn", "not found"},
		{"python manage.py runserver", "not found"},
		{"python -m", "not found"},
		{"uv pip install gunicorn", "not found"},
		{"uv", "not found"},
		{"env", "not found"},
		{"", "not found"},
		{strings.Repeat("nice ", 20) + "gunicorn shop", "not found"},
	} {
		args := strings.Split(c.command, "|")
		if len(args) == 1 {
			args = strings.Fields(c.command)
		}
		own, found := server.Own(args, is)
		want, wanted := strings.Fields(c.want), c.want != "not found"
		if found != wanted || found && !slices.Equal(own, want) {
			t.Errorf("%s: %q, %v; want %s", c.command, own, found, c.want)
		}
	}
}
