"""Credentials are judged by what was read last, with as few requests as will do."""

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from integration_operator.credentials import CredentialReview
from integration_operator.errors import NotFoundError
from integration_operator.names import CREDENTIALS_LABEL, ObjectKey
from integration_operator.world import World

Json = dict[str, Any]
Make = Callable[..., Json]

pytestmark = pytest.mark.anyio
KEY = b"a key"
GOOD = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
TWO = (("one", "k"), ("two", "k"))


class FakeKube:
    """Secrets that can be read one by one; it counts who asks."""

    def __init__(self) -> None:
        self.secrets: dict[str, Json] = {}
        self.read: list[str] = []

    async def get(self, path: str) -> Json:
        name = path.rpartition("/")[2]
        self.read.append(name)
        if name not in self.secrets:
            raise NotFoundError(path)
        return self.secrets[name]


def secret(name: str = "s", value: str = GOOD) -> Json:
    return {
        "metadata": {"name": name, "namespace": "team", "labels": {CREDENTIALS_LABEL: "true"}},
        "data": {"k": base64.b64encode(value.encode()).decode()},
    }


async def pages(*given: Sequence[Json]) -> AsyncIterator[Sequence[Json]]:
    for page in given:
        yield page


class Desk:
    """A world, its API server and a review of what is in it."""

    def __init__(self) -> None:
        self.world = World(KEY, sees_namespaces=False)
        self.kube = FakeKube()
        self.review = CredentialReview(self.kube, self.world, KEY)  # type: ignore[arg-type]

    def sees(self, body: Json, *secrets: Json) -> None:
        list(self.world.see_connection(body))
        for each in secrets:
            list(self.world.see_secret(each))
            self.kube.secrets[each["metadata"]["name"]] = each

    async def problems(self) -> tuple[str, ...]:
        connection = self.world.connections[ObjectKey("team", "crm")]
        return (await self.review.review(connection, afresh=False)).problems


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_what_a_page_told_is_not_read_again(desk: Desk, make_body: Make, make_spec: Make) -> None:
    desk.sees(make_body(spec=make_spec(secrets=TWO)), secret("one"), secret("two", "no signing secret"))
    await desk.review.review_new(pages([secret("one"), secret("two", "no signing secret")]))
    problems = await desk.problems()

    assert len(problems) == 1
    assert desk.kube.read == []


async def test_what_lies_on_several_pages_is_read_one_by_one(desk: Desk, make_body: Make, make_spec: Make) -> None:
    desk.sees(make_body(spec=make_spec(secrets=TWO)), secret("one"), secret("two"))
    await desk.review.review_new(pages([secret("one")], [secret("two")]))
    problems = await desk.problems()

    assert problems == ()
    assert sorted(desk.kube.read) == ["one", "two"]


async def test_a_page_that_is_newer_than_the_watch_is_not_believed(desk: Desk, make_body: Make) -> None:
    desk.sees(make_body(), secret(value="no signing secret"))
    await desk.review.review_new(pages([secret(value=GOOD)]))
    problems = await desk.problems()

    assert len(problems) == 1
    assert desk.kube.read == ["s"]


async def test_what_was_judged_before_is_not_judged_anew(desk: Desk, make_body: Make) -> None:
    desk.sees(make_body(), secret())
    first = await desk.problems()
    await desk.review.review_new(pages([secret()]))
    second = await desk.problems()

    assert first == second == ()
    assert desk.kube.read == ["s"]
