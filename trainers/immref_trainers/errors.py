"""The errors that end a command with a sentence instead of a traceback."""


class UsageError(ValueError):
    """The command line asks for something that does not exist or does not fit."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the step."""
