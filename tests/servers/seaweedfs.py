"""A real S3 server on loopback, with authentication: SeaweedFS, all its parts in one process.

`-s3.port` and its neighbours are HTTP; SeaweedFS puts each one's gRPC 10,000 higher.
"""

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.ports import free_port

GRPC_ABOVE = 10_000
PARTS = ("s3", "master", "volume", "filer", "admin")
BUCKET = "runs"
SECONDS_TO_START = 300.0


@dataclass
class SeaweedFS:
    weed: Path  # its program
    folder: Path
    ports: dict[str, int] = field(
        default_factory=lambda: {
            part: free_port(lambda port: port + GRPC_ABOVE, room=GRPC_ABOVE) for part in PARTS
        }
    )
    key: str = "runs-key"
    secret: str = "a-secret-of-runs"
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 reads to find it and to be let in."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(self.folder / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "none"),
        }

    def client(self) -> Any:
        """boto3's own, to look behind what is tested and to do what it never would."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
        )

    def start(self) -> None:
        """Returns when what is written can be read; what an earlier start kept is there."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        actions = ["Read", "Write", "List", "Tagging"]
        credentials = [{"accessKey": self.key, "secretKey": self.secret}]
        identity = {"name": "runs", "credentials": credentials, "actions": actions}
        (self.folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
        with (self.folder / "weed.log").open("ab") as log:
            # what it says goes to a file in /tmp as well, unless told otherwise
            command = [self.weed, "-logtostderr", "mini", *self._flags()]
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        self._wait()

    def kill(self) -> None:
        """Without a chance to put anything in order."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
        for port in self.ports.values():  # sockets that it makes there whatever it is told
            for number in (port, port + GRPC_ABOVE):
                for left in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                    left.unlink()

    def _flags(self) -> list[str]:
        return [
            f"-dir={self.folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *(f"-{part}.port={port}" for part, port in self.ports.items()),
            f"-s3.config={self.folder / 'identities.json'}",
            f"-bucket={BUCKET}",
            "-master.telemetry=false",
            "-admin.ui=false",
            "-webdav=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]

    def _wait(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        client, deadline = self.client(), time.monotonic() + SECONDS_TO_START
        while True:
            try:
                # an object of no bytes asks nothing of the part that keeps them, the last to start
                client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
                client.get_object(Bucket=BUCKET, Key="ready")["Body"].read()
                client.delete_object(Bucket=BUCKET, Key="ready")
                return
            except (BotoCoreError, ClientError) as error:
                assert self.process is not None
                ended = self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    log = (self.folder / "weed.log").read_text()[-2000:]
                    raise RuntimeError(f"SeaweedFS did not start: {error}\n{log}") from None
                time.sleep(0.1)


@contextlib.contextmanager
def running(weed: Path, folder: Path) -> Iterator[SeaweedFS]:
    server = SeaweedFS(weed, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
