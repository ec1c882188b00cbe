from pathlib import Path

# Resolved when this is imported: the release that runs, whatever "current"
# links to by the time a request comes in.
VERSION = Path(__file__).resolve().parent.parent.name
