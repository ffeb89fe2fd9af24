"""Functions that bring their own process, deployed from a few files."""

from __future__ import annotations

from collections.abc import Mapping

from tailrace.build.bundle import Process, pack_folder
from tests.kit.gateway import Town


def deploy_process(
    town: Town, name: str, files: Mapping[str, str], process: Process, **more: object
) -> dict[str, object]:
    """Deploy it; its status once it is ready or has failed."""
    folder = town.work / name
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
        (folder / path).chmod(0o755)
    bundle = pack_folder(folder, lang="own", limit_bytes=1 << 20, process=process)
    image = f"{name}:latest"
    with town.http() as http:
        http.put(
            f"/system/bundles/{bundle.digest}", params={"image": image}, content=bundle.data
        ).raise_for_status()
        body = {"service": name, "image": image, **more}
        reply = http.put("/system/functions", json=body)
        if reply.status_code == 404:
            reply = http.post("/system/functions", json=body)
        assert reply.status_code == 202, reply.text
        params = {"wait": "55", "revision": reply.headers["x-tailrace-revision"]}
        found: dict[str, object] = http.get(f"/system/function/{name}", params=params).json()
        return found
