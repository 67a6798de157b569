"""A Huey without tasks and metrics, with the settings of the test that starts its consumer."""

import json
import os

from huey import RedisHuey

from bufpool_workers.huey import setup

huey = RedisHuey("bare", url=os.environ["TEST_BROKER_URL"])
setup(huey, json.loads(os.environ["TEST_WORKER_SETTINGS"]))
