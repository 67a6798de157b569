"""An app with sentry-sdk, which ships the locals of each frame of an error."""

import os

import sentry_sdk

sentry_sdk.init(
    dsn=os.environ["TEST_DSN"],
    traces_sample_rate=1.0,
    send_default_pii=True,
    include_local_variables=True,
)

from home_app import make_app

app = make_app("watched")
