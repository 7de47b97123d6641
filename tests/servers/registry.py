"""A real registry on loopback with TLS, Debian's docker-registry; and tiny images for it."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS_TO_START = 300.0
USER, PASSWORD = "me", "sesame"
_HASH = "$2b$04$MdKS3hHU3vLv9Q850UoNuORNNbgoEx/xZWVLNUkbEfkQpDA45iVqq"  # bcrypt of PASSWORD
_OCI = "application/vnd.oci.image"


@dataclass
class Registry:
    folder: Path
    port: int
    is_private: bool

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """With which skopeo and podman trust it, and keep logins and settings in its folder."""
        return {
            "SSL_CERT_FILE": str(self.folder / "cert.pem"),
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder),
        }

    def put(self, named: str, *images: Mapping[str, Any]) -> str:
        """Push it as NAME:TAG: one image, or a list of several by their `architecture`. Returns its
        reference here."""
        layout = self.folder / "layout"
        _lay_out(layout, images)
        login = ["--dest-creds", f"{USER}:{PASSWORD}"] if self.is_private else []
        reference = f"{self.host}/{named}"
        whole = ["skopeo", "--insecure-policy", "copy", "--all", "--quiet", *login]
        subprocess.run(
            [*whole, f"oci:{layout}", f"docker://{reference}"],
            env=os.environ | self.environment,
            check=True,
            capture_output=True,
        )
        return reference


@contextlib.contextmanager
def running(folder: Path, *, is_private: bool = False) -> Iterator[Registry]:
    """It answers until the block is left; a private one lets USER in, with PASSWORD."""
    folder.mkdir(parents=True, exist_ok=True)
    key, certificate = folder / "key.pem", folder / "cert.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    names = ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-nodes", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*new, *names, *files], check=True, capture_output=True)
    (folder / "htpasswd").write_text(f"{USER}:{_HASH}\n")
    access = {"auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}}
    settings = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {
            "addr": "127.0.0.1:0",
            "tls": {"certificate": str(certificate), "key": str(key)},
        },
        **(access if is_private else {}),
    }
    (folder / "registry.yml").write_text(json.dumps(settings))
    log = folder / "registry.log"
    with log.open("wb") as out:
        serve = ["docker-registry", "serve", str(folder / "registry.yml")]
        process = subprocess.Popen(serve, stdout=out, stderr=out)
    try:
        yield Registry(folder, _port(log, process), is_private)
    finally:
        process.kill()  # nobody needs what it keeps
        process.wait()


def _port(log: Path, process: "subprocess.Popen[bytes]") -> int:
    """As it says itself."""
    deadline = time.monotonic() + SECONDS_TO_START
    while (found := re.search(r"listening on [^\s,]*:(\d+)", log.read_text())) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return int(found[1])


def _lay_out(layout: Path, images: tuple[Mapping[str, Any], ...]) -> None:
    """An OCI image layout (image-spec 1.1) of images with one empty layer each."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def blob(content: bytes, media: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}

    def document(fields: Mapping[str, Any], media: str) -> dict[str, Any]:
        return blob(json.dumps(fields).encode(), media)

    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    layer = blob(gzip.compress(empty.getvalue(), mtime=0), f"{_OCI}.layer.v1.tar+gzip")
    difference = f"sha256:{hashlib.sha256(empty.getvalue()).hexdigest()}"
    listed = []
    for image in images:
        platform = {"os": "linux", "architecture": image["architecture"]}
        config = {
            **platform,
            "config": {"Labels": image.get("labels"), "Entrypoint": image.get("entrypoint")},
            "rootfs": {"type": "layers", "diff_ids": [difference]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": document(config, f"{_OCI}.config.v1+json"),
            "layers": [layer],
        }
        listed.append(document(manifest, manifest["mediaType"]) | {"platform": platform})
    top = {"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": listed}
    if len(listed) > 1:
        top = top | {"manifests": [document(top, top["mediaType"])]}
    (layout / "index.json").write_text(json.dumps(top))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
