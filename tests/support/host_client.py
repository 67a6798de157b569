"""What the tests' jobs note of themselves in Redis, compared with the scrape of their node."""

from tests.support.scrape import total
from tests.support.waiting import wait_until


class JobNotes:
    """The part of a producer that reads its `redis`, in which the jobs note what they did."""

    def noted(self):
        """Return the sums of what the jobs have noted of themselves."""
        return {key.decode(): int(number) for key, number in self.redis.hgetall("noted").items()}

    def everything(self):
        """Return every byte that Redis holds."""
        return b"".join(key + (self.redis.dump(key) or b"") for key in self.redis.scan_iter())


def check_totals(host, client):
    """Compare a scrape of the host with what the jobs noted; return it."""
    noted = client.noted()
    gets = noted["gets"]
    expected = {
        "bufpool_gets_total": gets,
        "bufpool_puts_total": gets - noted.get("killed", 0),
        "bufpool_reclaims_total": noted.get("reclaims", 0),
    }
    if "runs" in noted:  # the modules that count their own runs, too
        expected["shop_runs_total"] = noted["runs"]

    def totals(samples):
        return {name: total(samples, name) for name in expected}

    def equal():
        samples = host.scrape()
        return samples if totals(samples) == expected else None

    try:  # a job may end for its caller before its worker has taken back what it held
        return wait_until(equal, what="the totals that the jobs noted")
    except TimeoutError:
        samples = host.scrape()
        assert totals(samples) == expected
        return samples
