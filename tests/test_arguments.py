from __future__ import annotations

import pytest

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.arguments import check_arguments


def test_unknown_arguments_are_told_with_the_nearest_known_one() -> None:
    known = ["location", "collection", "timeout"]
    check_arguments("Store", [], known)
    check_arguments("Store", ["timeout"], known)
    with pytest.raises(SettingError, match=r"'colection'; did you mean 'collection'\? There are: collection, location"):
        check_arguments("Store", ["colection"], known)
    with pytest.raises(SettingError, match=r"'url'; give it as location\. There are"):
        check_arguments("Store", ["url"], known, elsewhere={"url": "give it as location."})
    with pytest.raises(SettingError, match=r"no argument 'zzz', nor 'timeuot'; did you mean 'timeout'\?"):
        check_arguments("Store", ["zzz", "timeuot"], known)
