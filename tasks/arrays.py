"""Arrays: a pipeline that holds two large buffers at once, the case in which pooling pays most.

Without a pool, both are mapped, faulted in page by page, and unmapped again for every file.
"""

from pathlib import Path

import numpy as np

import bufpool_workers as bp
from tasks.app import app

PIXELS = 1 * bp.MiB


@app.task
@bp.pooled_buffer(PIXELS, name="raw")
@bp.pooled_buffer(PIXELS * np.dtype(np.float32).itemsize, name="scaled")
def scale(source: str, target: str, factor: float, *, raw: bp.Buffer, scaled: bp.Buffer) -> float:
    """Read bytes, scale them as float32, write those; gives their mean.

    Raises ValueError for a file of more than `PIXELS` bytes.
    """
    with Path(source).open("rb", buffering=0) as file:
        n = file.readinto(raw)
        if file.read(1):
            raise ValueError(f"{source}: more than {PIXELS} bytes")
    pixels = np.frombuffer(raw, dtype=np.uint8, count=n)
    result = np.frombuffer(scaled, dtype=np.float32, count=n)
    np.multiply(pixels, np.float32(factor), out=result)
    with Path(target).open("wb", buffering=0) as file:
        result.tofile(file)
    return float(result.mean(dtype=np.float64))
