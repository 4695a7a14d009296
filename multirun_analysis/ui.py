"""MLflow's own UI, opened at the table of runs instead of its landing page."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser

from anomaly_sweep.tracking.view import runs_page
from multirun_analysis.errors import AnalysisError
from multirun_analysis.trials.connection import connect, experiment_ids

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 10.0


def show(tracking_uri: str, experiment: str, port: int, *, browser: bool) -> int:
    """Serve the UI until interrupted; a tracking server that runs already is only opened."""
    remote = tracking_uri.startswith(("http://", "https://"))
    if not remote:
        check_port(port)
    experiment_id = experiment_ids(connect(tracking_uri), experiment)[0]
    if remote:
        _open(runs_page(tracking_uri.rstrip("/"), experiment_id), browser)
        return 0
    # A session of its own, so that all of its processes can be ended; its job runners are not needed.
    server = subprocess.Popen(
        server_command(tracking_uri, port),
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        start_new_session=True,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being ended ends the server too
    try:
        _wait_until_up(server, port)
        _open(runs_page(f"http://{HOST}:{port}", experiment_id), browser)
        print("stop with Ctrl-C", flush=True)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(server)


def server_command(tracking_uri: str, port: int) -> list[str]:
    """Command line of an MLflow server on this computer only."""
    where = ["--backend-store-uri", tracking_uri, "--host", HOST, "--port", str(port)]
    return [sys.executable, "-m", "mlflow", "server", *where, "--workers", "1"]


def check_port(port: int) -> None:
    """Refuse a port that something else listens on."""
    with socket.socket() as probe:
        if sys.platform != "win32":  # there it would allow a port that is in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise AnalysisError(
                f"port {port} cannot be used ({error}): choose another with --port"
            ) from error


def _wait_until_up(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise AnalysisError(
                f"mlflow server ended with exit code {server.returncode}: see its output above"
            )
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    raise AnalysisError(f"mlflow server did not answer on port {port} within {START_SECONDS:.0f} s")


def _open(url: str, browser: bool) -> None:
    print(url, flush=True)
    if browser:
        webbrowser.open(url)


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        _signal(server, signal.SIGTERM)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _signal(server, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def _signal(server: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the server and the processes it started."""
    if sys.platform == "win32":
        server.terminate()
    else:
        os.killpg(server.pid, number)
