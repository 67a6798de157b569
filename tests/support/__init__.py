"""What the tests share: real servers, real workers, and waiting for them with a deadline."""
