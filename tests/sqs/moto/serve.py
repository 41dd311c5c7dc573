"""Starts moto with one request at a time, except while a receive waits for messages.

moto 5.2.5 changes the messages of a queue, and its queues, without a lock. So concurrent deletes undo each
other, and a creation fails if another one runs.
"""
import functools
import inspect
import threading

from moto.server import main
from moto.sqs.models import Queue, SQSBackend

LOCK = threading.RLock()


def locked(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        with LOCK:
            return function(*args, **kwargs)

    return call


def unlocked(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        LOCK.release()
        try:
            return function(*args, **kwargs)
        finally:
            LOCK.acquire()

    return call


for name, function in inspect.getmembers(SQSBackend, inspect.isfunction):
    if not name.startswith("_") and function.__module__ == SQSBackend.__module__:
        setattr(SQSBackend, name, locked(function))
Queue.wait_for_messages = unlocked(Queue.wait_for_messages)

if __name__ == "__main__":
    main()
