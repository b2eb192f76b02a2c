"""Starts a thread when it is imported, as a library must not for the fork server."""

from tests.fake_tasks import start_thread

start_thread()
