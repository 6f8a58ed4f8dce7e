"""The .proto files keep the rules that buf's STANDARD and COMMENTS categories ask for, and the stubs are theirs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

ROOT = Path(__file__).parents[2] / "clientsdk"
FOLDER = "holdfast/v1"
NAMES = sorted(path.name for path in (ROOT / FOLDER).glob("*.proto"))
PASCAL, SNAKE, UPPER = (re.compile(p) for p in (r"([A-Z][a-z0-9]*)+", r"[a-z][a-z0-9]*(_[a-z0-9]+)*", r"[A-Z0-9_]+"))

WELL_KNOWN = {
    "google/protobuf/duration.proto": ".google.protobuf.Duration",
    "google/protobuf/struct.proto": ".google.protobuf.Struct",
    "google/protobuf/timestamp.proto": ".google.protobuf.Timestamp",
}

Path_ = tuple[int, ...]


def protoc(*arguments: str) -> None:
    files = [f"{FOLDER}/{name}" for name in NAMES]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", *arguments, *files], check=True, timeout=30, cwd=ROOT
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FileDescriptorProto]:
    out = tmp_path_factory.mktemp("proto") / "set"
    protoc("--include_source_info", f"--descriptor_set_out={out}")
    found = FileDescriptorSet.FromString(out.read_bytes())
    return {file.name.rpartition("/")[2]: file for file in found.file}


def elements(file: FileDescriptorProto) -> Iterator[tuple[str, Path_]]:
    """Everything that has a name, with its path as in SourceCodeInfo."""
    for at, message in enumerate(file.message_type):
        yield from of_message(message, (4, at))
    for at, enum in enumerate(file.enum_type):
        yield from of_enum(enum, (5, at))
    for at, service in enumerate(file.service):
        yield service.name, (6, at)
        for number, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (6, at, 2, number)


def of_message(message: DescriptorProto, path: Path_) -> Iterator[tuple[str, Path_]]:
    yield message.name, path
    for at, field in enumerate(message.field):
        yield f"{message.name}.{field.name}", (*path, 2, at)
    for at, one in enumerate(written_oneofs(message)):
        yield f"{message.name}.{one}", (*path, 8, at)
    for at, nested in enumerate(message.nested_type):
        yield from of_message(nested, (*path, 3, at))
    for at, enum in enumerate(message.enum_type):
        yield from of_enum(enum, (*path, 4, at))


def written_oneofs(message: DescriptorProto) -> list[str]:
    """Without those that the compiler makes of optional fields, which come last."""
    made = {field.oneof_index for field in message.field if field.proto3_optional}
    return [one.name for at, one in enumerate(message.oneof_decl) if at not in made]


def of_enum(enum: EnumDescriptorProto, path: Path_) -> Iterator[tuple[str, Path_]]:
    yield enum.name, path
    for at, value in enumerate(enum.value):
        yield value.name, (*path, 2, at)


def test_package_version_and_folder_agree(files: dict[str, FileDescriptorProto]) -> None:
    assert len(files) >= 4
    for name, file in files.items():
        assert SNAKE.fullmatch(name.removesuffix(".proto"))
        assert (file.package, file.syntax, file.name) == ("holdfast.v1", "proto3", f"{FOLDER}/{name}")
        text = (ROOT / file.name).read_text()
        assert "import public" not in text
        assert "import weak" not in text


def test_services_and_their_messages_are_named_by_rule(files: dict[str, FileDescriptorProto]) -> None:
    services: list[ServiceDescriptorProto] = [service for file in files.values() for service in file.service]
    assert services
    used: list[str] = []
    for service in services:
        assert PASCAL.fullmatch(service.name)
        assert service.name.endswith("Service")
        for method in service.method:
            assert PASCAL.fullmatch(method.name)
            assert method.input_type == f".holdfast.v1.{method.name}Request"
            assert method.output_type == f".holdfast.v1.{method.name}Response"
            used += [method.input_type, method.output_type]
    assert len(used) == len(set(used))


def test_names_are_spelt_by_rule(files: dict[str, FileDescriptorProto]) -> None:
    for file in files.values():
        for message in file.message_type:
            assert PASCAL.fullmatch(message.name)
            assert not message.nested_type, "nested messages are not needed so far"
            names = [field.name for field in message.field] + written_oneofs(message)
            assert [name for name in names if not SNAKE.fullmatch(name) or name in ("descriptor", "required")] == []


def test_enums_begin_with_zero_unspecified_and_carry_their_names(files: dict[str, FileDescriptorProto]) -> None:
    enums = [enum for file in files.values() for enum in file.enum_type]
    assert enums
    for enum in enums:
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
        assert PASCAL.fullmatch(enum.name)
        assert not enum.options.allow_alias
        assert (enum.value[0].number, enum.value[0].name) == (0, f"{prefix}UNSPECIFIED")
        for value in enum.value:
            assert UPPER.fullmatch(value.name)
            assert value.name.startswith(prefix)


def test_every_element_is_commented(files: dict[str, FileDescriptorProto]) -> None:
    for file in files.values():
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        bare = [name for name, path in elements(file) if not comments.get(path, "").strip()]
        assert bare == [], file.name


def test_every_import_is_used(files: dict[str, FileDescriptorProto]) -> None:
    for file in files.values():
        used = {field.type_name for message in file.message_type for field in message.field}
        for imported in file.dependency:
            known = files.get(imported.rpartition("/")[2])
            if known is None:
                assert WELL_KNOWN[imported] in used
            else:
                names = [message.name for message in known.message_type] + [enum.name for enum in known.enum_type]
                assert used & {f".holdfast.v1.{name}" for name in names}, imported


def test_the_committed_stubs_are_what_the_files_make(tmp_path: Path) -> None:
    protoc(f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", f"--grpc_python_out={tmp_path}")
    committed = sorted((ROOT / FOLDER).glob("*_pb2*"))
    assert len(committed) == 3 * len(NAMES) - 1  # types.proto has no service
    for path in committed:
        assert path.read_text() == (tmp_path / FOLDER / path.name).read_text(), f"run make proto: {path.name}"
