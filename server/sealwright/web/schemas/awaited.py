"""What answers say of endorsements that are waited for."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: Null where nothing is waited for.
AwaitedOut = Annotated[
    list[str] | None,
    Field(
        description="names of those for whose endorsement it waits: until then nothing is "
        "signed by it; null: it waits for none"
    ),
]


class NeededEndorsementOut(BaseModel):
    """Why a signing request that is not at its end would not be signed now."""

    model_config = ConfigDict(frozen=True)

    message: str
    advice: str
    by: list[str] = Field(description="names of those who can endorse")
