"""Objects as the API server would hand them out, and a clock that goes on only when everybody waits."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

import hypothesis
import pytest

from integration_operator.settings import OperatorSettings

# A machine that is busy with something else is no defect of what is tested.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

T = TypeVar("T")
Json = dict[str, Any]


def _spec(tenant: str = "acme", secrets: tuple[tuple[str, str], ...] = (("s", "k"),), **more: Any) -> Json:
    return {
        "tenant": tenant,
        "provider": "Webhook",
        "webhook": {
            "url": "https://partner.example/",
            "signing": {"secretsFrom": [{"name": name, "key": key} for name, key in secrets]},
        },
        "routes": [{"name": "all", "events": ["*"]}],
        **more,
    }


def _connection(
    name: str = "crm",
    namespace: str = "team",
    *,
    uid: int = 1,
    generation: int = 1,
    version: int = 1,
    spec: Json | None = None,
    status: Json | None = None,
    **metadata: Any,
) -> Json:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": str(UUID(int=uid)),
            "generation": generation,
            "resourceVersion": str(version),
            **metadata,
        },
        "spec": _spec() if spec is None else spec,
        "status": status or {"observedGeneration": -1},
    }


class _Selector(selectors.DefaultSelector):
    """Waits by moving the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everybody waits for something that will never happen")
        self.now += max(timeout, 0.0)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._own = _Selector()
        super().__init__(self._own)

    def time(self) -> float:
        return self._own.now


def _run_fast(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work())


class LoopTime:
    """Stands in for the module `time`: the clock of the running loop."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., Json]:
    return _spec


@pytest.fixture(scope="session")
def make_body() -> Callable[..., Json]:
    return _connection


@pytest.fixture(scope="session")
def run_fast() -> Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]:
    """Run a coroutine function on a loop whose time passes at once."""
    return _run_fast


@pytest.fixture(scope="session")
def loop_time() -> type[LoopTime]:
    return LoopTime


@pytest.fixture(scope="session")
def settings() -> OperatorSettings:
    return OperatorSettings(
        database_url="postgresql://operator@database/layer",
        worker_image="registry.example/integration-layer:1",
        worker_database="postgresql://database:5432/layer?sslmode=verify-full",
    )
