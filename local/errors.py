"""What can go wrong on one machine.

    LocalError
    ├── ManifestFolderError   the folder of manifests cannot be read
    ├── AccessFileError       the file that says how to reach the database cannot be used
    ├── DemoError             the demo cannot be played as things are
    └── PostgresError
        ├── PostgresInstallationError    the server's programs are missing or cannot be run
        ├── PostgresDataError            the data folder cannot be used as it is
        ├── PostgresInUseError           another process uses the data folder
        └── PostgresStartError           the server was started and did not become ready

Every message says what to do next.
"""


class LocalError(Exception):
    """Something on this machine is not as it must be."""


class ManifestFolderError(LocalError):
    """The folder of manifests cannot be read."""


class AccessFileError(LocalError):
    """The file that says how to reach the database cannot be used."""


class DemoError(LocalError):
    """The demo cannot be played as things are."""


class PostgresError(LocalError):
    """The PostgreSQL server of this machine cannot be used."""


class PostgresInstallationError(PostgresError):
    """The server's programs are missing or cannot be run."""


class PostgresDataError(PostgresError):
    """The data folder cannot be used as it is."""


class PostgresInUseError(PostgresError):
    """Another process uses the data folder."""


class PostgresStartError(PostgresError):
    """The server was started and did not become ready; the message ends with the tail of its log."""
