"""W&B where there is no key, no network, a server that hangs or one that refuses: the run is kept offline."""

import http.server
import json
import socket
import threading
import time

import pytest
import wandb
from command import TINY, train_here
from forked import train, train_py
from wandb_files import Run

from meta_hamiltonian.jobs import tracking

pytestmark = pytest.mark.slow

KEY = "fedcba9876543210fedcba9876543210fedcba98"


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers every question with 401, as W&B does to a key that it does not know."""

    def do_POST(self):
        body = json.dumps({"errors": [{"message": "user is not logged in"}], "data": {"viewer": None}}).encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *args):
        """The test's output stays clean."""


@pytest.fixture
def refusing():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Taking(Refusing):
    """As much of W&B's server as a run needs to be online."""

    def do_POST(self):
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        answer = {}
        if "upsertBucket" in asked:
            given = json.loads(asked)["variables"]
            project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "b", "name": given["name"], "displayName": "run", "config": "{}", "project": project}
            answer = {"upsertBucket": {"bucket": bucket, "inserted": True}}
        elif "viewer" in asked:
            viewer = {"id": "1", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
            answer = {"viewer": viewer, "serverInfo": {"features": []}}
        elif "serverInfo" in asked:
            answer = {"serverInfo": {"features": []}}
        elif "esume" in asked:
            answer = {"model": {"id": "p", "name": "p", "entity": {"id": "e", "name": "me"}, "bucket": None}}
        body = json.dumps({"data": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815


def impatient():
    """`train.py`, which for a server that is gone waits for two seconds instead of half a minute, and on a busy
    machine for the answer of one that is there as long as it takes.
    """
    tracking._SECONDS_TO_FINISH, tracking._SECONDS_FOR_AN_ANSWER = 2.0, 60.0
    train_py()


def test_a_server_that_is_lost_on_the_way_costs_nothing(tmp_path):
    """It answers until the training has begun, and then is gone."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def lose():
        while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.1)
        server.shutdown()
        server.server_close()

    threading.Thread(target=lose, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    long = ("trainer.max_steps=60", "trainer.val_check_interval=20")
    done = tiny(train, tmp_path, *long, program=impatient, WANDB_BASE_URL=url, WANDB_API_KEY=KEY)
    assert done.code == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("W&B:")]
    assert lines[0] == f"W&B: {url}/me/meta-hamiltonian/runs/{(tmp_path / 'run' / 'wandb' / 'id').read_text()}"
    assert "upload it with `wandb sync" in lines[1]
    assert "The table results is not in W&B, but in the folder alone: the server does not answer" in done.stdout
    assert (tmp_path / "run" / "results.csv").exists()
    assert "test/k5/step5/field_mse" in Run(tmp_path / "run").last


@pytest.fixture
def hanging():
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def tiny(start, folder, *arguments, **more):
    return start(folder / "home", *TINY, "shots=5", f"hydra.run.dir={folder / 'run'}", *arguments, **more)


@pytest.fixture
def anew():
    """Runs that know nothing of earlier ones in this process, in which W&B keeps its settings and so do we."""

    def forget():
        wandb.teardown()
        tracking._problem_with_server.cache_clear()

    forget()
    yield train_here
    forget()


@pytest.mark.parametrize("server", ["refusing", "hanging"])
def test_a_run_goes_on_offline_where_no_server_takes_the_key(server, anew, request, tmp_path):
    url = request.getfixturevalue(server)
    start = anew if server == "refusing" else train  # one that hangs is still asked when the run is over
    done = tiny(start, tmp_path, WANDB_BASE_URL=url, WANDB_API_KEY=KEY)
    assert done.code == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("W&B:")]
    assert "offline (" in line, "and it is said why"
    tracked = Run(tmp_path / "run")
    assert "test/k5/step5/field_mse" in tracked.last
    assert tracked.closed
    assert KEY not in done.stdout + done.stderr
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert KEY.encode() not in path.read_bytes(), path


def test_without_a_key_a_run_is_offline_and_says_how_to_see_it(anew, tmp_path):
    done = tiny(anew, tmp_path)
    assert done.code == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("W&B:")]
    assert "offline (no key is configured)" in line
    assert "wandb leet" in line
    assert "wandb sync" in line


def test_online_without_a_key_is_refused(anew, tmp_path):
    done = tiny(anew, tmp_path, "logger.mode=online")
    assert done.code == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: logger.mode=online is not allowed without a W&B key")


def test_a_mode_in_the_environment_is_kept_to(anew, tmp_path):
    done = tiny(anew, tmp_path, WANDB_MODE="disabled")
    assert done.code == 0, done.stderr
    assert "W&B: disabled" in done.stdout
    assert not list((tmp_path / "run").glob("wandb/*run-*/*.wandb"))
