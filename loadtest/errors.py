"""The one error of the benchmark."""


class BenchError(Exception):
    """A row could not be measured; the text is one line for people, and says what to do where it can."""
