"""Generate the Python stubs beside every .proto, or check that the committed ones are current."""

import argparse
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent.parent / "protos"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
SERVICE = re.compile(r"^service \w+", re.MULTILINE)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 when --check finds drift."""
    parser = argparse.ArgumentParser(prog="generate-protos", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a stub is not current")
    options = parser.parse_args(arguments)
    expected = generate(PROTOS)
    if options.check:
        return report(drift(PROTOS, expected))
    write(PROTOS, expected)
    print(f"generated {len(expected)} stubs under protos/")
    return 0


def generate(root: Path) -> dict[str, str]:
    """Every stub's text by its path under the root."""
    sources = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.proto"))
    serving = [name for name in sources if SERVICE.search((root / name).read_text(encoding="utf-8"))]
    packages = {name.partition("/")[0] for name in sources}
    with tempfile.TemporaryDirectory() as directory:
        run_protoc(root, ["python", "mypy"], directory, names=sources)
        run_protoc(root, ["grpc_python", "mypy_grpc"], directory, names=serving)
        out = Path(directory)
        return {
            name: in_our_pool(name, in_our_package((out / name).read_text(encoding="utf-8"), packages))
            for name in stub_names(out)
        }


def stub_names(root: Path) -> list[str]:
    """The paths under the root of all stubs that stand there."""
    return sorted(path.relative_to(root).as_posix() for pattern in GENERATED for path in root.rglob(pattern))


def run_protoc(root: Path, plugins: list[str], directory: str, *, names: list[str]) -> None:
    """Let protoc write what the plugins make of the named files."""
    if not names:
        return
    # protoc looks for its plugins on PATH, where a virtual environment need not be.
    plugin_paths = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / f'protoc-gen-{name}'}"
        for name in plugins
        if name.startswith("mypy")
    ]
    well_known = str(resources.files("grpc_tools") / "_proto")
    outputs = [f"--{name}_out={'quiet:' if name.startswith('mypy') else ''}{directory}" for name in plugins]
    status = protoc.main(["protoc", f"-I{root}", f"-I{well_known}", *plugin_paths, *outputs, *names])
    if status != 0:
        raise SystemExit(f"protoc ended with status {status}; its message stands above")


def in_our_package(text: str, packages: set[str]) -> str:
    """The stub with its imports of our own messages written as `protos.…`: protoc knows no Python packages."""
    names = "|".join(sorted(packages))
    return re.sub(rf"^(from|import) ({names})(?=[. ])", r"\1 protos.\2", text, flags=re.MULTILINE)


def in_our_pool(name: str, text: str) -> str:
    """The stub with flagd's messages moved to the pool of protos/flagd/pool.py, which says why."""
    default = "from google.protobuf import descriptor_pool as _descriptor_pool"
    if not name.startswith("flagd/") or default not in text:
        return text
    own = "from protos.flagd import pool as _pool"
    return text.replace(default, own).replace("_descriptor_pool.Default()", "_pool.POOL")


def drift(root: Path, expected: dict[str, str]) -> list[str]:
    """One line for every stub that is missing, out of date, or has no .proto any more."""
    present = set(stub_names(root))
    missing = [f"protos/{name}: missing" for name in expected.keys() - present]
    orphaned = [f"protos/{name}: no .proto makes it" for name in present - expected.keys()]
    changed = [
        f"protos/{name}: differs from what its .proto makes"
        for name in expected.keys() & present
        if (root / name).read_text(encoding="utf-8") != expected[name]
    ]
    return sorted(missing + orphaned + changed)


def report(problems: list[str]) -> int:
    """Print what drifted and what helps; the exit status."""
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print("run scripts/generate-protos and commit what it writes", file=sys.stderr)
    return 1 if problems else 0


def write(root: Path, expected: dict[str, str]) -> None:
    """Put the stubs beside their sources, and take away those that no source makes."""
    for name in set(stub_names(root)) - expected.keys():
        (root / name).unlink()
    for name, text in expected.items():
        (root / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
