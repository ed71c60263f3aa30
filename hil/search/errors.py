"""munas' exceptions, mapped to hil's in one place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hil.errors import HilError, InfrastructureError, StoreError, UsageError
from munas.errors import DatasetError, MunasError, SearchError, SearchStoreError


@contextlib.contextmanager
def mapped() -> Iterator[None]:
    """Turn what munas raises in the block into UsageError, StoreError or InfrastructureError."""
    try:
        yield
    except HilError:
        raise  # ToolMissing is one of both
    except (DatasetError, SearchError) as error:
        raise UsageError(str(error)) from error
    except SearchStoreError as error:
        raise StoreError(str(error)) from error
    except MunasError as error:
        raise InfrastructureError(str(error)) from error
