from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rowtrail.sample_data.day_two import apply_day_two
from rowtrail.sample_data.generate import SMALLEST, create_shop
from tests.sample_shop.naive import naive_copy


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    create_shop(path, orders=SMALLEST)
    return path


@pytest.fixture(scope="session")
def second_day(tmp_path_factory: pytest.TempPathFactory, shop: Path) -> Path:
    path = tmp_path_factory.mktemp("second") / "shop.db"
    shutil.copy(shop, path)
    apply_day_two(path)
    return path


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory, shop: Path) -> Path:
    path = tmp_path_factory.mktemp("copy") / "warehouse.duckdb"
    naive_copy(shop, path)
    return path
