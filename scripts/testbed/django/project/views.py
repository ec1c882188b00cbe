import time

from django.http import HttpResponse

from project.release import VERSION


def health(request):
    return HttpResponse(f"ok {VERSION}\n", content_type="text/plain")


def home(request):
    return HttpResponse(f"<!doctype html><title>Shop</title><h1>Shop {VERSION}</h1>\n")
