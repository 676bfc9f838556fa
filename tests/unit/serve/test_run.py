import shutil
import socket
from pathlib import Path

import pytest

from flywheel.errors import BusyError, SettingsError
from flywheel.serve import run

TOY = Path(__file__).parents[2] / "toys" / "pair_task.py"


@pytest.fixture
def at(project):
    shutil.copy(TOY, project.directory)

    def settings(host, port):
        update = {"serve": project.serve.model_copy(update={"host": host, "port": port})}
        return project.model_copy(update=update)

    return settings


def test_a_taken_port_is_an_error_with_its_number(at):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BusyError, match=f"port {port} of 127.0.0.1 is taken"):
            run(at("127.0.0.1", port))


def test_an_address_of_another_machine_is_an_error(at):
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        run(at("192.0.2.1", 8700))
