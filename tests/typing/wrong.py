"""Wrong calls: each line that is marked must be an error, and no other."""

import bufpool_workers as bp
from tests.typing.shop import digest, login, mint


@bp.pooled_buffer(64, kind="regulr")  # wrong
def typo(*, buf: bp.Buffer) -> None: ...


size: int = digest("a")  # wrong
failed: str = login.delay(4, "token").get()  # wrong
mint.delay("ada", weeks=2)  # wrong
mint(7)  # wrong
bp.seal(b"x", task=login)  # wrong
bp.buffer(3.5)  # wrong
