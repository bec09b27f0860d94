"""What a kill, a stop or a cut connection leaves behind at each point where it could matter, one point at a time."""

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.survival.conftest import until

if TYPE_CHECKING:
    from tests.acceptance.survival.conftest import Bed, Program

pytestmark = pytest.mark.serial
