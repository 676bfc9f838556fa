"""Everything that can go wrong, in one tree; the command line prints each without a traceback.

FlywheelError
├── UserError             something the user can fix: exit status 2, every other error has 1
│   ├── SettingsError     flywheel.toml: an unknown key, an impossible value, a missing function
│   ├── TaskError         the task breaks its contract (flywheel check names every law)
│   ├── PayloadError      a sample that cannot be read: corrupt, too large, of the wrong type
│   ├── AnnotationError   an annotation that is not an answer of this task
│   └── UnknownIdError    an id that the ledger does not hold
├── UnavailableError      a server that does not answer now; the work waits in the ledger
├── RefusedError          a server that answers no: wrong token, bad labeling config
├── BusyError             someone else holds it: the night is running, the port is taken
├── DamagedError          what is stored has other bytes than were written
└── SupersededError       it comes too late: its night has been, or a newer one is due

The Label Studio adapter adds GoneError and TooLargeError for its callers in the annotate stage.
"""


class FlywheelError(Exception):
    """Root of all errors that flywheel raises on purpose."""


class UserError(FlywheelError):
    """The user can fix it."""


class SettingsError(UserError):
    """flywheel.toml holds something that cannot be."""


class TaskError(UserError):
    """The task does not keep the contract of `flywheel.task.Task`."""


class PayloadError(UserError):
    """A sample's bytes cannot be turned into a model input."""


class AnnotationError(UserError):
    """An annotation does not parse to an answer of the task."""


class UnknownIdError(UserError):
    """The ledger holds nothing under this id."""


class UnavailableError(FlywheelError):
    """A server does not answer; trying again later may help, and nothing is lost meanwhile."""


class RefusedError(FlywheelError):
    """A server answers, and refuses; trying again without a change will not help."""


class BusyError(FlywheelError):
    """Another process holds the night, the port or the lock."""


class DamagedError(FlywheelError):
    """What is stored has other bytes than were written."""


class SupersededError(FlywheelError):
    """What a run was meant for has been done, or a newer one will do it."""
