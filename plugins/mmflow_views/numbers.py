"""Numbers that the fields of transforms share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Number = Annotated[float, Field(ge=-1e6, le=1e6)]
"""A number of any sign that no real setting exceeds."""
