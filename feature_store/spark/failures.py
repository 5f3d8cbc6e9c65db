"""What Spark says of a task or a plan that failed, in one line."""

from __future__ import annotations


def reason_of(error: Exception) -> str:
    """Returns the last line of the traceback that an error of a task carries; where a worker died, what Spark says."""
    text = str(error).splitlines()
    of_java = [line.removeprefix(": ") for line in text if line.startswith(": ")]
    if of_java:
        return f"{of_java[0].rstrip('.')}."
    lines = [line.strip() for line in text if line.strip() and not line.startswith(("\t", " "))]
    told = [line for line in lines if ": " in line and not line.startswith(("Traceback", "["))]
    return f"{(told or lines or ['without a word'])[-1].rstrip('.')}."
