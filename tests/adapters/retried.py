"""The bodies of tasks that each job system retries; their tries are counted in Redis."""


def log_in(redis, user, password):
    """Fail until the third try, of which the task has made a note."""
    if int(redis.hget("noted", f"tries {user}")) < 3:
        raise ConnectionError("not yet")
    return bytes(password[:3]) == b"cor"


def mint(redis, password, tries, buf):
    """Fail until the last of so many tries; return the secret, by way of a buffer."""
    if int(redis.hincrby("tries of mint", bytes(password[:8]).hex(), 1)) < tries:
        raise ConnectionError("not yet")
    buf[: len(password)] = password
    return bytes(buf[: len(password)])
