"""Greenlets of a real gevent worker share one process's pools, and nothing else."""

GREENLETS, ROUNDS, TASKS = 40, 30, 3


def test_greenlets_inside_tasks_never_share_a_buffer(start_worker):
    worker = start_worker(
        "plugin_app:app",
        arguments=["--pool=gevent", "--concurrency=4"],
        settings={"imports": ["greenlet_tasks"]},
    )
    running = [
        worker.send("greenlet_tasks.share_among_greenlets", GREENLETS, ROUNDS) for _ in range(TASKS)
    ]
    assert [worker.result(pending) for pending in running] == [0] * TASKS
    numbers = worker.run("pool_tasks.numbers")
    for kind in ("regular", "secure"):
        pool = numbers[kind]
        assert pool["gets"] == pool["puts"] == TASKS * GREENLETS * ROUNDS
        assert pool["hits"] + pool["misses"] == pool["gets"]
    assert numbers["regular"]["escapes"] == TASKS * GREENLETS * ROUNDS // 10
