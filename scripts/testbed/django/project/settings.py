import os
from pathlib import Path

RELEASE_DIR = Path(__file__).resolve().parent.parent
SHARED_DIR = RELEASE_DIR.parent.parent / "shared"

SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = os.environ["ALLOWED_HOSTS"].split()

INSTALLED_APPS = ["shop"]
MIDDLEWARE = [
    "project.middleware.name_release",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": SHARED_DIR / "db.sqlite3",
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
