"""A pod's volumes as folders, laid out and changed as a real kubelet does it.

The files of a Secret or ConfigMap are in a folder with a time in its name, `..data` is a symbolic link to that folder,
and the names that programs open are links through `..data`. A change makes a new folder and swaps the one link, so a
reader sees all of the old files or all of the new ones.
"""

import secrets
import shutil
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster.kubelet.api import Api, Object
from tests.cluster.kubelet.environment import field_value

READABLE = 0o644


class NotYetError(Exception):
    """Something that a pod refers to does not exist yet; the pod waits for it."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a volume."""

    content: bytes
    mode: int


Files = dict[str, File]


class Volumes:
    """The volumes of one pod."""

    def __init__(self, api: Api, folder: Path, pod_ip: str) -> None:
        self._api = api
        self._folder = folder
        self._pod_ip = pod_ip
        self._written: dict[str, Files] = {}
        self._tokens: dict[str, str] = {}

    def folder(self, volume: str) -> Path:
        """Return the real folder of a volume."""
        return self._folder / volume

    async def sync(self, pod: Object) -> None:
        """Bring all volumes up to date; raises NotYetError where something must exist and does not."""
        for volume in pod["spec"].get("volumes", ()):
            name = volume["name"]
            if "emptyDir" in volume:
                self.folder(name).mkdir(parents=True, exist_ok=True)
                continue
            files = await self._files(pod, volume)
            if self._written.get(name) != files:
                lay_out(self.folder(name), files)
                self._written[name] = files

    async def _files(self, pod: Object, volume: Object) -> Files:
        if "projected" in volume:
            projected = volume["projected"]
            mode = projected.get("defaultMode", READABLE)
            files: Files = {}
            for source in projected.get("sources", ()):
                files |= await self._source(pod, source, mode)
            return files
        (kind,) = volume.keys() & {"secret", "configMap"}
        source = volume[kind]
        named = source | {"name": source.get("secretName", source.get("name"))}
        return await self._source(pod, {kind: named}, source.get("defaultMode", READABLE))

    async def _source(self, pod: Object, source: Object, mode: int) -> Files:
        ((kind, wanted),) = source.items()
        match kind:
            case "secret" | "configMap":
                return await self._keys_of(pod, kind, wanted, mode)
            case "downwardAPI":
                return {
                    item["path"]: File(
                        field_value(pod, item["fieldRef"]["fieldPath"], self._pod_ip).encode(), item.get("mode", mode)
                    )
                    for item in wanted["items"]
                }
            case _:
                return {wanted["path"]: File((await self._token(pod, wanted)).encode(), mode)}

    async def _keys_of(self, pod: Object, kind: str, wanted: Object, mode: int) -> Files:
        data = await read_data(self._api, pod, kind, wanted["name"])
        optional = wanted.get("optional", False)
        if data is None:
            if optional:
                return {}
            raise NotYetError(f'{kind} "{wanted["name"]}" not found')
        if "items" not in wanted:
            return {key: File(value, mode) for key, value in data.items()}
        files: Files = {}
        for item in wanted["items"]:
            if item["key"] in data:
                files[item["path"]] = File(data[item["key"]], item.get("mode", mode))
            elif not optional:
                raise NotYetError(f'{kind} "{wanted["name"]}" has no key "{item["key"]}"')
        return files

    async def _token(self, pod: Object, wanted: Object) -> str:
        """Return a service account's token; the same one each time, for its hour outlasts every test."""
        audience = wanted.get("audience", "")
        if audience not in self._tokens:
            self._tokens[audience] = await pod_token(self._api, pod, audience)
        return self._tokens[audience]


async def read_data(api: Api, pod: Object, kind: str, name: str) -> dict[str, bytes] | None:
    """Read all keys of a Secret or ConfigMap in the pod's namespace."""
    plural = {"secret": "secrets", "configMap": "configmaps"}[kind]
    found = await api.get(f"/api/v1/namespaces/{pod['metadata']['namespace']}/{plural}/{name}")
    if found is None:
        return None
    encoded: dict[str, str] = (found.get("binaryData") if kind == "configMap" else found.get("data")) or {}
    plain: dict[str, str] = (found.get("data") if kind == "configMap" else None) or {}
    return {key: b64decode(value) for key, value in encoded.items()} | {
        key: value.encode() for key, value in plain.items()
    }


async def pod_token(api: Api, pod: Object, audience: str = "") -> str:
    """Ask for a token of the pod's service account that is valid as long as the pod exists, an hour at most."""
    spec: dict[str, Any] = {
        "expirationSeconds": 3600,
        "boundObjectRef": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        },
    }
    if audience:
        spec["audiences"] = [audience]
    return await api.token(pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"], spec)


def lay_out(folder: Path, files: Files) -> None:
    """Make a folder show these files, and no others, from one moment to the next."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "..data"
    former = data.readlink() if data.is_symlink() else None
    fresh = folder / f"..{datetime.now(UTC):%Y_%m_%d_%H_%M_%S}.{secrets.randbelow(10**9)}"
    fresh.mkdir()
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)
    link = folder / "..data_tmp"
    link.symlink_to(fresh.name)
    link.replace(data)
    _renew_names(folder, {Path(path).parts[0] for path in files})
    if former is not None:
        shutil.rmtree(folder / former)


def _renew_names(folder: Path, names: set[str]) -> None:
    present = {name for name in (entry.name for entry in folder.iterdir()) if not name.startswith("..")}
    for name in names - present:
        (folder / name).symlink_to(Path("..data") / name)
    for name in present - names:
        (folder / name).unlink()
