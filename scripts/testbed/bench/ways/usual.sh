#!/bin/sh
# deploy NEW OLD: what many sites deploy with: swap, restart, ask until it answers, else swap back.
ln -sfn "releases/$1" /srv/app/current
systemctl restart gunicorn
for try in $(seq 30); do
	curl -fsS --max-time 2 -o /dev/null http://localhost/health/ && exit 0
	sleep 1
done
ln -sfn "releases/$2" /srv/app/current
systemctl restart gunicorn
exit 1
