import os

from project.release import VERSION


def name_release(get_response):
    """Says in every answer, errors included, who gave it."""

    def middleware(request):
        response = get_response(request)
        response["X-Release"] = VERSION
        response["X-Pid"] = str(os.getpid())
        return response

    return middleware
