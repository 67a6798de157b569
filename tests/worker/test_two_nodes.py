"""Two nodes with addresses of their own, one Redis, one Prometheus: the scrapes add up."""

from collections import Counter

import psutil
import pytest
from celery.exceptions import WorkerLostError
from support.hosts import network
from support.prometheus_server import Prometheus, find_program
from support.redis_server import RedisServer

GETS = 'bufpool_gets_total{pool="regular",size="4kb"'
QUEUES = ("first", "second")


@pytest.fixture
def nodes(start_worker):
    """A worker on each of two hosts, which takes tasks from its own queue and from a shared one."""
    find_program("prometheus")
    with network(len(QUEUES)) as net, RedisServer(host=net.gateway) as redis:
        broker = redis.celery_url()
        workers = [
            start_worker(
                "metrics_app:app",
                broker=broker,
                prefix=host.prefix,
                name=queue,
                arguments=["--concurrency=2", f"--queues=celery,{queue}"],
                settings={"bufpool_metrics_port": 0, "bufpool_metrics_host": host.address},
            )
            for host, queue in zip(net.hosts, QUEUES, strict=True)
        ]
        yield workers
        for worker in workers:  # before their network goes
            worker.close()


def target(worker):
    (found,) = worker.wait_for_log(r"bufpool: metrics at http://([\d.]+:\d+)")
    return found[1]


def send(worker, task, *args, queue="celery"):
    return worker.client.send_task(task, args, queue=queue)


@pytest.mark.timeout(300)
def test_the_scrapes_of_two_nodes_add_up_to_what_the_tasks_did(nodes, tmp_path):
    targets = [target(worker) for worker in nodes]
    assert len({address.partition(":")[0] for address in targets}) == len(nodes)
    owner = {
        child.pid: address
        for worker, address in zip(nodes, targets, strict=True)
        for child in psutil.Process(worker.pid).children(recursive=True)
    }
    done = Counter()
    with Prometheus(targets, folder=tmp_path) as prometheus:
        # whoever is free takes one of these
        pending = [(n, send(nodes[0], "metric_tasks.work", n)) for n in range(1, 21)]
        for buffers, result in pending:
            done[owner[nodes[0].result(result)]] += buffers
        assert sum(done.values()) == sum(range(1, 21))
        # one node loses a process
        with pytest.raises(WorkerLostError):
            nodes[0].result(send(nodes[0], "metric_tasks.die", queue=QUEUES[0]))
        for queue, address in zip(QUEUES, targets, strict=True):
            nodes[0].result(send(nodes[0], "metric_tasks.work", 7, queue=queue))
            done[address] += 7
        for address in targets:
            prometheus.wait_for(f'{GETS},instance="{address}"}}', done[address])
        prometheus.wait_for(f"sum({GETS}}})", sum(done.values()))
        prometheus.wait_for("sum(bufpool_processes)", 4)
        assert prometheus.value("max(resets(bufpool_gets_total[1h]))") == 0
