"""A stand-in for the secure pool that remembers what it lent."""


class PlainBuffer(bytearray):
    released = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.released = True

    def release(self):
        self.released = True


class Lender:
    def __init__(self):
        self.lent = []

    def __call__(self, nbytes):
        buffer = PlainBuffer(b"\xaa" * nbytes)
        self.lent.append(buffer)
        return buffer
